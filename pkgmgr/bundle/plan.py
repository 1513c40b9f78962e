"""What goes into a bundle, and in which order. Reads manifests from a store and nothing else.

The order is part of the format: `oci-layout`, `index.json`, all manifests, then blobs from small to
large, so that who reads a pipe knows names, signatures and needs before the first weight arrives.
The same models give the same plan, whatever the store's history.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from .. import attachments, mediatypes
from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import InvalidBundle
from ..reference import Reference
from ..store.collect import is_manifest, reachable
from ..store.store import Store
from .tarstream import INDEX_NAME, LAYOUT_NAME

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


@dataclass(frozen=True, slots=True)
class Model:
    """A model of a bundle. `descriptor` is of its manifest."""

    reference: Reference
    descriptor: Descriptor


@dataclass(frozen=True, slots=True)
class Pack:
    """Content made of ranges (offset, size) of one file, in order."""

    path: Path
    ranges: tuple[tuple[int, int], ...]

    def chunks(self) -> Iterator[bytes]:
        """The bytes, a range at a time."""
        with self.path.open("rb", buffering=0) as file:
            for offset, size in self.ranges:
                file.seek(offset)
                while size and (data := file.read(size)):
                    yield data
                    size -= len(data)


Made = bytes | Pack


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a bundle holds, in order.

    Attributes:
        models: those that were asked for.
        heads: `oci-layout` and `index.json` with their bytes.
        blobs: manifests and blobs to be written.
        left_out: what the other side has already.
        made: content that no store holds (deltas), by digest.
    """

    models: tuple[Model, ...]
    heads: tuple[tuple[str, bytes], ...]
    blobs: tuple[Descriptor, ...]
    left_out: tuple[Descriptor, ...]
    made: Mapping[Digest, Made]

    @property
    def size(self) -> int:
        """Bytes of all blobs to be written."""
        return sum(item.size for item in self.blobs)


@dataclass(frozen=True, slots=True)
class Extra:
    """A manifest that is made for the bundle alone, with what it needs."""

    reference: Reference
    descriptor: Descriptor
    blobs: tuple[tuple[Descriptor, Made], ...]
    replaces: Digest


def plan(
    store: Store,
    references: Iterable[Reference],
    *,
    known: Collection[Digest] = (),
    extras: Iterable[Extra] = (),
    with_attachments: bool = True,
) -> Plan:
    """Decide what a bundle of these models holds.

    Args:
        store: where the models are.
        references: their names.
        known: digests of blobs that the other side has; manifests are always written.
        extras: deltas that stand in for blobs.
        with_attachments: whether signatures and other referrers go along.

    Raises:
        ModelNotFound: where the store lacks one.
        BlobNotFound: where the store lacks part of one.
    """
    models = tuple(_models(store, references))
    if not models:
        raise InvalidBundle("export", "no model is named")
    named = {model.reference.name: model.descriptor for model in models}
    if with_attachments:
        for model in models:
            for attachment in attachments.in_store(store, model.descriptor.digest):
                reference = attachment.reference_in(model.reference)
                named[reference.name] = _bare(attachment.manifest.descriptor)
    added = tuple(extras)
    needed = {item.digest: item for item in reachable(iter(named.values()), store.manifest)}
    made = {descriptor.digest: raw for extra in added for descriptor, raw in extra.blobs}
    for extra in added:
        named[extra.reference.name] = extra.descriptor
        needed |= {descriptor.digest: descriptor for descriptor, _ in extra.blobs}
    skipped = set(known) | {extra.replaces for extra in added}
    blobs = sorted(needed.values(), key=_order)
    return Plan(
        models,
        ((LAYOUT_NAME, LAYOUT), (INDEX_NAME, _index(named))),
        tuple(item for item in blobs if is_manifest(item) or item.digest not in skipped),
        tuple(item for item in blobs if not is_manifest(item) and item.digest in skipped),
        made,
    )


def _models(store: Store, references: Iterable[Reference]) -> Iterable[Model]:
    found: dict[str, Model] = {}
    for reference in references:
        entry = store.find(reference)
        found[entry.reference.key] = Model(entry.reference, _bare(entry.descriptor))
    return (found[key] for key in sorted(found))


def _bare(descriptor: Descriptor) -> Descriptor:
    """The descriptor without annotations, which differ with how it came into the store."""
    return replace(descriptor, annotations=MappingProxyType({}), extra=MappingProxyType({}))


def _index(named: dict[str, Descriptor]) -> bytes:
    items = [
        replace(named[name], annotations=MappingProxyType({mediatypes.REF_NAME: name})).to_json()
        for name in sorted(named)
    ]
    document = {"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": items}
    return json.dumps(document, separators=(",", ":")).encode("utf-8")


def _order(descriptor: Descriptor) -> tuple[bool, int, Digest]:
    if is_manifest(descriptor):
        return False, 0, descriptor.digest
    return True, descriptor.size, descriptor.digest
