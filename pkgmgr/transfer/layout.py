"""An OCI image layout directory of somebody else's as a target (image-spec v1.1.1, image-layout).

The layout's names are what tools of the trade write there: the tag alone, or a full name. Blobs
are taken in by the same crash-safe way as into the store.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from ..descriptor import Descriptor
from ..errors import InvalidInput, ModelNotFound
from ..reference import Reference
from ..store.store import Store
from .content import Reader


class LayoutDirectory:
    """A layout directory. Needs no closing; may be used from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @classmethod
    def open(cls, root: Path, *, create: bool) -> Self:
        """Open the layout at `root`.

        Raises:
            InvalidInput: where there is none and `create` is false, or something else is there.
        """
        present = (root / "oci-layout").is_file()
        if not present and not create:
            raise InvalidInput(f"{root} is not an OCI image layout directory")
        if not present and root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise InvalidInput(f"{root} is not empty and is no OCI image layout directory")
        return cls(Store.open(root) if create else Store(root.absolute()))

    @property
    def place(self) -> str:
        """What messages call this directory."""
        return f"oci:{self._store.root}"

    def resolve(self, reference: Reference) -> Descriptor:
        """The manifest that the layout has under the full name, the tag alone, or the digest.

        Raises:
            ModelNotFound: where it has none.
        """
        descriptors = self._store.names()
        if reference.digest is not None:
            found = [item for _, item in descriptors if item.digest == reference.digest]
        else:
            found = [item for name, item in descriptors if name == reference.name]
            found = found or [item for name, item in descriptors if name == reference.tag]
        if not found:
            names = ", ".join(sorted({name for name, _ in descriptors if name})[:8])
            raise ModelNotFound(
                reference.tag or str(reference.digest),
                place=self.place,
                hint=f"it holds {names}" if names else None,
            )
        return found[-1]

    def only(self) -> Descriptor | None:
        """The one manifest of a layout that has just one; None where it has none or several."""
        found = {item.digest: item for _, item in self._store.names()}
        return next(iter(found.values())) if len(found) == 1 else None

    def exists(self, descriptor: Descriptor) -> bool:
        """Whether the blob is there in full length."""
        return self._store.exists(descriptor)

    @contextmanager
    def fetch(self, descriptor: Descriptor, *, offset: int = 0) -> Iterator[Reader]:
        """Open a blob from byte `offset` on, unverified."""
        with self._store.fetch(descriptor, offset=offset) as content:
            yield content

    def push(self, descriptor: Descriptor, content: Reader) -> None:
        """Take in one blob or manifest."""
        self._store.push(descriptor, content)

    def tag(self, descriptor: Descriptor, reference: Reference) -> None:
        """Name a manifest by the reference's tag, as skopeo and oras do in layouts."""
        self._store.tag_as(descriptor, reference.tag or str(reference.digest))
