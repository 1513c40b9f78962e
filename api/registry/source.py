"""The seam between the HTTP handlers and where content comes from: a store, or a bridge.

`pannier.api.registry.contents.Contents` answers from a store alone,
`pannier.api.registry.bridge.Bridge` from a store in front of another registry.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from pannier.pkgmgr.descriptor import Descriptor
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import BlobNotFound
from pannier.pkgmgr.manifest import Index, Manifest
from pannier.pkgmgr.transfer.content import Reader

from ..gateway import FileRange
from .conditions import Span


class Body(Protocol):
    """The bytes of an answer. The server iterates, then closes."""

    def __iter__(self) -> Iterator[bytes]:
        """Pieces of any length."""

    def close(self) -> None:
        """Free what it holds; may be called more than once."""


class Blob(Protocol):
    """A blob that can be sent. `size` in bytes."""

    @property
    def size(self) -> int:
        """Of the whole."""

    def body(self, span: Span) -> Body:
        """The bytes of a span; whoever asks closes it."""


class Source(Protocol):
    """What a registry serves. Methods may be called from any thread and raise `Problem`."""

    def repositories(self) -> list[str]:
        """The names of all repositories, sorted."""

    def tags(self, name: str) -> list[str]:
        """The tags of a repository, sorted."""

    def manifest(self, name: str, reference: str) -> tuple[Descriptor, Manifest | Index]:
        """What a tag or digest stands for. The descriptor has the digest that is to be told."""

    def referrers(self, name: str, subject: Digest) -> Iterator[Descriptor]:
        """The manifests whose subject is a digest, in the order of their own."""

    def blob(self, name: str, digest: Digest) -> Blob:
        """A blob; raises `BlobNotFound`."""

    def open(self, name: str, descriptor: Descriptor) -> AbstractContextManager[Reader]:
        """The content of a described blob from its beginning, not verified."""

    def bring(self, name: str, descriptor: Descriptor) -> None:
        """Have a blob in the store, however long it takes."""

    def put(
        self, name: str, content: Manifest | Index, *, digest: Digest, tags: tuple[str, ...]
    ) -> None:
        """Take a manifest in and name it."""

    def delete(self, name: str, reference: str) -> None:
        """Remove a tag, or a manifest with all its tags."""

    def delete_blob(self, name: str, digest: Digest) -> None:
        """Remove a blob that nothing needs."""


class StoredBlob:
    """A blob file of the store."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size = path.stat().st_size

    def body(self, span: Span) -> Body:
        """The file's bytes, for the kernel to send.

        Raises:
            BlobNotFound: where it was removed meanwhile.
        """
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            raise BlobNotFound(self._path.name) from None
        return FileRange(file, offset=span.start, length=span.length)
