"""The lines of the catalogue: made anew only where a name changed, and remembered by digest.

What a manifest says never changes under its digest. So it is read once; a server that ends keeps
what it knows in `catalogue.json` beside the store, and the next one need not read it again. That
file is a cache: whatever is wrong with it, the manifests are read instead.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pannier.pkgmgr import strictjson
from pannier.pkgmgr.attachments import index_members, is_attachment
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import (
    IntegrityError,
    InvalidDigest,
    ManifestError,
    NotFound,
    PannierError,
)
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.store.files import disk_errors, replace_file
from pannier.pkgmgr.store.index import Entry
from pannier.pkgmgr.store.store import Store

log = logging.getLogger(__name__)

# About 400 bytes a model: this is for a hundred thousand of them.
_MAX_FILE = 40 << 20


@dataclass(frozen=True, slots=True)
class Facts:
    """What a manifest says. `size` is in bytes; `model` is the digest that runners know it by."""

    size: int
    model: Digest
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Card:
    """One line of the catalogue."""

    entry: Entry
    facts: Facts

    @property
    def reference(self) -> Reference:
        """The model's name."""
        return self.entry.reference

    @property
    def digest(self) -> Digest:
        """Of the manifest."""
        return self.entry.descriptor.digest


class Cards:
    """The catalogue of one store. Any thread may call.

    Args:
        store: whose.
        read: what the manifest of a digest says; may raise ManifestError, NotFound and
            IntegrityError, and the name is left out.
    """

    def __init__(self, store: Store, read: Callable[[Digest], Facts]) -> None:
        self._store = store
        self._read = read
        self._path = store.root / "catalogue.json"
        self._lock = threading.Lock()
        self._entries: tuple[Entry, ...] | None = None
        self._cards: tuple[Card, ...] = ()
        # None is what hangs on a model and is none.
        self._facts: dict[Digest, Facts | None] | None = None
        self._is_saved = True

    def all(self) -> tuple[Card, ...]:
        """Every model, newest first; the same tuple as long as no name changes.

        The cards of names that did not change are the same objects.
        """
        entries = self._store.entries()
        if self._entries is not entries:
            with self._lock:
                self._update(entries)
        return self._cards

    def save(self) -> None:
        """Write what is known to the cache file, where it does not have it yet."""
        with self._lock:
            known = self._facts or {}
            used = {entry.descriptor.digest for entry in self._entries or ()}
            kept = {key: item for key, item in known.items() if key in used}
            if self._is_saved and len(kept) == len(known):
                return
            self._facts = kept
            self._is_saved = True
            text = _rendered(kept)
        try:
            with disk_errors(self._path):
                replace_file(self._path, text)
        except PannierError as error:
            log.warning("cannot keep the catalogue: %s", error)

    def _update(self, entries: tuple[Entry, ...]) -> None:
        if self._facts is None:
            self._facts = _loaded(self._path)
        before = {id(card.entry): card for card in self._cards}
        made = (before.get(id(entry)) or self._card(entry) for entry in entries)
        cards = [card for card in made if card is not None]
        if not all(card.reference.tag for card in cards):
            # What an index names is a part of it, and no model beside it.
            members = {
                digest
                for entry in entries
                for digest in index_members(self._store, entry.descriptor)
            }
            cards = [card for card in cards if card.reference.tag or card.digest not in members]
        self._cards = tuple(cards)
        self._entries = entries

    def _card(self, entry: Entry) -> Card | None:
        assert self._facts is not None
        digest = entry.descriptor.digest
        if digest not in self._facts:
            try:
                facts = None if is_attachment(self._store, entry) else self._read(digest)
            except (ManifestError, NotFound, IntegrityError) as error:
                log.info("%s is left out of the catalogue: %s", entry.reference, error)
                return None
            if facts is None and entry.reference.tag is not None:
                return None  # by its tag, which says nothing of its digest
            self._facts[digest] = facts
            self._is_saved = False
        facts = self._facts[digest]
        return None if facts is None else Card(entry, facts)


def _version() -> str:
    """Other versions may understand the same manifests better."""
    return version("pannier")


def _rendered(facts: Mapping[Digest, Facts | None]) -> bytes:
    models = {
        str(digest): None if item is None else [item.size, str(item.model), dict(item.details)]
        for digest, item in facts.items()
    }
    return json.dumps({"pannier": _version(), "models": models}, separators=(",", ":")).encode()


def _facts(item: Any) -> Facts | None:
    if item is None:
        return None
    size, model, details = item
    return Facts(int(size), Digest.parse(model), dict(details))


def _loaded(path: Path) -> dict[Digest, Facts | None]:
    try:
        value = strictjson.loads(path.read_bytes(), max_size=_MAX_FILE)
        if not isinstance(value, dict) or value.get("pannier") != _version():
            return {}
        return {Digest.parse(key): _facts(item) for key, item in value["models"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, LookupError, AttributeError, InvalidDigest) as error:
        log.info("cannot use %s: %s", path, error)
        return {}
