"""Looks into layers that are archives: tar, plain or compressed, read as a stream.

Reads POSIX ustar and pax, and GNU's long names. Only regular files are given out; links, devices
and directories are passed over, and no name ever becomes a path. Whatever a header claims, nothing
is allocated by it, and decompression ends at a bound.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Protocol, cast

from .descriptor import MAX_SIZE
from .errors import IntegrityError

_BLOCK = 512
_CHUNK = 1 << 20
_MAX_HEADER = 64 << 10
_MAX_MEMBERS = 1 << 16
# Weights hardly compress; whoever unpacks to more than this is a bomb.
_MAX_RATIO = 100
_FREE_RATIO_BYTES = 64 << 20
_OCTAL = re.compile(rb"[ \0]*([0-7]{0,12})[ \0]*")
_PAX = re.compile(rb"(\d{1,6}) ([^=]{1,255})=")


class Bytes(Protocol):
    """A stream of bytes."""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes; empty at the end."""


class InvalidArchive(IntegrityError):
    """A layer is not the archive that it claims to be, or exceeds a bound."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place} cannot be unpacked: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Member:
    """One regular file; `size` in bytes. `link` is where a symbolic link points, else None."""

    name: str
    size: int
    link: str | None = None


class Prefixed:
    """A stream whose beginning has been looked at already."""

    def __init__(self, stream: Bytes, count: int) -> None:
        self._stream = stream
        self.head = _exactly(stream, count)
        self._left = self.head

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes."""
        if self._left:
            wanted = len(self._left) if size < 0 else size
            data, self._left = self._left[:wanted], self._left[wanted:]
            return data
        return self._stream.read(_CHUNK if size < 0 else size)


def open_archive(stream: Bytes, *, size: int, place: str) -> Archive | None:
    """The archive that a stream holds; None where it is no tar.

    Args:
        stream: at its first byte.
        size: of the stream in bytes, by which decompression is bounded.
        place: what messages call it.

    Raises:
        InvalidArchive: where its compression is broken.
    """
    outer = Prefixed(stream, 4)
    plain: Bytes = outer
    if outer.head[:2] == b"\x1f\x8b":
        plain = _Gzip(outer, place)
    elif outer.head == b"\x28\xb5\x2f\xfd":
        plain = _Zstd(outer, place)
    if plain is not outer:
        plain = _Bounded(plain, max(_FREE_RATIO_BYTES, size * _MAX_RATIO), place)
    inner = Prefixed(plain, _BLOCK)
    if not _is_header(inner.head):
        return None
    return Archive(inner, place)


