"""Imports a bundle from a pipe, in one pass.

Nothing can be looked up in advance, so each blob is verified into the store as it comes, where it
has no name until its model is complete. A bundle that pannier wrote has its manifests and
signatures in front: then the policy is asked before the first weight, and what is not wanted is
read past.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import InvalidBundle, TruncatedBundle
from ..reference import Reference
from ..store.store import Store
from ..transfer.content import Reader
from ..transfer.events import Advanced, OnEvent, Started, ignore
from .load import Loaded, ask_policy, choose, complete, is_model, reachable_in, refuse_strays
from .source import MAX_INDEX, MAX_LAYOUT, Bundle, check_layout, parse_index
from .tarstream import LAYOUT_NAME, Member, TarStream

# The policy is asked before the first blob of this size; signatures are far smaller.
_LARGE = 1 << 20
_CHUNK = 1 << 20


def load_stream(
    store: Store,
    stream: Reader,
    names: Sequence[Reference] = (),
    *,
    place: str,
    on_event: OnEvent = ignore,
) -> Loaded:
    """Import models from a pipe, in one pass.

    Raises:
        as `load`; blobs that came before the trouble are whole and verified, and have no name.
    """
    with store.lease():
        return _Staging(store, stream, names, place, on_event).run()


class _StoreBlobs:
    """The blobs of a pipe that have arrived: they lie in the store already."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.sizes: dict[Digest, int] = {}

    def open(self, digest: Digest, offset: int) -> AbstractContextManager[Reader]:
        descriptor = Descriptor("", digest, self.sizes[digest])
        return self._store.fetch(descriptor, offset=offset)

    def piece(self, digest: Digest) -> tuple[int, int] | None:
        return None


class _Staging:
    """One pass over a pipe."""

    def __init__(
        self,
        store: Store,
        stream: Reader,
        names: Sequence[Reference],
        place: str,
        on_event: OnEvent,
    ) -> None:
        self._store = store
        self._tar = TarStream(stream, place=place)
        self._names = names
        self._place = place
        self._on_event = on_event
        self._blobs = _StoreBlobs(store)
        self._bundle: Bundle | None = None
        self._has_layout = False
        self._needed: dict[Digest, Descriptor] | None = None
        self._known: dict[Digest, Descriptor] = {}
        self._damage: str | None = None
        self._bad: set[Digest] = set()

    def run(self) -> Loaded:
        """Take in every member, then complete the models."""
        for member in self._members():
            if member.digest is not None:
                self._blob(member, member.digest)
            elif member.name == LAYOUT_NAME:
                check_layout(self._tar.read_all(member, max_size=MAX_LAYOUT), self._place)
                self._has_layout = True
            else:
                raw = self._tar.read_all(member, max_size=MAX_INDEX)
                self._bundle = Bundle(self._place, parse_index(raw, self._place), self._blobs)
        if self._bundle is None or not self._has_layout:
            raise InvalidBundle(self._place, self._damage or "not an OCI archive")
        self._bundle.damage = self._damage
        self._bundle.damaged |= self._bad
        if not self._damage:
            refuse_strays(self._bundle)
        return complete(self._store, self._bundle, self._names, self._on_event)

    def _members(self) -> Iterator[Member]:
        try:
            yield from self._tar
        except TruncatedBundle as error:
            self._damage = error.reason

    def _blob(self, member: Member, digest: Digest) -> None:
        if member.size >= _LARGE and self._needed is None and self._bundle is not None:
            self._needed = self._prepare(self._bundle)
        part = Descriptor("", digest, member.size)
        if self._needed is not None and digest not in self._needed:
            # What a damaged manifest leads to is not known.
            if digest not in self._known and not self._bad:
                raise InvalidBundle(self._place, f"blob {digest} belongs to no model")
            return
        if not self._store.exists(part):
            part = (self._needed or {}).get(digest, part)
            self._on_event(Started(part))
            with self._store.ingest(algorithm=digest.algorithm) as ingest:
                while data := self._tar.read(_CHUNK):
                    ingest.write(data)
                    self._on_event(Advanced(part, len(data)))
                if ingest.size != member.size or ingest.digest != digest:
                    self._bad.add(digest)
                    return
                ingest.commit()
        self._blobs.sizes[digest] = member.size

    def _prepare(self, bundle: Bundle) -> dict[Digest, Descriptor]:
        """Once all manifests are here: choose, ask the policy, and say what is needed."""
        self._known = reachable_in(bundle, [item.descriptor for item in bundle.items])
        roots = []
        for item in choose(bundle, self._names):
            root = item.descriptor
            if root.digest not in self._blobs.sizes and not self._store.exists(root):
                continue
            ask_policy(self._store, bundle, item, self._on_event)
            roots.append(item.descriptor)
        attached = [item.descriptor for item in bundle.items if not is_model(bundle, item)]
        return reachable_in(bundle, roots + attached, self._store)
