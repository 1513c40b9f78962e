"""The supervisor's end of one request to a runner: what came of it so far, and what comes next."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from . import frames
from .errors import EngineError
from .interface import never
from .refusals import decode_refusal
from .request import Delta

# Tokenising is all that stands between a request and its acceptance.
ACCEPT_TIMEOUT_S = 120.0
# A call may stand behind other work of the engine, such as ten thousand texts to embed.
CALL_TIMEOUT_S = 3600.0
# How often somebody who waits for a call is asked whether it is still wanted.
_LOOK_S = 0.25


class Streams(Protocol):
    """The runner that a stream belongs to."""

    name: str

    def cancel(self, key: int) -> None:
        """End a request."""


class Stream:
    """Messages for one request; implements what `interface.GenerationStream` needs of a process."""

    __slots__ = ("_messages", "_over", "_runner", "is_accepted", "key", "on_end")

    def __init__(self, runner: Streams, key: int, on_end: Callable[[], None]) -> None:
        self._runner = runner
        self.key = key
        self.on_end = on_end
        self.is_accepted = False
        self._messages: queue.SimpleQueue[Delta | frames.Message | EngineError] = (
            queue.SimpleQueue()
        )
        self._over = False

    def put(self, message: Delta | frames.Message | EngineError) -> None:
        """Hand over a message; the process's reader thread calls this."""
        self._messages.put(message)

    def wait_accepted(self) -> None:
        """Wait until the runner took the request.

        Raises:
            EngineError: it did not.
        """
        message = self._next(ACCEPT_TIMEOUT_S)
        if isinstance(message, dict):
            _raise_refusal(message)

    def wait_result(self, gone: Callable[[], bool]) -> Any:
        """The answer to a `call`, which is cancelled when nobody waits for it any more.

        Raises:
            EngineError: it was refused, or failed, or was cancelled.
        """
        message = self._next(CALL_TIMEOUT_S, gone)
        assert isinstance(message, dict)
        _raise_refusal(message)
        return message["value"]

    def poll(self, timeout_s: float) -> Delta | None:
        """See `interface.GenerationStream.poll`."""
        if self._over:
            raise StopIteration
        try:
            message = self._messages.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(message, EngineError):
            self._over = True
            raise message
        assert isinstance(message, Delta)
        self._over = message.finish is not None
        return message

    def __iter__(self) -> Iterator[Delta]:
        while not self._over:
            delta = self.poll(60.0)
            if delta is not None:
                yield delta

    def cancel(self) -> None:
        """See `interface.GenerationStream.cancel`."""
        self._runner.cancel(self.key)

    def _next(self, timeout_s: float, gone: Callable[[], bool] = never) -> Delta | frames.Message:
        end = time.monotonic() + timeout_s
        message: Delta | frames.Message | EngineError | None = None
        while message is None:
            try:
                message = self._messages.get(timeout=_LOOK_S)
            except queue.Empty:
                is_late = time.monotonic() > end
                if is_late or gone():
                    self.cancel()
                if is_late:
                    raise EngineError(f"{self._runner.name} does not answer") from None
        if isinstance(message, EngineError):
            self._over = True
            raise message
        return message


def _raise_refusal(message: frames.Message) -> None:
    if message["op"] == "refused":
        raise decode_refusal(message)
