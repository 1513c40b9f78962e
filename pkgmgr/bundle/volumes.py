"""One file, or the numbered volumes that it was split into, read as one sequence of bytes.

`bundle.tar` is looked for first, then `bundle.tar.001`, `.002`, … with the checksum list
`bundle.tar.sha256` (the form of sha256sum), which says how many there are.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from ..errors import InvalidBundle

MAX_VOLUMES = 999
_MAX_LIST = 1 << 20
_PART = re.compile(r"\.(?:[0-9]{3}|sha256)")
_LINE = re.compile(r"([0-9a-f]{64})  ([^/\0\n]+)")


class Volumes:
    """Open files that follow one another; a context manager. `read_at` is thread-safe."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self._close = ExitStack()
        self._files: list[tuple[int, int, int]] = []
        begin = 0
        try:
            for path in paths:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                self._close.callback(os.close, fd)
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode):
                    raise InvalidBundle(str(path), "not a regular file")
                self._files.append((fd, begin, begin + status.st_size))
                begin += status.st_size
        except BaseException:
            self._close.close()
            raise
        self.size = begin

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close.close()

    def read_at(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset`; fewer at the end of a volume, none at the end."""
        for fd, begin, end in self._files:
            if begin <= offset < end:
                return os.pread(fd, min(size, end - offset), offset - begin)
        return b""

    def piece(self, offset: int, size: int) -> tuple[int, int] | None:
        """The descriptor and offset of a range within one volume, None where it crosses two."""
        for fd, begin, end in self._files:
            if begin <= offset and offset + size <= end:
                return fd, offset - begin
        return None


class Cursor:
    """A position in volumes, or in a range of them; a `Reader` that can also skip."""

    def __init__(self, volumes: Volumes, begin: int = 0, end: int | None = None) -> None:
        self._volumes = volumes
        self._position = begin
        self._end = volumes.size if end is None else end

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes; empty at the end."""
        left = max(0, self._end - self._position)
        data = self._volumes.read_at(self._position, left if size < 0 else min(size, left))
        self._position += len(data)
        return data

    def seek(self, count: int, whence: int, /) -> None:
        """Skip `count` bytes forward (whence 1, as a file's)."""
        assert whence == os.SEEK_CUR
        self._position += count


def find(path: Path) -> tuple[Path, ...]:
    """The files that a bundle's name stands for: itself, or its volumes in order.

    The name of one volume, or of the checksum list, stands for all volumes.

    Raises:
        InvalidBundle: where a volume is missing.
        FileNotFoundError: where there is nothing of that name.
    """
    whole = _without_number(path)
    if whole is not None:
        return find(whole)
    if path.exists():
        return (path,)
    if not volume_path(path, 1).exists() and not _is_listed(path):
        raise FileNotFoundError(2, "no such bundle", str(path))
    count = _count(path)
    paths = tuple(volume_path(path, number + 1) for number in range(count))
    absent = [item.name for item in paths if not item.exists()]
    if absent:
        raise InvalidBundle(str(path), f"volumes are missing: {', '.join(absent)}")
    return paths


def volume_path(path: Path, number: int) -> Path:
    """The path of a volume, counted from 1."""
    return path.with_name(f"{path.name}.{number:03d}")


def checksum_path(path: Path) -> Path:
    """The path of the checksum list beside the volumes."""
    return path.with_name(path.name + ".sha256")


def damaged(path: Path) -> tuple[str, ...]:
    """The names of the volumes that are not what the checksum list says, by hashing them all.

    None where the bundle is one file, or has no list.

    Raises:
        InvalidBundle: where a volume is missing.
    """
    whole = _without_number(path) or path
    if whole.exists() or not (sums := _checksums(whole)):
        return ()
    found = []
    for volume in find(whole):
        with volume.open("rb") as file:
            actual = hashlib.file_digest(file, lambda: hashlib.sha256(usedforsecurity=False))
        if actual.hexdigest() != sums[volume.name]:
            found.append(volume.name)
    return tuple(found)


def _without_number(path: Path) -> Path | None:
    """The bundle whose volume or checksum list a path names; None where it names none."""
    if not _PART.fullmatch(path.suffix) or not path.stem:
        return None
    whole = path.with_suffix("")
    if whole.exists():
        return None
    others = checksum_path(whole), volume_path(whole, 2)
    is_one = volume_path(whole, 1).exists() and any(other.exists() for other in others)
    return whole if is_one or _is_listed(whole) else None


def _is_listed(path: Path) -> bool:
    """Whether a checksum list names the volumes of a bundle, of which the first may be missing."""
    try:
        return bool(_checksums(path))
    except InvalidBundle:
        return False


def _count(path: Path) -> int:
    sums = _checksums(path)
    if sums:
        return len(sums)
    count = 1
    while count < MAX_VOLUMES and volume_path(path, count + 1).exists():
        count += 1
    return count


def _checksums(path: Path) -> dict[str, str]:
    """Volume name → SHA-256, as the list beside the volumes says; empty where there is no list."""
    try:
        with checksum_path(path).open("rb") as file:
            text = os.fsdecode(file.read(_MAX_LIST))
    except FileNotFoundError:
        return {}
    every = text.removesuffix("\n").split("\n")
    lines = [_LINE.fullmatch(line.removesuffix("\r")) for line in every]
    sums = {match[2]: match[1] for match in lines if match}
    wanted = [volume_path(path, number + 1).name for number in range(len(lines))]
    if list(sums) != wanted or not wanted:
        raise InvalidBundle(
            str(checksum_path(path)),
            "it does not list the volumes in order",
            hint="volumes keep the names that they were written under",
        )
    return sums
