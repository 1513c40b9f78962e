"""Reachability: what a name needs, and the sweep of everything that no name needs.

The mark starts from every descriptor of index.json, also from those of other tools. A blob that
nothing reaches goes only when it is older than the grace time and older than every living lease.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .. import mediatypes
from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import BlobNotFound, InvalidDigest
from ..manifest import MAX_MANIFEST_SIZE, Index, Manifest
from . import derived
from .ingest import TEMPORARY
from .lock import try_flock

# A blob's time is refreshed by whoever counts on it unless it is younger than this.
FRESH_S = 60.0
# Clocks of one machine that write and read file times may differ by this much.
_MARGIN_S = 2 * FRESH_S
# Partial downloads that nobody came back for are kept this long.
PARTIAL_AGE_S = 14 * 24 * 3600.0

# Where runtimes keep states of models, in the store's folder.
STATES = "states"

_MANIFESTS = mediatypes.MANIFEST_TYPES | mediatypes.INDEX_TYPES


@dataclass(frozen=True, slots=True)
class Collected:
    """What a sweep removed, or would remove; `size` in bytes."""

    count: int
    size: int


def is_manifest(descriptor: Descriptor) -> bool:
    """Whether a descriptor names a manifest or an index, which have children of their own."""
    return descriptor.media_type in _MANIFESTS and descriptor.size <= MAX_MANIFEST_SIZE


def is_optional(descriptor: Descriptor) -> bool:
    """Whether a manifest may be here without this layer."""
    return descriptor.media_type.startswith(mediatypes.NONDISTRIBUTABLE)


def reachable(
    roots: Iterator[Descriptor], open_manifest: Callable[[Digest], Manifest | Index]
) -> Iterator[Descriptor]:
    """Every descriptor that the roots need, themselves included, each digest once.

    Raises:
        BlobNotFound: where a manifest on the way is absent.
        InvalidManifest: where one cannot be read.
    """
    seen: set[Digest] = set()
    waiting = list(roots)
    while waiting:
        descriptor = waiting.pop()
        if descriptor.digest in seen:
            continue
        seen.add(descriptor.digest)
        yield descriptor
        if is_manifest(descriptor):
            waiting.extend(open_manifest(descriptor.digest).children)


def require_closure(
    root: Descriptor,
    open_manifest: Callable[[Digest], Manifest | Index],
    has: Callable[[Descriptor], bool],
) -> None:
    """Check that everything a manifest needs is there; non-distributable layers may be absent.

    Raises:
        BlobNotFound: naming the first blob that is not.
    """
    for descriptor in reachable(iter((root,)), open_manifest):
        if not (has(descriptor) or is_optional(descriptor)):
            raise BlobNotFound(str(descriptor.digest))


def sweep(
    blobs: Path, *, keep: set[Digest], older_than: float, dry_run: bool, only: Set[Digest] | None
) -> Collected:
    """Remove the blob files that are not in `keep` and were last used before `older_than`.

    What was unpacked from a layer goes the way of the layer. `only` names the blobs that may go;
    None is all.
    """
    keep = keep | set(derived.kept(blobs.parent, keep))
    if only is not None:
        only = only | set(derived.kept(blobs.parent, set(only)))
    count = size = 0
    for digest, entry in _blob_files(blobs):
        if digest in keep or (only is not None and digest not in only):
            continue
        status = entry.stat(follow_symlinks=False)
        if status.st_mtime >= older_than:
            continue
        if not dry_run:
            os.unlink(entry.path)
            derived.forget(blobs.parent, digest)
        count, size = count + 1, size + status.st_size
    return Collected(count, size)


def sweep_states(
    folder: Path, *, keep: Set[Digest], dry_run: bool, only: Set[Digest] | None
) -> Collected:
    """Remove what runtimes saved of models that no name needs: a folder for each digest.

    Prompts stand in it, so it goes at once. `only` names the models that count; None is all.
    """
    count = size = 0
    kept, chosen = _hex(keep), None if only is None else _hex(only)
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name in kept or (chosen is not None and entry.name not in chosen):
                continue
            files = [path for path in Path(entry.path).rglob("*") if path.is_file()]
            count, size = count + len(files), size + sum(path.stat().st_size for path in files)
            if not dry_run:
                shutil.rmtree(entry.path, ignore_errors=True)
    return Collected(count, size)


def _hex(digests: Set[Digest]) -> set[str]:
    return {digest.hex for digest in digests}


def sweep_unfinished(folder: Path, *, now: float, dry_run: bool) -> Collected:
    """Remove what crashed writers left: nobody holds its flock and nobody wrote it lately."""
    count = size = 0
    for path, status in _files(folder):
        if now - status.st_mtime < (FRESH_S if path.suffix == TEMPORARY else PARTIAL_AGE_S):
            continue
        if dry_run or remove_if_dead(path):
            count, size = count + 1, size + disk_size(status)
    return Collected(count, size)


def disk_size(status: os.stat_result) -> int:
    """Bytes that a file takes: a partial download has its full length at once, with holes."""
    return min(status.st_size, status.st_blocks * 512)


def oldest_lease(folder: Path) -> float | None:
    """When the oldest living lease began, in seconds since 1970; dead ones are removed."""
    begun = [status.st_mtime for path, status in _files(folder) if not remove_if_dead(path)]
    return min(begun, default=None)


def cut_off(now: float, grace_s: float, leases: Path) -> float:
    """Blobs that were last used before this time are fair game."""
    begun = oldest_lease(leases)
    limit = now - grace_s
    return limit if begun is None else min(limit, begun - _MARGIN_S)


def remove_if_dead(path: Path) -> bool:
    """Remove a file that no living process has locked."""
    with suppress(FileNotFoundError):
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if not try_flock(fd):
                return False
            path.unlink()
        finally:
            os.close(fd)
    return True


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in list(entries):
            with suppress(FileNotFoundError):
                yield Path(entry.path), entry.stat(follow_symlinks=False)


def _blob_files(blobs: Path) -> Iterator[tuple[Digest, os.DirEntry[str]]]:
    for algorithm in ("sha256", "sha512"):
        with suppress(FileNotFoundError), os.scandir(blobs / algorithm) as entries:
            for entry in list(entries):
                with suppress(InvalidDigest):
                    yield Digest.parse(f"{algorithm}:{entry.name}"), entry
