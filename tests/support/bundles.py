"""Stores with small models, and tars made by hand, for tests of bundles."""

from __future__ import annotations

import io
import random
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from support.artifacts import Artifact, make_artifact

from pannier.pkgmgr.bundle import export
from pannier.pkgmgr.bundle.plan import plan
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.store.store import Store

NAME = "registry.corp/team/reviewer:1"
OTHER = "registry.corp/team/writer:2"


def weights(seed: int, size: int = 300_000) -> bytes:
    return random.Random(seed).randbytes(size)


def model(seed: int, *, size: int = 300_000) -> Artifact:
    return make_artifact(b"params %d" % seed, b"shared licence", weights(seed, size))


def store_with(root: Path, models: Mapping[str, Artifact]) -> Store:
    store = Store.open(root)
    for name, artifact in models.items():
        artifact.push_to(store, name)
    return store


def exported(store: Store, *names: str) -> bytes:
    out = io.BytesIO()
    export.write_tar(plan(store, [Reference.parse(name) for name in names]), store, out)
    return out.getvalue()


def repacked(members: Iterable[tuple[str, bytes]], *, form: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar of these members as Python's tarfile writes it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def unpacked(raw: bytes) -> list[tuple[str, bytes]]:
    members = []
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        for info in tar:
            content = tar.extractfile(info)
            assert content is not None
            members.append((info.name, content.read()))
    return members
