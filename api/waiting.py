"""Work that may take long, such as loading a model, for a caller that may go away meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar, cast

from pannier.runtime.errors import DeadlinePassed
from pannier.runtime.interface import never

from .gateway import ClientGone

# How often a caller that waits for a token is asked whether it is still there.
POLL_S = 0.05

Gone = Callable[[], bool]
_Result = TypeVar("_Result")


def before(deadline: float | None, gone: Gone) -> Gone:
    """A caller that goes away, or whose deadline (on the monotonic clock) passes.

    Asking it raises `DeadlinePassed` from then on.
    """
    if deadline is None:
        return gone

    def gone_or_late() -> bool:
        if time.monotonic() > deadline:
            raise DeadlinePassed("the request's deadline has passed")
        return gone()

    return gone_or_late


def check(gone: Gone) -> None:
    """Go on only for a caller that is still there.

    Raises:
        ClientGone, DeadlinePassed: where it is not, or waits no longer.
    """
    if gone():
        raise ClientGone("the client closed the connection")


def unless_gone(
    gone: Gone, work: Callable[[], _Result], undo: Callable[[_Result], object] = lambda late: None
) -> _Result:
    """Do something that may take long, such as loading, for a caller that may go away.

    Where the caller does go away, or has set a deadline that passes, `ClientGone` or
    `DeadlinePassed` is raised at once; the work then goes on in its thread, and what comes out of
    it is undone.
    """
    if gone is never:
        return work()
    outcome = _Outcome[_Result](work, undo)
    thread = threading.Thread(target=outcome.run, name="pannier-start", daemon=True)
    thread.start()
    while not outcome.done.wait(POLL_S):
        try:
            check(gone)
        except (ClientGone, DeadlinePassed):
            if outcome.abandon():
                raise
    return outcome.take()


class _Outcome(Generic[_Result]):
    """What a piece of work came to, for whoever waits for it; or for nobody."""

    def __init__(self, work: Callable[[], _Result], undo: Callable[[_Result], object]) -> None:
        self._work = work
        self._undo = undo
        self._lock = threading.Lock()
        self._abandoned = False
        self._result: _Result | None = None
        self._error: BaseException | None = None
        self.done = threading.Event()

    def run(self) -> None:
        """Do the work; the outermost frame of its thread."""
        try:
            result = self._work()
        except BaseException as error:
            self._error = error
            self.done.set()
            return
        with self._lock:
            self._result = result
            self.done.set()
            if self._abandoned:
                self._undo(result)

    def abandon(self) -> bool:
        """Say that nobody waits any more; False where the work is done already."""
        with self._lock:
            self._abandoned = not self.done.is_set()
            return self._abandoned

    def take(self) -> _Result:
        """The result; raises what the work raised."""
        if self._error is not None:
            raise self._error
        return cast(_Result, self._result)  # set before `done`
