"""Manifests that say two things at once, and blobs that are not what they were said to be."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from support import peers
from support.drafts import FULL, opener

from pannier.pkgmgr import mediatypes as mt
from pannier.pkgmgr.descriptor import Descriptor
from pannier.pkgmgr.dialects import dialect_for, docker, modelpack, ollama, read_spec
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import DigestMismatch, SizeMismatch, UnknownDialect
from pannier.pkgmgr.manifest import parse_manifest
from pannier.pkgmgr.store.store import Store

GOLDEN = Path(__file__).parents[2] / "golden" / "written"
KIT = mt.KIT_MANIFEST_PREFIX + "v1+json"


def changed(artifact: peers.Artifact, **members: Any) -> bytes:
    return peers.dump(json.loads(artifact.manifest) | members)


@pytest.mark.parametrize(
    ("artifact", "kind"),
    [
        (peers.docker(), mt.CNCF_MANIFEST),
        (peers.docker(), KIT),
        (peers.modelpack(), KIT),
        (peers.kitops(new=True), mt.CNCF_MANIFEST),
        (peers.ollama(), mt.CNCF_MANIFEST),
        (peers.ramalama_image(), mt.CNCF_MANIFEST),
    ],
)
def test_config_and_artifact_type_of_two_dialects(artifact: peers.Artifact, kind: str) -> None:
    manifest = parse_manifest(changed(artifact, artifactType=kind))
    with pytest.raises(UnknownDialect, match="contradicts its config"):
        dialect_for(manifest)


@pytest.mark.parametrize("dialect", [docker, modelpack, ollama], ids=lambda d: d.name)
def test_what_we_write_is_pinned(dialect: Any, pytestconfig: pytest.Config) -> None:
    composition = dialect.compose(FULL)
    path = GOLDEN / f"{dialect.name}.json"
    record = {
        "origin": "tests/support/drafts.py, FULL",
        "manifest": composition.manifest.decode(),
        "config": composition.blobs[-1][1].decode(),
    }
    if pytestconfig.getoption("--update-golden"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(record, indent=2) + "\n")
    assert json.loads(path.read_text()) == record


def test_a_config_that_is_no_json_is_told() -> None:
    composition = ollama.compose(FULL)
    manifest = parse_manifest(composition.manifest)
    blobs = opener(composition)

    def open_blob(item: Descriptor) -> bytes:
        return b"{]" if item.digest == manifest.config.digest else blobs(item)

    with pytest.raises(UnknownDialect, match=f"config {manifest.config.digest}"):
        read_spec(manifest, open_blob)


@pytest.mark.parametrize(
    ("layer", "content"),
    [
        ("system", b"\xff\xfe"),
        ("params", b"[1]"),
        ("params", b'{"a":1,"a":2}'),
        ("params", b'{"temperature":1e999}'),
        ("messages", b"{}"),
        ("messages", b'[{"role":"root","content":"x"}]'),
        ("messages", b'[{"role":"user","content":5}]'),
    ],
)
def test_a_small_layer_that_is_something_else_is_named(layer: str, content: bytes) -> None:
    b = peers.Builder()
    prefix = mt.OLLAMA_PREFIX
    manifest = parse_manifest(
        peers.dump(
            {
                "schemaVersion": 2,
                "config": b.layer(mt.DOCKER_CONFIG, b"{}"),
                "layers": [
                    b.layer(prefix + "model", peers.MODEL),
                    b.layer(prefix + layer, content),
                ],
            }
        )
    )
    with pytest.raises(UnknownDialect, match=str(Digest.of(content))):
        read_spec(manifest, lambda item: b.blobs[item.digest])


def test_a_text_layer_of_gigabytes_is_not_opened() -> None:
    b = peers.Builder()
    system = b.layer(mt.OLLAMA_PREFIX + "system", b"x") | {"size": 5 << 30}
    manifest = parse_manifest(
        peers.dump(
            {
                "schemaVersion": 2,
                "config": b.layer(mt.DOCKER_CONFIG, b"{}"),
                "layers": [b.layer(mt.OLLAMA_PREFIX + "model", peers.MODEL), system],
            }
        )
    )
    with pytest.raises(UnknownDialect, match="has 5368709120 bytes"):
        read_spec(manifest, lambda item: b.blobs[item.digest])


def test_sizes_and_digests_that_lie_store_nothing(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    data = b"weights"
    with pytest.raises(SizeMismatch):
        store.push(Descriptor("", Digest.of(data), 5), io.BytesIO(data))
    with pytest.raises(DigestMismatch):
        store.push(Descriptor("", Digest.of(b"other"), len(data)), io.BytesIO(data))
    assert list((store.root / "blobs" / "sha256").iterdir()) == []
