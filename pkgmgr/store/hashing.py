"""Hashing beside other work: hashlib gives up the interpreter lock, so a second core can do it."""

from __future__ import annotations

import mmap
import threading
from collections import deque
from types import TracebackType
from typing import Self

from ..digest import HashState

# Bytes that may wait to be hashed; the writer blocks beyond it, so memory stays bounded.
MAX_WAITING = 8 << 20
# The first bytes are hashed at once: for small blobs a thread costs more than it hides.
_INLINE = 1 << 20
# A mapped window of a file that follows its writer: small enough to count for little in RSS.
_WINDOW = 16 << 20

# A piece to hash: bytes, or a range (fd, begin, end) of a file that is already written.
_Piece = bytes | tuple[int, int, int]


class BackgroundHash:
    """A hash state that a thread of its own feeds; one thread may call `update`.

    Use as a context manager: leaving it ends the thread, whatever happened.
    """

    def __init__(self, state: HashState) -> None:
        self._state = state
        self._pieces: deque[_Piece] = deque()
        self._waiting = 0
        self._inline = 0
        self._closed = False
        self._error: OSError | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def update(self, data: bytes) -> None:
        """Take in more bytes, soon."""
        if self._thread is None and self._inline < _INLINE:
            self._state.update(data)
            self._inline += len(data)
        else:
            self._put(data, len(data))

    def update_from_file(self, fd: int, begin: int, end: int) -> None:
        """Take in bytes `begin` to `end` of a file that stays open and unchanged until the end."""
        for start in range(begin, end, _WINDOW):
            self._put((fd, start, min(start + _WINDOW, end)), 0)

    def hexdigest(self) -> str:
        """Wait until everything is hashed and say the result; nothing can be added after it.

        Raises:
            OSError: where a file range could not be read.
        """
        self._stop()
        if self._error is not None:
            raise self._error
        return self._state.hexdigest()

    def _put(self, piece: _Piece, size: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting < MAX_WAITING)
            self._pieces.append(piece)
            self._waiting += size
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="pannier-hash", daemon=True)
            self._thread.start()

    def _stop(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._pieces) or self._closed)
                if not self._pieces:
                    return
                piece = self._pieces.popleft()
            self._hash(piece)
            with self._changed:
                self._waiting -= len(piece) if isinstance(piece, bytes) else 0
                self._changed.notify_all()

    def _hash(self, piece: _Piece) -> None:
        if isinstance(piece, bytes):
            self._state.update(piece)
        elif self._error is None:
            try:
                update_from_range(self._state, *piece)
            except OSError as error:
                self._error = error


def update_from_range(state: HashState, fd: int, begin: int, end: int) -> None:
    """Hash bytes `begin` to `end` of an open file through mapped windows, without copying them.

    The file must not shrink meanwhile: a mapping past its end is a SIGBUS.
    """
    position = begin
    while position < end:
        aligned = position - position % mmap.ALLOCATIONGRANULARITY
        stop = min(aligned + _WINDOW, end)
        with (
            mmap.mmap(fd, stop - aligned, prot=mmap.PROT_READ, offset=aligned) as window,
            memoryview(window) as view,
            view[position - aligned :] as piece,
        ):
            state.update(piece)
        position = stop
