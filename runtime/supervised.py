"""What a caller of the supervisor holds in its hand: a stream that belongs to a loaded model."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .interface import LoadedModel
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
