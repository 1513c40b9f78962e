"""Headers of the tar that a bundle is: the same members give the same bytes, everywhere.

Pure. Owner, mode and time are constants. A GGUF's content begins on a page boundary, so that it
can be mapped, or cloned by a file system that shares blocks, straight out of the tar; a pax
`comment` record of the right length makes the room (POSIX.1-2017 pax, "pax Header").
"""

from __future__ import annotations

from .tarstream import BLOCK

PAGE = 4096
END = bytes(2 * BLOCK)
_MODE = b"0000644\0"
_ID = b"0000000\0"
_TIME = b"00000000000\0"
# The largest number of eleven octal digits; longer sizes go into a pax record.
_MAX_OCTAL = 8**11 - 1
_NAME = 100


def header(name: str, size: int, *, position: int, aligned: bool) -> bytes:
    """All header blocks of a regular file.

    Args:
        name: ASCII; longer than 100 characters only for sha512 blobs.
        size: of the content, in bytes.
        position: where in the tar these blocks begin, a multiple of 512.
        aligned: whether the content shall begin on a page boundary.
    """
    records = b""
    if size > _MAX_OCTAL:
        records += _record("size", str(size))
    if len(name) > _NAME:
        records += _record("path", name)
    plain = _block(name[:_NAME], min(size, _MAX_OCTAL) if size <= _MAX_OCTAL else 0, b"0")
    if not aligned and not records:
        return plain
    if aligned and not records and (position + BLOCK) % PAGE == 0:
        return plain
    if aligned:
        records += _comment(_room(position, len(records)) - len(records))
    return _extended(records) + plain


def padding(size: int) -> bytes:
    """The zeros after a member's content."""
    return bytes(-size % BLOCK)


def _room(position: int, used: int) -> int:
    """The smallest body length ≥ `used` + 16 that puts the content on a page boundary."""
    body = used + 16
    body += -body % BLOCK
    while (position + BLOCK + body + BLOCK) % PAGE:
        body += BLOCK
    return body


def _extended(records: bytes) -> bytes:
    return _block("PaxHeaders/0", len(records), b"x") + records + padding(len(records))


def _record(key: str, value: str) -> bytes:
    body = f" {key}={value}\n".encode("ascii")
    length = len(body) + 1
    while len(str(length)) + len(body) != length:
        length += 1
    return str(length).encode("ascii") + body


def _comment(length: int) -> bytes:
    """A pax record of exactly `length` bytes that says nothing."""
    head = f"{length} comment=".encode("ascii")
    return head + b" " * (length - len(head) - 1) + b"\n"


def _block(name: str, size: int, kind: bytes) -> bytes:
    fields = (
        name.encode("ascii").ljust(_NAME, b"\0"),
        _MODE,
        _ID,
        _ID,
        b"%011o\0" % size,
        _TIME,
        b" " * 8,
        kind,
        bytes(100),
        b"ustar\x0000",
        bytes(64),
        _ID,
        _ID,
        bytes(167),
    )
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
