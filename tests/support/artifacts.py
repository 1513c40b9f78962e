"""Small artifacts for tests: blobs and manifests made by hand, pushed to any target."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

from pannier.pkgmgr import mediatypes
from pannier.pkgmgr.descriptor import Descriptor
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.store.store import Store
from pannier.pkgmgr.transfer.content import Target


def describe(data: bytes, media_type: str = mediatypes.OCTET_STREAM) -> Descriptor:
    return Descriptor(media_type, Digest.of(data), len(data))


@dataclass(frozen=True)
class Artifact:
    """A manifest with its blobs in memory."""

    raw: bytes
    descriptor: Descriptor
    blobs: tuple[tuple[Descriptor, bytes], ...]

    def push_to(self, target: Target, name: str | None = None) -> Descriptor:
        for descriptor, data in self.blobs:
            target.push(descriptor, io.BytesIO(data))
        target.push(self.descriptor, io.BytesIO(self.raw))
        if name is not None:
            target.tag(self.descriptor, Reference.parse(name))
        return self.descriptor


def make_artifact(*layers: bytes, config: bytes = b"{}", **members: Any) -> Artifact:
    """An OCI manifest with `layers` as opaque blobs; `members` are added to the manifest."""
    blobs = [(describe(config, "application/vnd.cncf.model.config.v1+json"), config)]
    blobs += [(describe(layer), layer) for layer in layers]
    value = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "config": blobs[0][0].to_json(),
        "layers": [descriptor.to_json() for descriptor, _ in blobs[1:]],
    } | members
    raw = json.dumps(value).encode()
    return Artifact(raw, describe(raw, mediatypes.OCI_MANIFEST), tuple(blobs))


def make_index(*artifacts: Artifact) -> tuple[Descriptor, bytes]:
    value = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_INDEX,
        "manifests": [item.descriptor.to_json() for item in artifacts],
    }
    raw = json.dumps(value).encode()
    return describe(raw, mediatypes.OCI_INDEX), raw


def check_invariants(store: Store) -> None:
    """Every blob hashes to its name, and every name's closure is complete."""
    for path in (store.root / "blobs" / "sha256").iterdir():
        assert Digest.of(path.read_bytes()).hex == path.name
    for entry in store.entries():
        for child in store.manifest(entry.descriptor.digest).children:
            assert store.path(child.digest).stat().st_size == child.size
