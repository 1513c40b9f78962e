from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from support import peers

from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.docker_tar import write_docker_tar
from pannier.pkgmgr.errors import (
    BlobNotFound,
    DigestMismatch,
    InvalidManifest,
    ModelNotFound,
    PannierError,
    SizeMismatch,
    TransferError,
)
from pannier.pkgmgr.manifest import parse_manifest
from pannier.pkgmgr.ollama_store import (
    export_models,
    find_ollama_store,
    import_models,
    list_models,
)
from pannier.pkgmgr.operations import read_model
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.store.store import Store
from pannier.pkgmgr.transfer.events import Event, Noticed

ARTIFACT = peers.ollama()
NAME = Reference.parse("golden:8b")
OTHER = Reference.parse("hf.co/user/repo:Q4_K_M")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


@pytest.fixture
def ollama(tmp_path: Path) -> Path:
    """An Ollama store with one model under two names."""
    root = tmp_path / "ollama"
    for name in ("registry.ollama.ai/library/golden/8b", "hf.co/user/repo/Q4_K_M"):
        path = root / "manifests" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(ARTIFACT.manifest)
    (root / "blobs").mkdir()
    for digest, data in ARTIFACT.blobs.items():
        blob(root, digest).write_bytes(data)
    return root


def blob(root: Path, digest: Digest) -> Path:
    return root / "blobs" / f"sha256-{digest.hex}"


def test_models_are_found_by_their_names(ollama: Path) -> None:
    assert find_ollama_store(str(ollama)) == ollama
    (ollama.parent / "home").mkdir()
    ollama.rename(ollama.parent / "home" / "models")
    ollama = ollama.parent / "home" / "models"
    assert find_ollama_store(str(ollama.parent)) == ollama
    assert find_ollama_store(str(ollama / "manifests")) is None
    assert [item.reference for item in list_models(ollama)] == [OTHER, NAME]


@pytest.mark.parametrize("link", [False, True])
def test_manifests_stay_byte_identical(store: Store, ollama: Path, link: bool) -> None:
    done = import_models(store, ollama, [NAME], link=link)
    assert [(ref, item.digest) for ref, item in done] == [(NAME, ARTIFACT.descriptor.digest)]
    assert store.manifest(ARTIFACT.descriptor.digest).raw == ARTIFACT.manifest
    assert read_model(store, NAME).spec.system == "Be kind."
    with pytest.raises(ModelNotFound):
        store.find(OTHER)


def test_linked_files_are_shared(store: Store, ollama: Path) -> None:
    import_models(store, ollama, None, link=True)
    digest = Digest.of(peers.MODEL)
    assert os.path.samefile(store.path(digest), blob(ollama, digest))
    assert len(store.entries()) == 2


def test_a_damaged_blob_names_no_model(store: Store, ollama: Path) -> None:
    path = blob(ollama, Digest.of(peers.MODEL))
    damaged = bytearray(peers.MODEL)
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    for link in (False, True):
        with pytest.raises(DigestMismatch, match=path.name):
            import_models(store, ollama, [NAME], link=link)
    path.write_bytes(peers.MODEL[:-1])
    with pytest.raises(SizeMismatch):
        import_models(store, ollama, [NAME])
    path.unlink()
    with pytest.raises(BlobNotFound, match="Ollama store"):
        import_models(store, ollama, [NAME])
    assert store.entries() == ()


def test_all_passes_over_what_is_damaged(store: Store, ollama: Path) -> None:
    bad = ollama / "manifests" / "registry.ollama.ai" / "library" / "bad" / "latest"
    bad.parent.mkdir(parents=True)
    bad.write_bytes(b"")
    events: list[Event] = []
    assert len(import_models(store, ollama, None, on_event=events.append)) == 2
    notes = [event.message for event in events if isinstance(event, Noticed)]
    assert len(notes) == 1
    assert notes[0].startswith("bad:latest is left out: invalid manifest")
    with pytest.raises(InvalidManifest):
        import_models(store, ollama, [Reference.parse("bad")])


def test_an_unknown_name_is_told(store: Store, ollama: Path) -> None:
    with pytest.raises(ModelNotFound, match="Ollama store"):
        import_models(store, ollama, [Reference.parse("nothing")])


@pytest.mark.parametrize("link", [False, True])
def test_what_is_exported_imports_again(tmp_path: Path, store: Store, link: bool) -> None:
    store.tag(ARTIFACT.store(store), NAME)
    root = tmp_path / "out"
    export_models(store, [NAME], root, link=link)
    path = root / "manifests/registry.ollama.ai/library/golden/8b"
    assert path.read_bytes() == ARTIFACT.manifest
    assert {item.name for item in (root / "blobs").iterdir()} == {
        f"sha256-{digest.hex}" for digest in ARTIFACT.blobs
    }
    other = Store.open(tmp_path / "other")
    import_models(other, root, None)
    assert other.find(NAME).descriptor.digest == ARTIFACT.descriptor.digest


def test_other_dialects_are_exported_as_ollamas(tmp_path: Path, store: Store) -> None:
    store.tag(peers.modelpack("tar").store(store), NAME)
    export_models(store, [NAME], tmp_path / "out")
    (found,) = list_models(tmp_path / "out")
    assert b"vnd.ollama.image.model" in found.path.read_bytes()
    assert blob(tmp_path / "out", Digest.of(peers.MODEL)).read_bytes() == peers.MODEL


def test_names_that_ollama_cannot_hold_are_refused(tmp_path: Path, store: Store) -> None:
    deep = Reference.parse("x.y/a/b/c:t")
    store.tag(ARTIFACT.store(store), deep)
    with pytest.raises(TransferError, match="Ollama cannot name"):
        export_models(store, [deep], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_place_leaves_no_half_file(tmp_path: Path, store: Store) -> None:
    store.tag(ARTIFACT.store(store), NAME)
    (tmp_path / "out").write_text("a file, where the directory should be")
    with pytest.raises(PannierError, match="cannot write"):
        export_models(store, [NAME], tmp_path / "out")


def test_dockers_tar_ends_with_its_manifest(store: Store) -> None:
    artifact = peers.docker()
    store.tag(artifact.store(store), NAME)
    one, two = io.BytesIO(), io.BytesIO()
    write_docker_tar(store, NAME, one)
    write_docker_tar(store, NAME, two)
    assert one.getvalue() == two.getvalue()
    with tarfile.open(fileobj=io.BytesIO(one.getvalue())) as archive:
        members = archive.getmembers()
        contents = [archive.extractfile(member) for member in members]
        read = {m.name: c.read() for m, c in zip(members, contents, strict=True) if c}
    assert members[-1].name == "manifest.json"
    assert read["manifest.json"] == artifact.manifest
    for child in parse_manifest(artifact.manifest).children:
        data = read[f"blobs/sha256/{child.digest.hex}"]
        assert Digest.of(data) == child.digest


def test_dockers_tar_of_another_dialect(store: Store) -> None:
    store.tag(ARTIFACT.store(store), NAME)
    events: list[Event] = []
    out = io.BytesIO()
    converted = write_docker_tar(store, NAME, out, on_event=events.append)
    assert converted.dropped
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        stream = archive.extractfile("manifest.json")
        assert stream is not None
        assert "docker.ai.model.config" in json.load(stream)["config"]["mediaType"]