class Archive:
    """The regular files and symbolic links of a tar, one after the other; for one thread.

    The content of the member that `__iter__` gave last is read with `read`.
    """

    def __init__(self, stream: Bytes, place: str) -> None:
        self._stream = stream
        self._place = place
        self._left = 0
        self._padding = 0

    def __iter__(self) -> Iterator[Member]:
        """The members in order.

        Raises:
            InvalidArchive: where a header is malformed or the stream ends early.
        """
        for _ in range(_MAX_MEMBERS):
            member = self._next()
            if member is None:
                return
            if member.name:
                yield member
            self._skip()
        raise self._error(f"it has more than {_MAX_MEMBERS} members")

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes of the current member; empty at its end.

        Raises:
            InvalidArchive: where the stream ends before the member does.
        """
        wanted = min(self._left, _CHUNK if size < 0 else size)
        if not wanted:
            return b""
        data = self._stream.read(wanted)
        if not data:
            raise self._error("it is cut short")
        self._left -= len(data)
        return data

    def _next(self) -> Member | None:
        """The next member; one without a name for what is passed over; None at the end."""
        override: dict[str, str] = {}
        for _ in range(8):
            header = _exactly(self._stream, _BLOCK)
            if not header.strip(b"\0"):
                return None
            if not _is_header(header):
                raise self._error("a member's header is malformed")
            kind, size = header[156:157], self._number(header[124:136])
            if kind in (b"x", b"g", b"L", b"K"):
                self._extend(override, kind, size)
                continue
            return self._member(header, kind, size, override)
        raise self._error("extended headers follow one another")

    def _member(self, header: bytes, kind: bytes, size: int, override: dict[str, str]) -> Member:
        if "size" in override:
            size = int(override["size"]) if override["size"].isdecimal() else -1
        if not 0 <= size <= MAX_SIZE:
            raise self._error("a member's size is out of bounds")
        has_content = kind in (b"0", b"\0", b"7")
        self._left = size if kind not in (b"1", b"2", b"3", b"4", b"5", b"6") else 0
        self._padding = -self._left % _BLOCK
        name = override.get("path") or _name(header)
        if kind == b"2":
            return Member(name, 0, override.get("linkpath") or _text(header[157:257]))
        sparse = any(key.startswith("GNU.sparse") for key in override)
        return Member(name if has_content and not sparse else "", size)

    def _extend(self, override: dict[str, str], kind: bytes, size: int) -> None:
        if size > _MAX_HEADER:
            raise self._error(f"an extended header has {size} bytes")
        body = _exactly(self._stream, size + -size % _BLOCK)
        if len(body) < size:
            raise self._error("it is cut short")
        body = body[:size]
        if kind == b"L":
            override["path"] = _text(body)
        elif kind == b"K":
            override["linkpath"] = _text(body)
        elif kind == b"x":
            override |= self._pax(body)

    def _pax(self, body: bytes) -> dict[str, str]:
        fields: dict[str, str] = {}
        while body:
            match = _PAX.match(body)
            length = int(match[1]) if match else 0
            if match is None or not match.end() < length <= len(body):
                raise self._error("an extended header is malformed")
            fields[_text(match[2])] = _text(body[match.end() : length - 1])
            body = body[length:]
        return fields

    def _number(self, field: bytes) -> int:
        if field[0] & 0x80:
            return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        match = _OCTAL.fullmatch(field)
        if match is None:
            raise self._error("a member's size is no number")
        return int(match[1] or b"0", 8)

    def _skip(self) -> None:
        left = self._left + self._padding
        self._left = self._padding = 0
        while left:
            data = self._stream.read(min(left, _CHUNK))
            if not data:
                raise self._error("it is cut short")
            left -= len(data)

    def _error(self, reason: str) -> InvalidArchive:
        return InvalidArchive(self._place, reason)


class _Gzip:
    """RFC 1952, several members in a row."""

    def __init__(self, stream: Bytes, place: str) -> None:
        self._stream = stream
        self._place = place
        self._state = zlib.decompressobj(31)
        self._rest = b""

    def read(self, size: int = -1, /) -> bytes:
        wanted = _CHUNK if size < 0 else size
        while True:
            if self._state.eof:
                self._rest = self._state.unused_data or self._stream.read(_CHUNK)
                if not self._rest.startswith(b"\x1f\x8b"):
                    return b""
                self._state = zlib.decompressobj(31)
            data = self._rest or self._stream.read(_CHUNK)
            if not data:
                raise InvalidArchive(self._place, "its compression is cut short")
            try:
                out = self._state.decompress(data, wanted)
            except zlib.error as error:
                raise InvalidArchive(self._place, "its compression is damaged") from error
            self._rest = self._state.unconsumed_tail
            if out:
                return out


class _Bounded:
    """Ends a stream with an error beyond a number of bytes."""

    def __init__(self, stream: Bytes, limit: int, place: str) -> None:
        self._stream = stream
        self._limit = limit
        self._left = limit
        self._place = place

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise InvalidArchive(self._place, f"it unpacks to more than {self._limit} bytes")
        return data


class _Zstd:
    """RFC 8878, several frames in a row; windows up to what zstd makes without being asked."""

    def __init__(self, stream: Bytes, place: str) -> None:
        import zstandard

        self._errors = zstandard.ZstdError
        self._place = place
        state = zstandard.ZstdDecompressor(max_window_size=128 << 20)
        # cast: its type wants a file, its code calls nothing but `read`.
        self._reader = state.stream_reader(cast(IO[bytes], stream), read_across_frames=True)

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._reader.read(_CHUNK if size < 0 else size)
        except self._errors as error:
            raise InvalidArchive(self._place, "its compression is damaged") from error


def _is_header(block: bytes) -> bool:
    """A checksum that is right is the only mark that all kinds of tar have."""
    if len(block) < _BLOCK:
        return False
    match = _OCTAL.fullmatch(block[148:156])
    total = sum(block[:148]) + 8 * 32 + sum(block[156:])
    return match is not None and bool(match[1]) and int(match[1], 8) == total


def _name(header: bytes) -> str:
    name, prefix = _text(header[:100]), _text(header[345:500])
    is_ustar = header[257:262] == b"ustar" and header[263:265] == b"00"
    return f"{prefix}/{name}" if prefix and is_ustar else name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "replace")


def _exactly(stream: Bytes, count: int) -> bytes:
    """`count` bytes, fewer only at the end of the stream."""
    parts: list[bytes] = []
    while count and (data := stream.read(count)):
        parts.append(data)
        count -= len(data)
    return b"".join(parts)
