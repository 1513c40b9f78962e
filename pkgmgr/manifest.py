"""Manifests and indexes: raw bytes kept for ever beside a parsed view; never re-serialised.

Implements image-spec v1.1.1, manifest.md and image-index.md, and reads Docker's schema 2 forms.
A manifest without `mediaType` is legal (KitOps before 1.10 writes such).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import mediatypes, strictjson
from .descriptor import Descriptor, annotations_from_json
from .digest import Digest
from .errors import InvalidManifest

# distribution-spec v1.1.1, "Pushing Manifests": registries should allow at least 4 MiB.
MAX_MANIFEST_SIZE = 4 << 20
MAX_LAYERS = 1024


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image manifest. Equality is by `raw`, which is what `descriptor.digest` names."""

    raw: bytes
    descriptor: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str]
    artifact_type: str | None
    subject: Descriptor | None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Manifest) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.descriptor.digest)

    @property
    def children(self) -> tuple[Descriptor, ...]:
        """Every blob that this manifest needs, config first, each digest once."""
        return _unique((self.config, *self.layers))

    @property
    def size(self) -> int:
        """Bytes of config and layers together, each distinct blob once."""
        return sum(child.size for child in self.children)


@dataclass(frozen=True, slots=True)
class Index:
    """One image index (or Docker manifest list). Equality is by `raw`."""

    raw: bytes
    descriptor: Descriptor
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str]
    artifact_type: str | None
    subject: Descriptor | None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Index) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.descriptor.digest)

    @property
    def children(self) -> tuple[Descriptor, ...]:
        """Every manifest that this index names, each digest once."""
        return _unique(self.manifests)


def parse(raw: bytes, *, media_type: str | None = None) -> Manifest | Index:
    """Read a manifest or an index.

    Args:
        raw: the exact bytes; they are kept.
        media_type: what the transport said; the document's own `mediaType` wins where present.

    Raises:
        InvalidManifest: for anything that is neither, or that breaks a limit.
    """
    digest = Digest.of(raw)
    try:
        value = strictjson.loads(raw, max_size=MAX_MANIFEST_SIZE)
        return _build(raw, value, digest, media_type)
    except ValueError as error:
        raise InvalidManifest(str(error), digest=str(digest)) from error
    except InvalidManifest as error:
        raise InvalidManifest(error.reason, digest=str(digest)) from error


def parse_manifest(raw: bytes, *, media_type: str | None = None) -> Manifest:
    """Read a manifest where an index will not do.

    Raises:
        InvalidManifest: also for an index.
    """
    value = parse(raw, media_type=media_type)
    if isinstance(value, Index):
        raise InvalidManifest("it is an index, not a manifest", digest=str(value.descriptor.digest))
    return value


def _build(raw: bytes, value: Any, digest: Digest, media_type: str | None) -> Manifest | Index:
    if not isinstance(value, dict):
        raise InvalidManifest("not a JSON object")
    if value.get("schemaVersion") != 2:
        raise InvalidManifest(f"schemaVersion is {str(value.get('schemaVersion'))[:20]}, not 2")
    if "manifests" in value and ("layers" in value or "config" in value):
        # The ambiguity that CVE-2021-41190 is about: one document, two readings.
        raise InvalidManifest("has the members of both a manifest and an index")
    own_type = value.get("mediaType")
    if own_type is not None and not isinstance(own_type, str):
        raise InvalidManifest("mediaType is not a string")
    others = mediatypes.MANIFEST_TYPES if "manifests" in value else mediatypes.INDEX_TYPES
    if own_type in others:
        raise InvalidManifest(f"its mediaType is {own_type}, its members say otherwise")
    artifact_type = value.get("artifactType")
    if artifact_type is not None and not isinstance(artifact_type, str):
        raise InvalidManifest("artifactType is not a string")
    annotations = annotations_from_json(value.get("annotations"))
    subject = Descriptor.from_json(value["subject"]) if value.get("subject") is not None else None
    if "manifests" in value:
        kind = own_type or media_type or mediatypes.OCI_INDEX
        described = Descriptor(kind, digest, len(raw), annotations, artifact_type)
        manifests = _descriptors(value["manifests"], "manifests")
        return Index(raw, described, manifests, annotations, artifact_type, subject)
    kind = own_type or media_type or mediatypes.OCI_MANIFEST
    described = Descriptor(kind, digest, len(raw), annotations, artifact_type)
    config = Descriptor.from_json(value.get("config"))
    layers = _descriptors(value.get("layers"), "layers")
    return Manifest(raw, described, config, layers, annotations, artifact_type, subject)


def _descriptors(value: object, name: str) -> tuple[Descriptor, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InvalidManifest(f"{name} is not a list")
    if len(value) > MAX_LAYERS:
        raise InvalidManifest(f"{len(value)} {name} are over the limit of {MAX_LAYERS}")
    return tuple(Descriptor.from_json(item) for item in value)


def _unique(descriptors: tuple[Descriptor, ...]) -> tuple[Descriptor, ...]:
    return tuple({item.digest: item for item in reversed(descriptors)}.values())[::-1]
