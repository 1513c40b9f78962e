"""Which repositories of a registry are likely to hold a blob, by what the local store has seen."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from ..digest import Digest
from ..errors import PannierError
from ..reference import Reference
from ..store.store import Store


def likely_mounts(store: Store, target: Reference) -> Mapping[Digest, str]:
    """For the blobs of models of the same registry, a repository other than the target's own."""
    found: dict[Digest, str] = {}
    for entry in store.entries():
        name = entry.reference
        if name.host != target.host or name.repository == target.repository:
            continue
        # An entry that cannot be read is of no use here, and not this command's business.
        with suppress(PannierError):
            for child in store.manifest(entry.descriptor.digest).children:
                found.setdefault(child.digest, name.repository)
    return found
