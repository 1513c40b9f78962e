"""Clients that we did not write: skopeo, and an unmodified oras-py."""

import json
import subprocess
from pathlib import Path

import pytest
from support.node import Client

from pannier.pkgmgr.store.store import Store

NAME = "team/smol"


def skopeo(*arguments: str) -> str:
    done = subprocess.run(["skopeo", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skopeo
def test_skopeo_copies_from_and_to_and_deletes(client: Client, tmp_path: Path) -> None:
    digest = client.push_manifest(NAME, "1", client.image(NAME, b"x" * 100_000, b"y"))
    here = f"docker://{client.netloc}"
    layout = f"oci:{tmp_path}/layout:1"
    plain = ("--src-tls-verify=false", "--dest-tls-verify=false")
    skopeo("copy", *plain, f"{here}/{NAME}:1", layout)
    skopeo("copy", *plain, layout, f"{here}/copied/here:2")
    skopeo("copy", *plain, f"{here}/copied/here@{digest}", f"{here}/third:3")
    tags = skopeo("list-tags", "--tls-verify=false", f"{here}/copied/here")
    assert json.loads(tags)["Tags"] == ["2"]
    got = client.ask("GET", "/v2/third/manifests/3")
    assert got.header("Docker-Content-Digest") == digest
    skopeo("delete", "--tls-verify=false", f"{here}/third:3")
    assert client.ask("GET", "/v2/third/manifests/3").status == 404


def test_oras_pushes_and_pulls(client: Client, tmp_path: Path, store: Store) -> None:
    import oras.client

    weights = tmp_path / "weights.gguf"
    weights.write_bytes(b"GGUF" + bytes(3_000_000))
    oras_client = oras.client.OrasClient(insecure=True, hostname=client.netloc)
    target = f"{client.netloc}/{NAME}:oras"
    reply = oras_client.push(
        target, files=[str(weights)], disable_path_validation=True, do_chunked=True
    )
    assert reply.status_code == 201
    assert oras_client.get_tags(f"{client.netloc}/{NAME}") == ["oras"]
    out = tmp_path / "out"
    pulled = oras_client.pull(target, outdir=str(out))
    assert [Path(path).read_bytes() for path in pulled] == [weights.read_bytes()]
    assert store.entries()[0].reference.familiar == "team/smol:oras"
