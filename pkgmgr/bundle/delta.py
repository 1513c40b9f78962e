"""Deltas in bundles: the blocks of a blob that the other side lacks, instead of the blob.

For updates by sneakernet. A delta is a referrer of the model: its config says which blocks of which
blob it holds, its layers are the block index and the blocks, one after the other::

    {"version": 1, "digest": "sha256:…", "size": 98765, "blocks": [[first, count], …]}

The receiver puts the blob together from these blocks and from files that it has; the digest of the
whole decides whether that went well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import mediatypes, strictjson
from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import BlobNotFound, DigestMismatch, InvalidBundle, InvalidDigest
from ..manifest import Manifest
from ..mediatypes import BLOCK_INDEX, DELTA
from ..reference import Reference
from ..store.store import Store
from ..transfer.content import exactly
from ..transfer.events import OnEvent, ignore
from ..transfer.verify import read_small
from .assemble import LocalFiles, assemble, similar_files
from .blockindex import MAX_INDEX, Block, BlockIndex, build
from .plan import Extra, Made, Pack
from .source import Bundle

_MAX_CONFIG = 4 << 20
# A delta that saves less than this share of a blob is not worth the care.
_WORTH = 0.9
# Below this a blob goes whole.
MIN_BLOB = 256 << 10


@dataclass(frozen=True, slots=True)
class Delta:
    """One delta of a bundle, its descriptors not yet read."""

    config: Descriptor
    index: Descriptor
    pack: Descriptor


Deltas = Mapping[Digest, Delta]


def make(store: Store, reference: Reference, *, known: Iterable[Digest]) -> tuple[Extra, ...]:
    """Deltas for the blobs of a model that the other side lacks but has something similar to.

    Args:
        store: where the model and the files of `known` are.
        reference: of the model.
        known: digests of blobs that the other side has.
    """
    entry = store.find(reference)
    content = store.manifest(entry.descriptor.digest)
    there = set(known)
    base = [store.path(digest) for digest in sorted(there) if store.path(digest).is_file()]
    if not isinstance(content, Manifest) or not base:
        return ()
    extras = []
    for layer in content.layers:
        if layer.size >= MIN_BLOB and layer.digest not in there:
            extra = _make_one(store, entry.reference, entry.descriptor, layer, base)
            extras += [extra] if extra is not None else []
    return tuple(extras)


def listed(bundle: Bundle) -> Deltas:
    """The deltas of a bundle by the digest of the blob that each makes."""
    found = {}
    for item in bundle.items:
        if item.descriptor.artifact_type != DELTA or not bundle.exists(item.descriptor):
            continue
        manifest = bundle.manifest(item.descriptor.digest)
        if isinstance(manifest, Manifest) and len(manifest.layers) == 2:
            index, pack = manifest.layers
            try:
                found[_target(bundle, manifest.config)] = Delta(manifest.config, index, pack)
            except DigestMismatch:
                bundle.damaged.add(manifest.config.digest)
    return found


def apply(
    store: Store,
    bundle: Bundle,
    delta: Delta,
    part: Descriptor,
    *,
    on_event: OnEvent = ignore,
) -> None:
    """Put a blob together from a delta and from what the store has.

    Raises:
        InvalidBundle: where the delta is malformed.
        BlobNotFound: where the store lacks what it builds on.
        IntegrityError: where the result is not what its digest says.
    """
    for descriptor in (delta.index, delta.pack):
        if not bundle.exists(descriptor):
            raise InvalidBundle(bundle.place, f"a delta lacks its {descriptor.digest}")
    index = BlockIndex.parse(_small(bundle, delta.index, MAX_INDEX))
    if index.digest != part.digest or index.size != part.size:
        raise InvalidBundle(bundle.place, f"a delta is not about {part.digest}")
    offsets = _offsets(bundle, delta, index)

    def fetch(run: Sequence[Block]) -> bytes:
        first, last = offsets.get(run[0].offset), offsets.get(run[-1].offset)
        if first is None or last is None:
            raise BlobNotFound(str(part.digest), place=f"{bundle.place} with this store")
        with bundle.fetch(delta.pack, offset=first) as content:
            return exactly(content, last + run[-1].size - first)

    with LocalFiles(similar_files(store, index)) as local:
        assemble(store, index, part, local=local, fetch=fetch, gap=0, on_event=on_event)


def _make_one(
    store: Store, reference: Reference, model: Descriptor, layer: Descriptor, base: Sequence[Path]
) -> Extra | None:
    index = build(store.path(layer.digest), layer.digest)
    with LocalFiles(tuple(base)) as local:
        missing = [i for i, block in enumerate(index.blocks) if local.find(block) is None]
    if sum(index.blocks[i].size for i in missing) > _WORTH * layer.size:
        return None
    ranges = tuple((index.blocks[i].offset, index.blocks[i].size) for i in missing)
    pack = Pack(store.path(layer.digest), ranges)
    config = _compact(
        {
            "version": 1,
            "digest": str(layer.digest),
            "size": layer.size,
            "blocks": _runs(missing),
        }
    )
    return _extra(reference, model, layer, config, index.render(), pack)


def _extra(
    reference: Reference,
    model: Descriptor,
    layer: Descriptor,
    config: bytes,
    index: bytes,
    pack: Pack,
) -> Extra:
    described: list[tuple[Descriptor, Made]] = [
        (Descriptor(DELTA, Digest.of(config), len(config)), config),
        (Descriptor(BLOCK_INDEX, Digest.of(index), len(index)), index),
        (_described(pack), pack),
    ]
    document = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "artifactType": DELTA,
        "config": described[0][0].to_json(),
        "layers": [item.to_json() for item, _ in described[1:]],
        "subject": Descriptor(model.media_type, model.digest, model.size).to_json(),
    }
    raw = _compact(document)
    manifest = Descriptor(mediatypes.OCI_MANIFEST, Digest.of(raw), len(raw), artifact_type=DELTA)
    name = reference.with_tag(None).with_digest(manifest.digest)
    return Extra(name, manifest, ((manifest, raw), *described), layer.digest)


def _described(pack: Pack) -> Descriptor:
    state, size = hashlib.sha256(usedforsecurity=False), 0
    for data in pack.chunks():
        state.update(data)
        size += len(data)
    return Descriptor(mediatypes.OCTET_STREAM, Digest("sha256", state.hexdigest()), size)


def _target(bundle: Bundle, config: Descriptor) -> Digest:
    try:
        value = strictjson.loads(_small(bundle, config, _MAX_CONFIG), max_size=_MAX_CONFIG)
        return Digest.parse(str(value["digest"]))
    except (ValueError, TypeError, KeyError, InvalidDigest) as error:
        raise InvalidBundle(bundle.place, "a delta's config is malformed") from error


def _offsets(bundle: Bundle, delta: Delta, index: BlockIndex) -> dict[int, int]:
    """Offset of a block in the blob → its offset in the pack."""
    raw = _small(bundle, delta.config, _MAX_CONFIG)
    offsets, position = {}, 0
    try:
        for first, count in strictjson.loads(raw, max_size=_MAX_CONFIG)["blocks"]:
            if not 0 <= first < first + count <= len(index.blocks):
                raise ValueError("a run of blocks is out of bounds")
            for block in index.blocks[first : first + count]:
                offsets[block.offset] = position
                position += block.size
            if position > delta.pack.size:
                raise ValueError("more blocks than the pack can hold")
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidBundle(bundle.place, f"a delta's config is malformed: {error}") from error
    return offsets


def _small(bundle: Bundle, descriptor: Descriptor, limit: int) -> bytes:
    if descriptor.size > limit:
        raise InvalidBundle(bundle.place, f"{descriptor.digest} is over {limit} bytes")
    return read_small(bundle, descriptor)


def _runs(numbers: Sequence[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][0] + runs[-1][1] == number:
            runs[-1][1] += 1
        else:
            runs.append([number, 1])
    return runs


def _compact(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode("utf-8")
