"""The journal of an unfinished download: which ranges of a file are in, each with a checksum.

One line for each range, ``start stop crc32`` in decimal, after a line with the version and the
size of the blob. A torn last line counts for nothing. CRC-32 finds what a power cut or a bad disk
did to single ranges; the digest decides over the whole.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from .files import write_all

_VERSION = "1"
# One line per this many bytes: what a killed process loses for each of its connections.
PIECE = 512 << 10
_READ = 1 << 20
_MAX_JOURNAL = 256 << 20


def read_journal(path: Path, size: int) -> Iterator[tuple[int, int, int]]:
    """The ranges that a journal vouches for, each as start, stop, CRC-32; none for another size."""
    try:
        if path.stat().st_size > _MAX_JOURNAL:
            return
        text = path.read_bytes()
    except FileNotFoundError:
        return
    first, *lines = text.split(b"\n")
    if first != header(size).rstrip(b"\n"):
        return
    # What stands behind the last newline was cut off in mid-write.
    for line in lines[:-1]:
        fields = line.split()
        if len(fields) == 3 and all(field.isdigit() for field in fields):
            start, stop, crc = map(int, fields)
            if 0 <= start < stop <= size:
                yield start, stop, crc


def header(size: int) -> bytes:
    """The first line."""
    return f"pannier-journal {_VERSION} {size}\n".encode()


def checked(fd: int, ranges: Iterator[tuple[int, int, int]]) -> Iterator[tuple[int, int, int]]:
    """Those of the ranges whose bytes in the file still have their checksum."""
    for start, stop, crc in ranges:
        actual, position = 0, start
        while position < stop and (data := os.pread(fd, min(_READ, stop - position), position)):
            actual = zlib.crc32(data, actual)
            position += len(data)
        if position == stop and actual == crc:
            yield start, stop, crc


class PieceWriter:
    """Writes consecutive bytes of a blob from one offset on, and vouches for them in the journal.

    One thread uses it; several of them may write to one file at different places.
    """

    def __init__(
        self, fd: int, journal: int, start: int, on_piece: Callable[[int, int], None]
    ) -> None:
        self._fd = fd
        self._journal = journal
        self._on_piece = on_piece
        self._begin = self.position = start
        self._crc = 0

    def write(self, data: bytes) -> None:
        """Append bytes; a line goes to the journal whenever a piece is full."""
        offset = self.position
        view = memoryview(data)
        while view:
            written = os.pwrite(self._fd, view, offset)
            offset += written
            view = view[written:]
        self._crc = zlib.crc32(data, self._crc)
        self.position = offset
        if offset - self._begin >= PIECE:
            self.flush()

    def flush(self) -> None:
        """Vouch for what was written since the last line."""
        if self.position > self._begin:
            line = f"{self._begin} {self.position} {self._crc}\n".encode()
            write_all(self._journal, line)
            self._on_piece(self._begin, self.position)
            self._begin, self._crc = self.position, 0
