"""Reading what a descriptor says and nothing else: as a stream, or whole where it is small."""

from __future__ import annotations

from ..descriptor import Descriptor
from ..errors import DigestMismatch, InvalidManifest, SizeMismatch
from ..manifest import MAX_MANIFEST_SIZE, Index, Manifest, parse
from .content import Reader, Source, until_right

_CHUNK = 1 << 20


class VerifyingReader:
    """Passes bytes on and checks them against a descriptor; raises at the end, never later.

    Bytes beyond the described size are never given out.
    """

    def __init__(
        self, content: Reader, descriptor: Descriptor, *, place: str | None = None
    ) -> None:
        self._content = content
        self._descriptor = descriptor
        self._place = place
        self._hash = descriptor.digest.hasher()
        self._size = 0
        self._verified = False

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes; empty at the end, and only if everything was right.

        Raises:
            SizeMismatch: where the content is shorter or longer than described.
            DigestMismatch: where it has another digest.
        """
        if size < 0:
            return b"".join(iter(lambda: self.read(_CHUNK), b""))
        if self._verified or size == 0:
            return b""
        expected = self._descriptor.size
        data = self._content.read(min(size, expected - self._size + 1))
        self._size += len(data)
        self._hash.update(data)
        if self._size > expected or (not data and self._size < expected):
            self._fail_size()
        if self._size == expected:
            self._finish()
        return data

    def _finish(self) -> None:
        if self._content.read(1):
            self._size += 1
            self._fail_size()
        actual = self._hash.hexdigest()
        if actual != self._descriptor.digest.hex:
            expected = self._descriptor.digest
            raise DigestMismatch(str(expected), f"{expected.algorithm}:{actual}", place=self._place)
        self._verified = True

    def _fail_size(self) -> None:
        descriptor = self._descriptor
        raise SizeMismatch(str(descriptor.digest), descriptor.size, self._size, place=self._place)


def read_small(source: Source, descriptor: Descriptor) -> bytes:
    """A blob that the caller knows to be small, verified.

    Raises:
        IntegrityError: where its bytes are not what the descriptor says.
    """

    def read() -> bytes:
        with source.fetch(descriptor) as content:
            return VerifyingReader(content, descriptor, place=source.place).read()

    return until_right(source, descriptor, read)


def read_manifest(source: Source, descriptor: Descriptor) -> Manifest | Index:
    """A manifest from any place, verified.

    Raises:
        InvalidManifest: where it is none, or too long.
        IntegrityError: where its bytes are not what the descriptor says.
    """
    if descriptor.size > MAX_MANIFEST_SIZE:
        raise InvalidManifest(
            f"{descriptor.size} bytes are over the limit", digest=str(descriptor.digest)
        )
    return parse(read_small(source, descriptor), media_type=descriptor.media_type or None)
