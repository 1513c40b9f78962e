"""What a bridge keeps: models of the upstream registry as names of the store, oldest use first out.

Only models that the bridge itself brought are ever removed; which those are, and when they were
last asked for, stands in ``bridge.json`` of the store's directory.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable

from pannier.pkgmgr.descriptor import Descriptor
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import ModelNotFound
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.store.collect import reachable
from pannier.pkgmgr.store.files import replace_file
from pannier.pkgmgr.store.index import Entry
from pannier.pkgmgr.store.store import Store

log = logging.getLogger(__name__)

# A use is written down at most this often; the order of eviction needs no more.
_TOUCH_S = 60.0
# Blobs of models that were never completed are dropped after this.
_ABANDONED_S = 6 * 3600.0


class Cache:
    """The cached models of one store. Thread-safe.

    Args:
        max_size: bytes that they may have together; None for no limit.
        clock: seconds since 1970.
    """

    def __init__(
        self, store: Store, *, max_size: int | None, clock: Callable[[], float] = time.time
    ) -> None:
        self.max_size = max_size
        self._store = store
        self._clock = clock
        self._path = store.root / "bridge.json"
        self._lock = threading.Lock()
        self._used = self._load()

    def fits(self, size: int) -> bool:
        """Whether something of that size may be kept at all."""
        return self.max_size is None or size <= self.max_size

    def adopt(self, reference: Reference, descriptor: Descriptor) -> None:
        """Name a model whose blobs are all here, and make room for it."""
        with self._lock:
            try:
                known = self._store.find(reference).descriptor.digest == descriptor.digest
            except ModelNotFound:
                known = False
            if not known:
                self._store.tag(descriptor, reference)
                self._used[reference.name] = self._clock()
                self._trim(keep=reference.name)
                self._save()

    def touch(self, reference: Reference) -> None:
        """Note that a model was asked for."""
        with self._lock:
            now, used = self._clock(), self._used.get(reference.name)
            if used is not None and now - used > _TOUCH_S:
                self._used[reference.name] = now
                self._save()

    def _trim(self, *, keep: str) -> None:
        entries = {entry.reference.name: entry for entry in self._store.entries()}
        self._used = {name: used for name, used in self._used.items() if name in entries}
        if self.max_size is None:
            return
        # What has just come goes last, but it goes where it is too large alone.
        waiting = sorted(self._used, key=lambda name: (name == keep, self._used[name]))
        while waiting and self._size(entries[name] for name in self._used) > self.max_size:
            name = waiting.pop(0)
            del self._used[name]
            self._evict(entries[name])
        self._store.collect(grace_s=_ABANDONED_S)

    def _evict(self, entry: Entry) -> None:
        log.info("making room: %s", entry.reference)
        needed = self._needs(entry)
        self._store.untag(entry.reference)
        # The manifest last: without it nobody could tell what it needed.
        for digest in needed:
            if self._store.path(digest).exists():
                self._store.discard(digest)

    def _size(self, entries: Iterable[Entry]) -> int:
        sizes: dict[Digest, int] = {}
        for entry in entries:
            sizes |= self._needs(entry)
        return sum(sizes.values())

    def _needs(self, entry: Entry) -> dict[Digest, int]:
        found = list(reachable(iter((entry.descriptor,)), self._store.manifest))
        return {item.digest: item.size for item in reversed(found)}

    def _load(self) -> dict[str, float]:
        try:
            value = json.loads(self._path.read_text())["models"]
            return {str(name): float(used) for name, used in value.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("%s is damaged, so what it named is kept: %s", self._path, error)
            return {}

    def _save(self) -> None:
        value = {"version": 1, "models": self._used}
        replace_file(self._path, json.dumps(value, indent=1).encode())
