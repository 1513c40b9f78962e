"""Content digests: valid by construction, and a hasher that knows its length.

Implements the digest grammar of image-spec v1.1.1, descriptor.md, section "Digests", for the two
registered algorithms. A `Digest` is the only thing from which a store path is ever made.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Protocol, Self

from .errors import InvalidDigest

_PATTERN = re.compile(r"(sha256):([0-9a-f]{64})|(sha512):([0-9a-f]{128})")


class HashState(Protocol):
    """What hashlib's objects offer of which we make use."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Take in more bytes."""

    def hexdigest(self) -> str:
        """Lower-case hex of all bytes so far."""

    def copy(self) -> Self:
        """An independent state with the same bytes."""


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """An algorithm and a lower-case hex value; ``str(Digest.parse(s)) == s``.

    >>> Digest.of(b"").short
    'e3b0c44298fc'
    """

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``algorithm:hex``.

        Raises:
            InvalidDigest: for anything else: other algorithms, upper case, wrong length.
        """
        match = _PATTERN.fullmatch(text) if text.isascii() else None
        if match is None:
            raise InvalidDigest(text)
        return cls(match[1] or match[3], match[2] or match[4])

    @classmethod
    def of(cls, data: bytes, *, algorithm: str = "sha256") -> Self:
        """The digest of bytes in memory."""
        return cls(algorithm, hashlib.new(algorithm, data, usedforsecurity=False).hexdigest())

    @property
    def short(self) -> str:
        """The first twelve hex digits, for people."""
        return self.hex[:12]

    def hasher(self) -> HashState:
        """A fresh hash state of this digest's algorithm, to check content against it."""
        return hashlib.new(self.algorithm, usedforsecurity=False)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"
