"""What the other side has already: told by names of the store or by bundles that were sent."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..digest import Digest
from ..errors import BlobNotFound, NotFound
from ..reference import Reference
from ..store.collect import reachable
from ..store.store import Store
from .source import Bundle, open_bundle


def known_digests(
    store: Store, bundles: Iterable[Path], references: Iterable[Reference]
) -> frozenset[Digest]:
    """The digests of everything that these bundles and models consist of.

    A bundle that left something out counts as if it had it: its receiver could not have used it
    otherwise.

    Raises:
        NotFound: where the store lacks a model, or there is no such bundle.
        InvalidBundle: where one is no bundle.
    """
    known: set[Digest] = set()
    for path in bundles:
        try:
            with open_bundle(path) as bundle:
                known |= _held(bundle)
        except FileNotFoundError as error:
            raise NotFound(f"there is no bundle {path}") from error
    for reference in references:
        root = store.find(reference).descriptor
        known |= {item.digest for item in reachable(iter((root,)), store.manifest)}
    return frozenset(known)


def _held(bundle: Bundle) -> set[Digest]:
    held = set(bundle.blobs.sizes)
    for item in bundle.items:
        try:
            held |= {part.digest for part in reachable(iter((item.descriptor,)), bundle.manifest)}
        except BlobNotFound:
            continue
    return held
