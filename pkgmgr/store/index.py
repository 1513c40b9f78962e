"""index.json: the one truth about names, as a pure value.

Implements image-spec v1.1.1, image-layout.md, section "index.json file". Each model is one
descriptor whose annotation `org.opencontainers.image.ref.name` holds the full name. Descriptors
that other tools wrote, with short names or none, are kept as they are but are no models of ours.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from .. import mediatypes, strictjson
from ..descriptor import Descriptor
from ..errors import CorruptStore, InvalidManifest, InvalidReference
from ..reference import Reference

_T = TypeVar("_T")
# 64 MiB of index is about 150,000 models.
MAX_INDEX_SIZE = 64 << 20
# image-layout.md, section "oci-layout file".
_VERSION = "1.0.0"
LAYOUT_FILE = json.dumps({"imageLayoutVersion": _VERSION}).encode()


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of the store. `modified` is when the name was last set, in seconds since 1970."""

    reference: Reference
    descriptor: Descriptor
    modified: float


@dataclass(frozen=True, slots=True)
class StoreIndex:
    """Every descriptor of index.json in file order, and the members beside `manifests`."""

    descriptors: tuple[Descriptor, ...] = ()
    rest: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, raw: bytes) -> StoreIndex:
        """Read index.json.

        Raises:
            InvalidManifest: where it is no image index.
        """
        value, items = _parsed(raw)
        known = ("schemaVersion", "mediaType", "manifests")
        rest = {key: item for key, item in value.items() if key not in known}
        return cls(tuple(map(Descriptor.from_json, items)), rest)

    def render(self) -> bytes:
        """The bytes of index.json; ``StoreIndex.parse(i.render()) == i``."""
        value = {
            "schemaVersion": 2,
            "mediaType": mediatypes.OCI_INDEX,
            "manifests": [item.to_json() for item in self.descriptors],
        } | dict(self.rest)
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()

    def names(self) -> tuple[tuple[str | None, Descriptor], ...]:
        """Every descriptor with its name as it stands there; None where it has none."""
        return tuple(
            (item.annotations.get(mediatypes.REF_NAME), _stripped(item))
            for item in self.descriptors
        )

    def with_name(self, name: str, descriptor: Descriptor, now: float) -> StoreIndex:
        """This index where `name` names `descriptor`, and nothing else any more."""
        annotations = {
            mediatypes.REF_NAME: name,
            mediatypes.MODIFIED: datetime.fromtimestamp(now, UTC).isoformat(),
        }
        named = replace(descriptor, annotations=MappingProxyType(annotations))
        return replace(self, descriptors=(*self.without_name(name).descriptors, named))

    def without_name(self, name: str) -> StoreIndex:
        """This index without the name, compared without regard to case."""
        kept = tuple(item for item in self.descriptors if _key(item) != name.lower())
        return replace(self, descriptors=kept)


class EntryReader:
    """Reads the entries of one index.json again and again. For one thread at a time.

    A store of a thousand models changes by a line at a time; what did not change is the same
    object as before, which costs a comparison instead of ten times as much.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[Any, Entry | None]] = {}

    def read(self, raw: bytes) -> tuple[Entry, ...]:
        """The models, newest first; of two descriptors with one name the later one counts.

        Raises:
            InvalidManifest: where it is no image index.
        """
        known: dict[str, tuple[Any, Entry | None]] = {}
        found = {}
        for item in _parsed(raw)[1]:
            name = _name_in(item)
            before = self._known.get(name)
            if before is None or before[0] != item:
                before = item, _entry(Descriptor.from_json(item))
            known[name] = before
            if before[1] is not None:
                found[before[1].reference.key] = before[1]
        self._known = known
        return tuple(sorted(found.values(), key=_newest_first))


def _parsed(raw: bytes) -> tuple[dict[str, Any], list[Any]]:
    """The object that an index is, and its list of descriptors."""
    try:
        value = strictjson.loads(raw, max_size=MAX_INDEX_SIZE)
    except ValueError as error:
        raise InvalidManifest(str(error)) from error
    if not isinstance(value, dict) or value.get("schemaVersion") != 2:
        raise InvalidManifest("not an image index")
    items = value.get("manifests") or []
    if not isinstance(items, list):
        raise InvalidManifest("manifests is not a list")
    return value, items


def _name_in(item: Any) -> str:
    """The name in a descriptor's JSON; empty where it has none."""
    annotations = item.get("annotations") if isinstance(item, dict) else None
    name = annotations.get(mediatypes.REF_NAME) if isinstance(annotations, dict) else None
    return name if isinstance(name, str) else ""


def _entry(descriptor: Descriptor) -> Entry | None:
    name = descriptor.annotations.get(mediatypes.REF_NAME, "")
    try:
        reference = Reference.parse(name)
    except InvalidReference:
        return None
    if reference.name != name:
        return None
    return Entry(reference, _stripped(descriptor), _modified(descriptor))


def _newest_first(entry: Entry) -> tuple[float, str]:
    return -entry.modified, entry.reference.name


def _key(descriptor: Descriptor) -> str:
    return descriptor.annotations.get(mediatypes.REF_NAME, "").lower()


def _stripped(descriptor: Descriptor) -> Descriptor:
    """The descriptor as a registry would give it, without what only this index says."""
    ours = (mediatypes.REF_NAME, mediatypes.MODIFIED)
    kept = {key: value for key, value in descriptor.annotations.items() if key not in ours}
    return replace(descriptor, annotations=MappingProxyType(kept))


def _modified(descriptor: Descriptor) -> float:
    try:
        return datetime.fromisoformat(descriptor.annotations[mediatypes.MODIFIED]).timestamp()
    except (KeyError, ValueError, OverflowError):
        return 0.0


def read_index(path: Path, parse: Callable[[bytes], _T]) -> _T:
    """What `parse` makes of index.json; an absent file is an empty index.

    Raises:
        CorruptStore: where it is no image index.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raw = StoreIndex().render()
    try:
        return parse(raw)
    except InvalidManifest as error:
        raise CorruptStore(
            path, error.reason, hint=f"restore it from a backup, or remove {path.parent}"
        ) from error


def check_layout(path: Path) -> None:
    """Check that an oci-layout file is of the version that we know.

    Raises:
        CorruptStore: where it is not.
    """
    raw = path.read_bytes()
    if raw == LAYOUT_FILE:
        return
    try:
        value = strictjson.loads(raw, max_size=4096)
    except ValueError as error:
        raise CorruptStore(path, str(error)) from error
    version = value.get("imageLayoutVersion") if isinstance(value, dict) else None
    if version != _VERSION:
        raise CorruptStore(path, f"layout version {version!r} is not one that this program knows")
