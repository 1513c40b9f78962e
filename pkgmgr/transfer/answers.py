"""What the headers of a registry's answers say, read with distrust."""

from __future__ import annotations

import re

from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import InvalidDigest, InvalidManifest, NetworkError, SizeMismatch
from ..manifest import MAX_MANIFEST_SIZE
from .content import Reader
from .neterrors import printable
from .reply import Reply

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")


def expect_range(reply: Reply, start: int, stop: int, total: int, place: str) -> None:
    """Check that a 206 answer is exactly bytes `start` to `stop` (exclusive) of `total`.

    Raises:
        NetworkError: where it is another range, or none at all (as multipart/byteranges).
    """
    if not is_range(reply, start, stop, total):
        said = printable(reply.headers.get("Content-Range", ""))[:60]
        raise NetworkError(
            f"{place} answers with the wrong range {said!r} for bytes {start}-{stop - 1}",
            place=place,
        )


def is_range(reply: Reply, start: int, stop: int, total: int) -> bool:
    """Whether an answer is exactly bytes `start` to `stop` (exclusive) of `total`."""
    header = reply.headers.get("Content-Range", "")
    match = _CONTENT_RANGE.fullmatch(header.strip())
    if reply.status != 206 or match is None or match[3] not in (str(total), "*"):
        return False
    return (int(match[1]), int(match[2]) + 1) == (start, stop)


def expect_length(reply: Reply, descriptor: Descriptor, place: str) -> None:
    """Check the Content-Length of a whole blob, where the answer has one.

    Raises:
        SizeMismatch: before anything was read.
    """
    length = reply.headers.get("Content-Length", "")
    if descriptor.size and length.isdigit() and int(length[:20]) != descriptor.size:
        raise SizeMismatch(str(descriptor.digest), descriptor.size, int(length[:20]), place=place)


def content_digest(reply: Reply) -> Digest | None:
    """The Docker-Content-Digest header, None where there is no valid one."""
    try:
        return Digest.parse(reply.headers.get("Docker-Content-Digest", ""))
    except InvalidDigest:
        return None


def media_type_of(reply: Reply) -> str:
    """The Content-Type without its parameters."""
    return reply.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def skip_to(content: Reader, count: int, descriptor: Descriptor) -> None:
    """Read away the beginning of a body that was sent from byte 0 although asked otherwise.

    Raises:
        SizeMismatch: where the body ends before.
    """
    left = count
    while left > 0:
        data = content.read(left)
        if not data:
            raise SizeMismatch(str(descriptor.digest), descriptor.size, count - left)
        left -= len(data)


def require_manifest_size(descriptor: Descriptor) -> None:
    """Check that a manifest may be held in memory.

    Raises:
        InvalidManifest: where it is said to be too long.
    """
    if descriptor.size > MAX_MANIFEST_SIZE:
        raise InvalidManifest(
            f"{descriptor.size} bytes are over the limit of {MAX_MANIFEST_SIZE}",
            digest=str(descriptor.digest),
        )
