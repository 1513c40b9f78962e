"""A bounded, streaming reader of the one kind of tar that a bundle is.

Implements as much of POSIX.1-2017 pax, section "ustar Interchange Format" and "pax Header", as
an OCI archive needs: regular files and directories under fixed names. It is not a general tar
reader. No member name ever becomes a path: a member is a `LayoutFile`, an `IndexFile` or a blob of
a parsed `Digest`, and everything else (links, devices, sparse files, overriding names, duplicates,
numbers that contradict each other, data after the end) is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..descriptor import MAX_SIZE
from ..digest import Digest
from ..errors import InvalidBundle, TruncatedBundle
from ..transfer.content import Reader

BLOCK = 512
LAYOUT_NAME = "oci-layout"
INDEX_NAME = "index.json"
# A pax header here carries a size, a name, or padding up to one page; Go and Python write less.
MAX_EXTENDED = 16 << 10
# More members than any bundle has: 1,024 layers times some hundred models.
MAX_MEMBERS = 1 << 18
# GNU tar pads to 10 KiB records; `--blocking-factor` rarely exceeds 1 MiB.
MAX_TRAILING_ZEROS = 1 << 20
_CHUNK = 1 << 20

_BLOB = re.compile(r"blobs/(sha256|sha512)/([0-9a-f]{64}|[0-9a-f]{128})")
_DIRECTORIES = frozenset({"", ".", "blobs", "blobs/sha256", "blobs/sha512"})
_REGULAR = (b"0", b"\0")
_DIRECTORY = b"5"
_PAX = b"x"
_PAX_GLOBAL = b"g"
# Keys that change nothing in what the bytes of a member are.
_PAX_HARMLESS = frozenset(
    {"atime", "ctime", "mtime", "uid", "gid", "uname", "gname", "comment", "hdrcharset"}
)
# What compressed files begin with, and the program that unpacks them.
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz", b"BZh": "bzip2"}
_OCTAL = re.compile(rb" *([0-7]{1,12})[ \0]*")


@dataclass(frozen=True, slots=True)
class Member:
    """One file of the bundle. `digest` is None for `oci-layout` and `index.json`.

    Attributes:
        offset: where the content begins in the stream, in bytes.
        size: of the content, in bytes.
    """

    name: str
    digest: Digest | None
    offset: int
    size: int


class TarStream:
    """Iterates the members of a tar; the content of the current one is read through `read`.

    One thread only. Content that was not read is skipped: by seeking where `seekable`, else by
    reading. Nothing is buffered beyond what the caller asks for.
    """

    def __init__(self, stream: Reader, *, place: str, seekable: bool = False) -> None:
        self._stream = stream
        self._place = place
        self._seekable = seekable
        self._position = 0
        self._remaining = 0
        self._seen: set[str] = set()

    def __iter__(self) -> Iterator[Member]:
        """The members in order.

        Raises:
            InvalidBundle: at the first header outside the format, or where the stream ends early.
        """
        while (header := self._next_header()) is not None:
            member = self._member(header)
            if member is not None:
                yield member
            self._skip()
        self._check_end()

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes of the current member; empty at its end.

        Raises:
            InvalidBundle: where the stream ends before the member does.
        """
        wanted = self._remaining if size < 0 else min(size, self._remaining)
        if not wanted:
            return b""
        data = self._stream.read(min(wanted, _CHUNK) if size < 0 else wanted)
        if not data:
            raise self._cut_short("inside a member")
        self._position += len(data)
        self._remaining -= len(data)
        return data

    def read_all(self, member: Member, *, max_size: int) -> bytes:
        """The whole of a small member.

        Raises:
            InvalidBundle: where it is larger than `max_size` or cut short.
        """
        if member.size > max_size:
            raise self._error(f"{member.name} of {member.size} bytes is over {max_size}")
        parts = []
        while data := self.read(max_size):
            parts.append(data)
        return b"".join(parts)

    def _next_header(self) -> bytes | None:
        header = self._exactly(BLOCK, "where a member's header should be")
        if self._position == BLOCK:
            self._require_plain(header)
        if any(header):
            return header
        if any(self._exactly(BLOCK, "after its first end block")):
            raise self._error("a single zero block stands between members")
        return None

    def _require_plain(self, header: bytes) -> None:
        for magic, program in _COMPRESSED.items():
            if header.startswith(magic):
                hint = f"unpack it first: {program} -dc FILE | pannier import -"
                raise InvalidBundle(self._place, f"it is compressed with {program}", hint=hint)

    def _member(self, header: bytes) -> Member | None:
        fields: dict[str, str] = {}
        for _ in range(4):  # a global and a local pax header, with room for one more of each
            kind = header[156:157]
            _check_header(header, self._error)
            size = self._number(header[124:136])
            if kind not in (_PAX, _PAX_GLOBAL):
                break
            if size > MAX_EXTENDED:
                raise self._error(f"an extended header of {size} bytes is over {MAX_EXTENDED}")
            fields |= self._pax(self._exactly(_padded(size), "in an extended header")[:size])
            header = self._exactly(BLOCK, "after an extended header")
        else:
            raise self._error("extended headers follow one another")
        return self._file(header, size, fields)

    def _file(self, header: bytes, size: int, fields: dict[str, str]) -> Member | None:
        name = _name(header, self._error)
        kind = header[156:157]
        if "path" in fields:
            name = self._overriding_path(fields["path"])
        if "size" in fields:
            if not re.fullmatch(r"[0-9]{1,16}", fields["size"]):
                raise self._error("a pax size is not a number")
            size = int(fields["size"])
        if size > MAX_SIZE:
            raise self._error(f"{name[:80]!r} claims {size} bytes")
        if kind == _DIRECTORY:
            if size or name not in _DIRECTORIES:
                raise self._error(f"directory {name[:80]!r} has no place in an OCI layout")
            return None
        if kind not in _REGULAR:
            raise self._error(f"{name[:80]!r} is not a regular file (type {kind!r})")
        return self._open(name, size)

    def _open(self, name: str, size: int) -> Member:
        if name in self._seen:
            raise self._error(f"{name!r} occurs twice")
        if len(self._seen) >= MAX_MEMBERS:
            raise self._error(f"more than {MAX_MEMBERS} members")
        digest = None
        if name not in (LAYOUT_NAME, INDEX_NAME):
            match = _BLOB.fullmatch(name)
            if match is None or len(match[2]) != (64 if match[1] == "sha256" else 128):
                raise self._error(f"{name[:80]!r} has no place in an OCI layout")
            digest = Digest(match[1], match[2])
        self._seen.add(name)
        self._remaining = size
        return Member(name, digest, self._position, size)

    def _overriding_path(self, path: str) -> str:
        # The only name of a layout that a plain header cannot hold: a sha512 blob's.
        if not re.fullmatch(r"(\./)?blobs/sha512/[0-9a-f]{128}", path):
            raise self._error("an extended header overrides a member's name")
        return path.removeprefix("./")

    def _pax(self, body: bytes) -> dict[str, str]:
        fields: dict[str, str] = {}
        while body:
            match = re.match(rb"([0-9]{1,5}) ", body)
            length = int(match[1]) if match else 0
            record = body[:length]
            if not match or length < len(match[0]) + 2 or record[-1:] != b"\n":
                raise self._error("an extended header is malformed")
            key, equals, value = record[len(match[0]) : -1].partition(b"=")
            if len(record) != length or not equals:
                raise self._error("an extended header is malformed")
            self._take(fields, key, value)
            body = body[length:]
        return fields

    def _take(self, fields: dict[str, str], key: bytes, value: bytes) -> None:
        name = key.decode("ascii", "replace")
        if name in ("path", "size"):
            if name in fields or not value.isascii():
                raise self._error(f"an extended header gives {name} twice or not in ASCII")
            fields[name] = value.decode("ascii")
        elif name not in _PAX_HARMLESS and not name.startswith(("SCHILY.xattr.", "LIBARCHIVE.")):
            raise self._error(f"extended header key {name[:40]!r} is not allowed")

    def _number(self, field: bytes) -> int:
        match = _OCTAL.fullmatch(field)
        if match:
            return int(match[1], 8)
        if field[0] == 0x80:  # GNU base-256, positive
            return int.from_bytes(field[1:], "big")
        raise self._error("a header's size is not a number")

    def _skip(self) -> None:
        padding = -(self._position + self._remaining) % BLOCK
        total, self._remaining = self._remaining + padding, 0
        if self._seekable and total > _CHUNK:
            # The last byte is read, so that a file that ends early does not pass for a whole one.
            self._stream.seek(total - 1, 1)  # type: ignore[attr-defined]  # the caller says so
            self._position += total - 1
            total = 1
        while total:
            total -= len(self._exactly(min(total, _CHUNK), "inside a member"))

    def _exactly(self, size: int, where: str) -> bytes:
        parts, wanted = [], size
        while wanted:
            data = self._stream.read(wanted)
            if not data:
                raise self._cut_short(where)
            parts.append(data)
            wanted -= len(data)
            self._position += len(data)
        return b"".join(parts)

    def _check_end(self) -> None:
        zeros = 0
        while data := self._stream.read(64 << 10):
            zeros += len(data)
            if data.strip(b"\0") or zeros > MAX_TRAILING_ZEROS:
                raise self._error("there is data after the end of the archive")

    def _cut_short(self, where: str) -> InvalidBundle:
        if self._position < BLOCK:
            return self._error("not a tar file" if self._position else "it is empty")
        return TruncatedBundle(self._place, f"truncated: it ends {where} (byte {self._position})")

    def _error(self, reason: str) -> InvalidBundle:
        return InvalidBundle(self._place, f"{reason} (byte {self._position})")


def _name(header: bytes, error: Callable[[str], InvalidBundle]) -> str:
    name, prefix = header[:100].split(b"\0")[0], b""
    if header[257:263] == b"ustar\0":
        prefix = header[345:500].split(b"\0")[0]
    full = prefix + b"/" + name if prefix else name
    if not full.isascii() or full.startswith(b"/"):
        raise error("a member's name is absolute or not ASCII")
    text = full.decode("ascii").removeprefix("./")
    return text.rstrip("/") if header[156:157] == _DIRECTORY else text


def _check_header(header: bytes, error: Callable[[str], InvalidBundle]) -> None:
    if header[257:262] != b"ustar":
        raise error("not a tar file")
    match = _OCTAL.fullmatch(header[148:156])
    summed = sum(header[:148]) + 8 * 32 + sum(header[156:])
    if not match or int(match[1], 8) != summed:
        raise error("a header's checksum is wrong")


def _padded(size: int) -> int:
    return size + -size % BLOCK
