"""The models of the store as the server needs them: understood once, then remembered by digest.

A manifest never changes under its digest, so what was read of it is kept; names are looked up
afresh on every call, because other processes write to the store too.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from pannier.pkgmgr.descriptor import Descriptor
from pannier.pkgmgr.dialects import read_spec
from pannier.pkgmgr.dialects.base import MAX_SMALL_BLOB
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import PannierError
from pannier.pkgmgr.modelspec import ModelSpec, Role
from pannier.pkgmgr.operations import model_manifest, read_header
from pannier.pkgmgr.settings import Settings
from pannier.pkgmgr.store.index import Entry
from pannier.pkgmgr.store.store import Store
from pannier.pkgmgr.transfer.events import OnEvent, ignore
from pannier.pkgmgr.trust.gate import LoadGate
from pannier.pkgmgr.unpack import unpack
from pannier.runtime.interface import ModelSource
from pannier.runtime.prompt import PromptBuilder
from pannier.runtime.template.choice import preference_of

from .cards import Card, Cards, Facts

if TYPE_CHECKING:
    from pannier.pkgmgr.gguf import Header

log = logging.getLogger(__name__)

# Specs and list lines are small (a few kB); headers with their vocabulary take megabytes.
_MAX_SPECS = 4096
_MAX_HEADERS = 16

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class _Kept(Generic[_Key, _Value]):
    """The values used last, made where they are missing. Any thread may call."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[_Key, _Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: _Key, make: Callable[[], _Value]) -> _Value:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        with self._lock:
            self._values[key] = value
            if len(self._values) > self._limit:
                self._values.popitem(last=False)
        return value


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model that can be run.

    Attributes:
        entry: its name in the store.
        size: bytes of all layers and the config.
        prompts: makes its prompts; shared by all requests.
    """

    entry: Entry
    spec: ModelSpec
    size: int
    prompts: PromptBuilder
    source: ModelSource

    @property
    def name(self) -> str:
        """The shortest form, with tag."""
        return self.entry.reference.familiar


class Library:
    """Reads models from one store. Any thread may call."""

    def __init__(self, store: Store, settings: Settings, *, on_event: OnEvent = ignore) -> None:
        """`on_event` is told what the trust policy warns of."""
        self.store = store
        self.settings = settings
        self._gate = LoadGate(store, on_event=on_event)
        self._specs: _Kept[Digest, tuple[ModelSpec, int]] = _Kept(_MAX_SPECS)
        self._prompts: _Kept[Digest, PromptBuilder] = _Kept(_MAX_HEADERS)
        self._cards = Cards(store, self._facts)

    def find(self, name: str) -> StoredModel:
        """A model by its name.

        Raises:
            InvalidReference: it is no name.
            ModelNotFound: the store has no such model.
            ManifestError: what has the name is no model.
            Untrusted: the trust policy refuses it.
        """
        entry = self.store.find(self.settings.parse(name))
        self._gate.check(entry.reference, entry.descriptor.digest)
        packed, size = self._spec(entry.descriptor.digest)
        spec = unpack(self.store, packed)
        prompts = self._prompts.get(spec.digest, lambda: self._make_prompts(spec))
        source = ModelSource(spec.digest, entry.reference.familiar, spec.files(self.store.path))
        return StoredModel(entry, spec, size, prompts, source)

    def spec(self, name: str) -> tuple[Entry, ModelSpec]:
        """A model's spec without what running it needs; raises as `find` does."""
        entry = self.store.find(self.settings.parse(name))
        return entry, self._spec(entry.descriptor.digest)[0]

    def cards(self) -> tuple[Card, ...]:
        """Every model of the store, newest first; what is no model is left out.

        The same tuple as long as no name changes.
        """
        return self._cards.all()

    def warm_aside(self) -> None:
        """Warm in a thread, so that the first who asks for the catalogue need not wait."""
        threading.Thread(target=self.warm, name="pannier-catalogue", daemon=True).start()

    def warm(self) -> None:
        """Read what the catalogue needs, and keep it for the next start."""
        try:
            self.cards()
            self._cards.save()
        except PannierError as error:
            log.warning("cannot read the catalogue: %s", error)

    def by_spec(self) -> dict[Digest, Card]:
        """The newest card of each model, by the digest that runners know it by."""
        cards: dict[Digest, Card] = {}
        for card in self.cards():
            cards.setdefault(card.facts.model, card)
        return cards

    def layers(self, digest: Digest) -> tuple[Digest, ...]:
        """The layers of a stored manifest, in order."""
        return tuple(layer.digest for layer in model_manifest(self.store, digest).layers)

    def header(self, spec: ModelSpec, *, role: Role = Role.WEIGHTS, arrays: bool) -> Header | None:
        """The GGUF header of a model's weights or of another role; None where it has no such."""
        try:
            return read_header(self.store, spec, role=role, arrays=arrays)
        except PannierError:
            return None

    def _facts(self, digest: Digest) -> Facts:
        spec, size = self._spec(digest)
        return Facts(size, spec.digest, spec.details)

    def _spec(self, digest: Digest) -> tuple[ModelSpec, int]:
        return self._specs.get(digest, lambda: self._read_spec(digest))

    def _read_spec(self, digest: Digest) -> tuple[ModelSpec, int]:
        manifest = model_manifest(self.store, digest)
        size = manifest.size + manifest.descriptor.size
        return read_spec(manifest, self._open_blob), size

    def _open_blob(self, descriptor: Descriptor) -> bytes:
        return self.store.read(descriptor, max_size=MAX_SMALL_BLOB)

    def _make_prompts(self, spec: ModelSpec) -> PromptBuilder:
        header = read_header(self.store, spec, arrays=True)
        preference = preference_of(self.settings.environ)
        return PromptBuilder.for_model(spec, header, preference=preference)
