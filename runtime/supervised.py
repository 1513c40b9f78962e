"""What a caller of the supervisor holds in its hand: a stream that belongs to a loaded model."""

from __future__ import annotations

import base64
from array import array
from collections.abc import Callable, Iterator

from .frames import Message
from .interface import Embeddings, LoadedModel
from .request import Delta
from .stream import Stream


class SupervisedStream:
    """Implements `interface.GenerationStream`."""

    __slots__ = ("_stream", "model", "poll")

    def __init__(self, stream: Stream, model: LoadedModel) -> None:
        self._stream = stream
        self.model = model
        self.poll = stream.poll

    def __iter__(self) -> Iterator[Delta]:
        return iter(self._stream)

    def cancel(self) -> None:
        """See `interface.GenerationStream.cancel`."""
        self._stream.cancel()


def embeddings_of(value: Message, model: LoadedModel) -> Embeddings:
    """Rows out of a runner's answer, which has them as 32-bit floats one after the other."""
    values, width = array("f", base64.b64decode(value["vectors"])), value["width"]
    rows = [values[at : at + width].tolist() for at in range(0, len(values), width)]
    return Embeddings(rows, value["tokens"], model, value["truncated"])


class Once:
    """An action that is done on the first call, whichever thread that comes from."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._actions = [action]

    def __call__(self) -> None:
        """Do it, unless it was done."""
        try:
            action = self._actions.pop()
        except IndexError:
            return
        action()
