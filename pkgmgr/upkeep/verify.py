"""Hashes what the store holds, says what rotted and where, and mends it block by block.

Several files at a time, at a limited rate if asked; each file that is whole gets a stamp at once,
so that an interrupted run goes on where it was. Rot is told by block and tensor where a block
index of the blob is known.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import BlobNotFound, PannierError
from ..reference import Reference
from ..store.collect import is_manifest
from ..store.store import Store
from ..transfer.events import Advanced, Finished, OnEvent, Planned, Skipped, Started, ignore
from .stamps import Stamp, is_fresh, read_stamps, write_stamps

# SHA-256 of 1 MiB takes about a millisecond: short enough to notice Ctrl-C and to keep a rate.
_CHUNK = 1 << 20
JOBS = 2
# Stamps are written this often, so that a killed run loses little.
_SAVE_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Fault:
    """A blob that is not what it should be.

    Attributes:
        models: the names that need it.
        reason: `missing`, `size` or `digest`.
        where: the sections (tensors, keys) that are damaged, as far as an index tells.
    """

    descriptor: Descriptor
    models: tuple[Reference, ...]
    reason: str
    where: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verified:
    """What a run found. `hashed` and `skipped` are bytes."""

    num_blobs: int
    hashed: int
    skipped: int
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class Needed:
    """A blob, and the names that need it."""

    descriptor: Descriptor
    models: tuple[Reference, ...]


def verify(
    store: Store,
    references: Sequence[Reference] | None = None,
    *,
    fresh_is_enough: bool = False,
    jobs: int = JOBS,
    rate: float | None = None,
    on_event: OnEvent = ignore,
) -> Verified:
    """Hash the blobs of some models, or (None) of all.

    Args:
        store: the store.
        references: names; None means everything that has a name.
        fresh_is_enough: skip files that carry a stamp and were not written since.
        jobs: files at a time.
        rate: bytes per second over all jobs that is not exceeded; None for no limit.
        on_event: told of progress.

    Raises:
        ModelNotFound: where the store has no such model.
    """
    needed, faults = _needed(store, references)
    on_event(Planned(tuple(item.descriptor for item in needed)))
    run = _Run(store, _Throttle(rate), on_event)
    stamps = read_stamps(store) if fresh_is_enough else {}
    todo = []
    for item in needed:
        if is_fresh(store, item.descriptor.digest, stamps):
            on_event(Skipped(item.descriptor))
        else:
            todo.append(item)
    with ThreadPoolExecutor(jobs) as pool:
        try:
            found = list(pool.map(run.check, todo))
        except BaseException:
            run.stop.set()
            raise
        finally:
            run.save()
    faults += [fault for fault in found if fault is not None]
    hashed = sum(item.descriptor.size for item in todo)
    total = sum(item.descriptor.size for item in needed)
    return Verified(len(needed), hashed, total - hashed, tuple(faults))


def needed_by(store: Store) -> dict[Digest, Needed]:
    """Every blob that a name needs, as far as manifests can be read."""
    needed, _ = _needed(store, None)
    return {item.descriptor.digest: item for item in needed}


class _Run:
    """One run over many files; `check` is called from several threads."""

    def __init__(self, store: Store, throttle: _Throttle, on_event: OnEvent) -> None:
        self.stop = threading.Event()
        self._store = store
        self._throttle = throttle
        self._on_event = on_event
        self._lock = threading.Lock()
        self._changes: dict[Digest, Stamp | None] = {}
        self._saved = time.monotonic()

    def check(self, item: Needed) -> Fault | None:
        """Hash one blob."""
        part = item.descriptor
        path = self._store.path(part.digest)
        self._on_event(Started(part))
        try:
            stamp = Stamp.of(path, now=time.time())
            actual = self._hash(path, part) if stamp.size == part.size else None
        except FileNotFoundError:
            return Fault(part, item.models, "missing")
        good = actual == part.digest.hex
        self._note(part.digest, stamp if good else None)
        if good:
            self._on_event(Finished(part))
            return None
        where = damaged_sections(self._store, part)
        return Fault(part, item.models, "digest" if actual else "size", where)

    def save(self) -> None:
        """Write what is known so far."""
        with self._lock:
            changes, self._changes = self._changes, {}
            self._saved = time.monotonic()
        if changes:
            write_stamps(self._store, changes)

    def _note(self, digest: Digest, stamp: Stamp | None) -> None:
        with self._lock:
            self._changes[digest] = stamp
            due = time.monotonic() - self._saved > _SAVE_EVERY_S
        if due:
            self.save()

    def _hash(self, path: Path, part: Descriptor) -> str | None:
        state = part.digest.hasher()
        buffer = memoryview(bytearray(_CHUNK))
        with path.open("rb", buffering=0) as file:
            while not self.stop.is_set() and (count := file.readinto(buffer)):
                state.update(buffer[:count])
                self._throttle.took(count, self.stop)
                self._on_event(Advanced(part, count))
        return state.hexdigest()


class _Throttle:
    """Keeps several threads together below a rate."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._lock = threading.Lock()
        self._free_at = time.monotonic()

    def took(self, count: int, stop: threading.Event) -> None:
        """Account for bytes, and wait as long as they should have taken."""
        if self._rate is None:
            return
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + count / self._rate
            wait_s = self._free_at - now
        stop.wait(wait_s)


def damaged_sections(store: Store, part: Descriptor) -> tuple[str, ...]:
    """Which sections of a damaged blob are bad, where the store has a block index of it."""
    from ..bundle.blockindex import pread
    from ..bundle.blocks import stored_index

    index = stored_index(store, part.digest)
    if index is None:
        return ()
    with store.path(part.digest).open("rb", buffering=0) as file:
        bad = [
            block.section
            for block in index.blocks
            if not block.matches(pread(file.fileno(), block.size, block.offset))
        ]
    return tuple(dict.fromkeys(bad))


def _needed(
    store: Store, references: Sequence[Reference] | None
) -> tuple[list[Needed], list[Fault]]:
    if references is None:
        entries = store.entries()
    else:
        entries = tuple(store.find(reference) for reference in references)
    names: dict[Digest, list[Reference]] = {}
    parts: dict[Digest, Descriptor] = {}
    faults: dict[Digest, Fault] = {}
    for entry in entries:
        for part in _closure(store, entry.descriptor, faults, entry.reference):
            parts.setdefault(part.digest, part)
            names.setdefault(part.digest, []).append(entry.reference)
    needed = [Needed(part, tuple(names[digest])) for digest, part in parts.items()]
    # The largest first: a long file begun last would leave one thread working alone.
    needed.sort(key=lambda item: -item.descriptor.size)
    return needed, list(faults.values())


def _closure(
    store: Store, root: Descriptor, faults: dict[Digest, Fault], name: Reference
) -> Iterator[Descriptor]:
    seen: set[Digest] = set()
    waiting = [root]
    while waiting:
        part = waiting.pop()
        if part.digest in seen:
            continue
        seen.add(part.digest)
        if is_manifest(part):
            try:
                waiting.extend(store.manifest(part.digest).children)
            except BlobNotFound:
                faults.setdefault(part.digest, Fault(part, (name,), "missing"))
                continue
            except PannierError:
                faults.setdefault(part.digest, Fault(part, (name,), "digest"))
                continue
        yield part
