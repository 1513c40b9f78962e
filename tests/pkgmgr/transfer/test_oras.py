"""Code written against oras works over our repository, safely."""

from __future__ import annotations

import io
import json
from pathlib import Path

import oras.provider
import pytest
from support.artifacts import describe
from support.falseregistry import scripted
from support.hostile import BIG, BIG_DIGEST, DEMO
from support.transfers import open_quick

from pannier.pkgmgr.errors import DigestMismatch


def test_our_repository_is_an_oras_registry(tmp_path: Path) -> None:
    with scripted(DEMO) as server:
        name = f"{server.host}/team/demo:1"
        with open_quick(name, tmp_path) as repository:
            assert isinstance(repository, oras.provider.Registry)
            assert repository.get_manifest(name) == json.loads(DEMO.raw)
            assert repository.get_tags(repository.get_container(name)) == ["1"]
            repository.download_blob(name, BIG_DIGEST, str(tmp_path / "blob"))
            assert (tmp_path / "blob").read_bytes() == BIG


def test_a_download_of_wrong_bytes_leaves_no_file(tmp_path: Path) -> None:
    with scripted(DEMO) as server:
        name = f"{server.host}/team/demo:1"
        server.script.blobs[BIG_DIGEST] = BIG[::-1]
        with open_quick(name, tmp_path) as repository, pytest.raises(DigestMismatch):
            repository.download_blob(name, BIG_DIGEST, str(tmp_path / "blob"))
    assert not list(tmp_path.glob("blob*"))


def test_uploads_go_through_our_own(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"layer")
    layer = describe(b"layer")
    with scripted() as server:
        name = f"{server.host}/team/demo:1"
        with open_quick(name, tmp_path) as repository:
            container = repository.get_container(name)
            for upload in (repository.put_upload, repository.chunked_upload):
                answer = upload(str(tmp_path / "file"), container, layer.to_json())
                assert answer.status_code == 200
            repository.push(DEMO.blobs[0][0], io.BytesIO(DEMO.blobs[0][1]))
            answer = repository.upload_manifest(json.loads(DEMO.raw), container)
            assert answer.status_code == 201
    assert server.script.blobs[str(layer.digest)] == b"layer"
    assert "1" in server.script.tags
