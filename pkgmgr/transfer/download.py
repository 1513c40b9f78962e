"""Receiving one large blob: by ranges over several connections where that helps, else in a stream.

Connections are added while the registry sends slowly and adding them makes it faster. What has
arrived is never asked for again; a broken range goes on where it broke.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, runtime_checkable

from ..descriptor import Descriptor
from ..errors import Cancelled, NetworkError, SizeMismatch, TransferError
from ..store.partial import Partial
from .content import Reader, Source
from .events import Advanced, OnEvent, Retried
from .retry import RetryPolicy, Stop

# Connections for one blob. Ollama opens sixteen to the same registries and their storage.
MAX_CONNECTIONS = 12
# How often it is asked whether one more connection would help, and what "it did" means.
_TICK_S = 0.25
_GAIN = 1.15
# Bytes per second beyond which hashing and the disk are the limit, not the connection.
_FAST = 400e6
# A connection slower than this may be limited by its other end, so that more of them help.
_SLOW = 50e6
_PAUSE_TICKS = 8
# One request fetches what a connection brings in about a second, within these bounds.
_FIRST_SEGMENT = 16 << 20
_MIN_SEGMENT = 4 << 20
_MAX_SEGMENT = 64 << 20
_READ = 256 << 10
# A try that brought this much was worth it: the count of failures starts anew.
_PROGRESS = 1 << 20


class Opened(NamedTuple):
    """An answer to a request for a range; `whole` where the blob comes from byte 0 instead."""

    content: Reader
    whole: bool


@runtime_checkable
class Ranged(Source, Protocol):
    """A source that may give single ranges of a blob, over connections that can break."""

    @property
    def retry(self) -> RetryPolicy:
        """What to do about broken ones."""

    @property
    def stop(self) -> Stop:
        """The wish to end."""

    def fetch_range(
        self, descriptor: Descriptor, start: int, stop: int
    ) -> AbstractContextManager[Opened]:
        """Open bytes `start` to `stop` of a blob, unverified."""


class Download:
    """One blob on its way from a registry; `run` returns when every byte is in."""

    def __init__(
        self,
        source: Ranged,
        descriptor: Descriptor,
        partial: Partial,
        *,
        on_event: OnEvent,
        connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._source = source
        self._descriptor = descriptor
        self._partial = partial
        self._on_event = on_event
        self._connections = connections
        self._lock = threading.Lock()
        self._todo = partial.missing()
        self._received = 0
        self._streaming = False
        self._stream_failures = 0
        self._failed: list[BaseException] = []
        self._done = threading.Event()
        self._running = 0

    def run(self) -> None:
        """Fetch everything that is missing.

        Raises:
            TransferError: where the registry fails for good; what arrived is kept.
        """
        threads: list[threading.Thread] = []
        try:
            self._start(threads, 1)
            self._watch(threads)
        except BaseException:
            self._give_up(Cancelled())
            raise
        finally:
            for thread in threads:
                thread.join()
        if self._failed:
            raise next((e for e in self._failed if not isinstance(e, Cancelled)), self._failed[0])

    def _watch(self, threads: list[threading.Thread]) -> None:
        """Add connections for as long as that makes it faster."""
        before, best, pause = 0, 0.0, 0
        while not self._done.wait(_TICK_S):
            with self._lock:
                received, running = self._received, self._running
            rate, before = (received - before) / _TICK_S, received
            room = self._connections - running
            if rate == 0 or rate >= _FAST or room <= 0 or self._streaming:
                continue
            if pause > 0:
                pause -= 1
            elif rate > best * _GAIN:
                best = rate
                self._start(threads, min(running, room))
            elif rate / running < _SLOW:
                # Noise may have hidden a gain: ask again later, from here.
                best, pause = 0.0, _PAUSE_TICKS
            else:
                pause = sys.maxsize

    def _start(self, threads: list[threading.Thread], count: int) -> None:
        with self._lock:
            self._running += count
        for _ in range(count):
            threads.append(threading.Thread(target=self._work, name="pannier-range", daemon=True))
            threads[-1].start()

    def _work(self) -> None:
        try:
            size = _FIRST_SEGMENT
            while (segment := self._take(size)) is not None:
                begun = time.monotonic()
                self._fetch(*segment)
                speed = (segment[1] - segment[0]) / max(time.monotonic() - begun, 1e-3)
                size = int(min(max(speed, _MIN_SEGMENT), _MAX_SEGMENT))
        except _GaveUp as given_up:
            self._give_up(given_up.error)
        except BaseException as error:
            # A thread's outermost frame; `run` raises it.
            self._give_up(error)
        finally:
            with self._lock:
                self._running -= 1
                if self._running == 0:
                    self._done.set()

    def _give_up(self, error: BaseException) -> None:
        with self._lock:
            self._failed.append(error)
            self._todo.clear()

    def _take(self, size: int) -> tuple[int, int] | None:
        """The next range to fetch; towards the end smaller ones, so that all end together."""
        with self._lock:
            if not self._todo or self._streaming:
                return None
            start, stop = self._todo.pop(0)
            if self._running > 1:
                left = sum(end - begin for begin, end in self._todo) + stop - start
                size = max(min(size, left // (2 * self._running)), _MIN_SEGMENT)
            if stop - start > size + _MIN_SEGMENT:
                self._todo.insert(0, (start + size, stop))
                stop = start + size
            return start, stop

    def _fetch(self, start: int, stop: int) -> None:
        """Receive one range, over as many tries as the retry policy allows."""
        failures = 0
        while start < stop:
            before = start
            try:
                with self._source.fetch_range(self._descriptor, start, stop) as opened:
                    if opened.whole:
                        self._take_stream(opened.content)
                        return
                    start = self._receive(opened.content, start, stop)
            except TransferError as error:
                if isinstance(error, _Broken):
                    start = error.position
                failures = 1 if start - before >= _PROGRESS else failures + 1
                self._pause(error, failures)

    def _receive(self, content: Reader, start: int, stop: int) -> int:
        with self._partial.writer(start) as writer:
            while writer.position < stop:
                try:
                    data = self._read(content, stop - writer.position)
                except TransferError as error:
                    raise _Broken(error, writer.position) from error
                self._write(writer.write, data)
            return writer.position

    def _take_stream(self, content: Reader) -> None:
        """Take a whole blob from byte 0 where ranges are ignored; one thread does it for all."""
        with self._lock:
            if self._streaming:
                return
            self._streaming = True
            self._todo.clear()
            before = self._received
        try:
            self._receive_all(content)
        except TransferError as error:
            with self._lock:
                grown = self._received - before >= _PROGRESS
                self._stream_failures = 1 if grown else self._stream_failures + 1
            try:
                self._pause(error, self._stream_failures)
            except TransferError as final:
                raise _GaveUp(final) from error
            with self._lock:
                self._streaming = False
                self._todo = self._partial.missing()

    def _receive_all(self, content: Reader) -> None:
        position = 0
        for start, stop in self._partial.missing():
            while position < start:
                position += len(self._read(content, start - position))
            with self._partial.writer(start) as writer:
                while writer.position < stop:
                    self._write(writer.write, self._read(content, stop - writer.position))
            position = stop
        if position == self._descriptor.size and content.read(1):
            raise SizeMismatch(
                str(self._descriptor.digest), position, position + 1, place=self._source.place
            )

    def _read(self, content: Reader, size: int) -> bytes:
        data = content.read(min(_READ, size))
        if not data:
            raise NetworkError(f"{self._source.place} ended in mid-stream")
        return data

    def _write(self, write: Callable[[bytes], None], data: bytes) -> None:
        write(data)
        with self._lock:
            self._received += len(data)
            failed = bool(self._failed)
        if failed:
            raise Cancelled
        self._on_event(Advanced(self._descriptor, len(data)))

    def _pause(self, error: TransferError, failures: int) -> None:
        wait_s = self._source.retry.wait_s(error, failures)
        if wait_s is None:
            raise error.__cause__ if isinstance(error, _Broken) and error.__cause__ else error
        self._on_event(Retried(self._descriptor, error.message, wait_s))
        self._source.stop.wait(wait_s)


class _Broken(TransferError):
    """A range that broke off at `position`; otherwise like its reason."""

    def __init__(self, error: TransferError, position: int) -> None:
        super().__init__(error.message, place=error.place, hint=error.hint)
        self.temporary = error.temporary
        self.position = position


class _GaveUp(Exception):
    """A stream that was tried often enough, with the reason."""

    def __init__(self, error: TransferError) -> None:
        super().__init__(str(error))
        self.error = error
