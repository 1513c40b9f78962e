"""How much disk the store uses, and what of it a prune would give back."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from .. import attachments
from ..reference import Reference
from ..store.collect import STATES, Collected, disk_size
from ..store.store import Store
from .verify import needed_by

# A blob that nothing needs is spared this long: somebody may be about to name it.
GRACE_S = 3600.0


@dataclass(frozen=True, slots=True)
class ModelUse:
    """A model's share. `size` counts all that it needs, `own` what no other name needs."""

    reference: Reference
    size: int
    own: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Disk use of a store, in bytes.

    Attributes:
        blobs: all blob files.
        unnamed: blob files that no name needs.
        unfinished: partial downloads and the like.
        states: beginnings of prompts that models were run with, so that they start sooner.
        free: on the file system of the store.
    """

    models: tuple[ModelUse, ...]
    num_blobs: int
    blobs: int
    unnamed: int
    unfinished: int
    states: int
    free: int


def usage(store: Store) -> Usage:
    """Measure a store."""
    needed = needed_by(store)
    files = {
        path.name: path.stat().st_size
        for algorithm in ("sha256", "sha512")
        for path in _files(store.root / "blobs" / algorithm)
    }
    known = {digest.hex for digest in needed}
    models = []
    entries = attachments.model_entries(store)
    shown = {entry.reference for entry in entries}
    for entry in entries:
        mine = [item for item in needed.values() if entry.reference in item.models]
        own = [item for item in mine if shown.intersection(item.models) == {entry.reference}]
        models.append(
            ModelUse(
                entry.reference,
                sum(item.descriptor.size for item in mine),
                sum(item.descriptor.size for item in own),
            )
        )
    return Usage(
        tuple(sorted(models, key=lambda model: -model.size)),
        len(files),
        sum(files.values()),
        sum(size for name, size in files.items() if name not in known),
        sum(disk_size(path.stat()) for path in _files(store.root / "ingest")),
        sum(path.stat().st_size for path in (store.root / STATES).rglob("*") if path.is_file()),
        shutil.disk_usage(store.root).free,
    )


def prune(store: Store, *, grace_s: float = GRACE_S, dry_run: bool = False) -> Collected:
    """Remove what no name needs and nobody used within the grace time.

    A pull or import that is under way holds a lease, which spares what it counts on.

    Raises:
        BlobNotFound: where a named manifest is gone; nothing is removed then.
    """
    return store.collect(grace_s=grace_s, dry_run=dry_run)


def _files(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [Path(item.path) for item in entries if item.is_file(follow_symlinks=False)]
    except FileNotFoundError:
        return []
