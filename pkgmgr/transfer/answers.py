"""What the headers of a registry's answers say, read with distrust."""

from __future__ import annotations

import re

from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import InvalidDigest, InvalidManifest, NetworkError, SizeMismatch
from ..manifest import MAX_MANIFEST_SIZE
from .wire import Reply

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")


def expect_range(reply: Reply, start: int, stop: int, total: int, place: str) -> None:
    """Check that a 206 answer is exactly bytes `start` to `stop` (exclusive) of `total`.

    Raises:
        NetworkError: where it is another range, or none at all (as multipart/byteranges).
    """
    header = reply.headers.get("Content-Range", "")
    match = _CONTENT_RANGE.fullmatch(header.strip())
    if match is not None and match[3] in (str(total), "*"):
        first, last = int(match[1]), int(match[2])
        if (first, last + 1) == (start, stop):
            return
    raise NetworkError(
        f"{place} answers with the wrong range {header[:60]!r} for bytes {start}-{stop - 1}",
        place=place,
    )


def content_digest(reply: Reply) -> Digest | None:
    """The Docker-Content-Digest header, None where there is no valid one."""
    try:
        return Digest.parse(reply.headers.get("Docker-Content-Digest", ""))
    except InvalidDigest:
        return None


def media_type_of(reply: Reply) -> str:
    """The Content-Type without its parameters."""
    return reply.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def skip(reply: Reply, count: int, descriptor: Descriptor) -> None:
    """Read away the beginning of a body that was sent from byte 0 although asked otherwise.

    Raises:
        SizeMismatch: where the body ends before.
    """
    left = count
    while left > 0:
        data = reply.read(left)
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
