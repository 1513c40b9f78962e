"""What every dialect must do, run on one artifact of each tool that writes models to registries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import peers

from pannier.pkgmgr.dialects import DIALECTS, dialect_for
from pannier.pkgmgr.errors import NotFound, UnknownDialect
from pannier.pkgmgr.manifest import Manifest, parse_manifest
from pannier.pkgmgr.modelspec import ModelSpec, Role
from pannier.pkgmgr.operations import read_model
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.store.store import Store

GOLDEN = Path(__file__).parents[1] / "golden" / "dialects"
CATALOGUE = peers.catalogue()
REFERENCE = Reference.parse("golden")
both = pytest.mark.parametrize("name", CATALOGUE)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def read(store: Store, artifact: peers.Artifact) -> ModelSpec:
    store.tag(artifact.store(store), REFERENCE)
    return read_model(store, REFERENCE).spec


@both
def test_the_golden_manifest_is_unchanged(name: str, pytestconfig: pytest.Config) -> None:
    artifact = CATALOGUE[name]
    path = GOLDEN / f"{name}.json"
    record = {"origin": artifact.origin, "manifest": artifact.manifest.decode()}
    if pytestconfig.getoption("--update-golden"):
        path.write_text(json.dumps(record, indent=2) + "\n")
    assert json.loads(path.read_text()) == record


@both
def test_the_manifest_alone_tells_its_dialect(name: str) -> None:
    manifest = parse_manifest(CATALOGUE[name].manifest, media_type=CATALOGUE[name].media_type)
    assert dialect_for(manifest).name == CATALOGUE[name].dialect


@both
def test_the_gguf_is_found(name: str, store: Store) -> None:
    spec = read(store, CATALOGUE[name])
    contents = [
        store.path(part.descriptor.digest).read_bytes() for part in spec.select(Role.WEIGHTS)
    ]
    assert contents == (list(peers.SHARDS) if name == "docker-v0.2" else [peers.MODEL])
    assert spec.digest == CATALOGUE[name].descriptor.digest
    assert spec.dialect == CATALOGUE[name].dialect
    assert not any(part.is_packed for part in spec.parts)


@both
def test_reading_twice_gives_the_same(name: str, store: Store) -> None:
    first = read(store, CATALOGUE[name])
    before = sorted(path.name for path in (store.root / "blobs" / "sha256").iterdir())
    assert read(store, CATALOGUE[name]) == first
    assert sorted(path.name for path in (store.root / "blobs" / "sha256").iterdir()) == before


@both
def test_what_was_unpacked_stays_as_long_as_the_model(name: str, store: Store) -> None:
    spec = read(store, CATALOGUE[name])
    store.collect(grace_s=-1000)
    assert all(store.exists(part.descriptor) for part in spec.parts)
    store.untag(REFERENCE)
    store.collect(grace_s=-1000)
    assert not any(store.path(part.descriptor.digest).exists() for part in spec.parts)


@both
def test_the_manifest_keeps_its_bytes(name: str, store: Store) -> None:
    descriptor = CATALOGUE[name].store(store)
    manifest = store.manifest(descriptor.digest)
    assert isinstance(manifest, Manifest)
    assert manifest.raw == CATALOGUE[name].manifest


@both
def test_a_missing_blob_is_told(name: str, store: Store) -> None:
    artifact = CATALOGUE[name]
    descriptor = artifact.store(store)
    missing = parse_manifest(artifact.manifest).layers[0]
    store.path(missing.digest).unlink()
    with pytest.raises(NotFound, match=missing.digest.hex):
        store.tag(descriptor, REFERENCE)


@both
def test_a_manifest_without_layers_is_no_model(name: str) -> None:
    document = json.loads(CATALOGUE[name].manifest) | {"layers": []}
    manifest = parse_manifest(json.dumps(document).encode())

    def open_blob(descriptor: object) -> bytes:
        return b"{}"

    with pytest.raises(UnknownDialect):
        dialect_for(manifest).read(manifest, open_blob)


@pytest.mark.parametrize("name", [n for n in CATALOGUE if b"golden.gguf" in CATALOGUE[n].manifest])
def test_a_layer_name_that_is_a_path_elsewhere_is_refused(name: str) -> None:
    text, blobs = CATALOGUE[name].manifest.decode(), CATALOGUE[name].blobs
    for path in ("/golden.gguf", "../golden.gguf", "C:\\\\golden.gguf", "a\\u0000golden.gguf"):
        changed = text.replace("model/golden.gguf", "golden.gguf").replace("golden.gguf", path)
        document = json.loads(changed)
        manifest = parse_manifest(json.dumps(document).encode())
        with pytest.raises(UnknownDialect, match="plain relative path"):
            dialect_for(manifest).read(manifest, lambda item: blobs[item.digest])


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_every_dialect_has_a_golden(dialect: object) -> None:
    assert getattr(dialect, "name", None) in {item.dialect for item in CATALOGUE.values()}
