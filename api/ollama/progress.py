"""Long operations (pull, push, create) as streams of Ollama's progress objects.

The operation runs in a thread of its own and puts what it has to say on a queue. Where the client
goes away, the operation is told to stop at its next event and raises `Cancelled`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from flask import Response, jsonify

from pannier.pkgmgr.descriptor import Descriptor
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import Cancelled
from pannier.pkgmgr.transfer.events import (
    Advanced,
    Event,
    Finished,
    OnEvent,
    Skipped,
    Started,
)

from ..errors import failure_of
from ..gateway import ClientGone
from ..streaming import ndjson

# Ollama reports about 16 times a second; SDKs draw a bar from every object.
_INTERVAL_S = 0.06
_POLL_S = 0.25
# Clients cut a name for their bar out of it.
_NO_DIGEST = "0" * 19


class Status(Protocol):
    """Says a status, with how far it has come where that is known."""

    def __call__(self, status: str, completed: int = 0, total: int = 0) -> None:
        """Say it; raises `Cancelled` where nobody listens any more."""


Operation = Callable[[OnEvent, Status], object]
_Line = Mapping[str, Any]


def progress_response(
    operation: Operation, *, verb: str, stream: bool, gone: Callable[[], bool]
) -> Response:
    """Run an operation and answer with its progress, or with its last word alone.

    Args:
        operation: gets a watcher of transfer events and a way to say a status.
        verb: what a blob's status begins with: `pulling`, `pushing`.
        stream: whether the client wants all of it.
        gone: whether the client has gone away.
    """
    work = _Work(operation, verb, gone)
    work.start()
    if stream:
        return ndjson(work.lines(), fault=_fault, close=work.abandon)
    try:
        *_, last = work.lines()
    finally:
        work.abandon()
    return jsonify(last)


def _fault(error: BaseException) -> _Line:
    return {"error": failure_of(error).message}


class _Work:
    """One operation in its thread; `lines` is for the request's thread."""

    def __init__(self, operation: Operation, verb: str, gone: Callable[[], bool]) -> None:
        self._operation = operation
        self._verb = verb
        self._gone = gone
        self._lines: queue.SimpleQueue[_Line | BaseException | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._done: dict[Digest, int] = {}
        self._said: dict[Digest, float] = {}

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name=f"pannier-{self._verb}", daemon=True).start()

    def lines(self) -> Iterator[_Line]:
        """Everything it says, to the end.

        Raises:
            ClientGone: where nobody listens any more; the operation is told to stop.
        """
        while True:
            try:
                line = self._lines.get(timeout=_POLL_S)
            except queue.Empty:
                if self._gone():
                    self.abandon()
                    raise ClientGone("the client closed the connection") from None
                continue
            if isinstance(line, BaseException):
                raise line
            if line is None:
                return
            yield line

    def abandon(self) -> None:
        """Have the operation stop at its next event, if it has not ended."""
        self._stop.set()

    def _run(self) -> None:
        try:
            self._operation(self._on_event, self._say)
            self._lines.put(None)
        except BaseException as error:  # handed to the request's thread, which logs it
            self._lines.put(error)

    def _say(self, status: str, completed: int = 0, total: int = 0) -> None:
        if self._stop.is_set():
            raise Cancelled
        counts = {"digest": _NO_DIGEST, "total": total, "completed": completed} if total else {}
        self._lines.put({"status": status, **counts})

    def _on_event(self, event: Event) -> None:
        if self._stop.is_set():
            raise Cancelled
        with self._lock:
            match event:
                case Started(item, resumed):
                    self._report(item, resumed, always=True)
                case Advanced(item, count):
                    self._report(item, self._done.get(item.digest, 0) + count)
                case Skipped(item) | Finished(item):
                    self._report(item, item.size, always=True)
                case _:
                    pass

    def _report(self, item: Descriptor, done: int, *, always: bool = False) -> None:
        self._done[item.digest] = done
        now = time.monotonic()
        if not always and now < self._said.get(item.digest, 0.0) + _INTERVAL_S:
            return
        self._said[item.digest] = now
        line: dict[str, Any] = {
            "status": f"{self._verb} {item.digest.short}",
            "digest": str(item.digest),
            "total": item.size,
        }
        self._lines.put(line | ({"completed": done} if done else {}))
