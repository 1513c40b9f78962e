"""Real Ollama's way of pulling and pushing, against a node."""

import json
from pathlib import Path

import pytest
from support.node import Client, digest_of
from support.ollama_client import Ollama

from pannier.pkgmgr import operations
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.store.store import Store

CONFIG = {"model_format": "gguf", "model_family": "llama", "architecture": "amd64", "os": "linux"}
LAYERS = {
    "model": b"GGUF" + bytes(range(256)) * 1000,
    "template": b"{{ .Prompt }}",
    "params": b'{"temperature":0.5}\n',
}


@pytest.fixture
def ollama(client: Client, tmp_path: Path) -> Ollama:
    return Ollama(tmp_path / "ollama", client.netloc, part_size=10_000)


def test_ollama_pushes_a_model_that_is_listed(ollama: Ollama, store: Store) -> None:
    ollama.create("team/smol:1", LAYERS, CONFIG)
    ollama.push("team/smol:1")
    (listed,) = operations.list_models(store)
    assert (listed.reference.familiar, listed.dialect) == ("team/smol:1", "ollama")
    model = operations.read_model(store, Reference.parse("team/smol:1"))
    assert model.spec.params["temperature"] == 0.5
    assert not list((store.root / "ingest").iterdir())


def test_ollama_pulls_what_ollama_pushed(ollama: Ollama, tmp_path: Path) -> None:
    ollama.create("team/smol:1", LAYERS, CONFIG)
    ollama.push("team/smol:1")
    other = Ollama(tmp_path / "other", ollama.netloc, part_size=10_000)
    raw = other.pull("team/smol:1")
    # A push drops the trailing newline of the local file; from there on the bytes stay.
    assert raw == ollama.manifest_path("team/smol:1").read_bytes().rstrip(b"\n")
    assert {path.name for path in other.blobs.iterdir()} == {
        path.name for path in ollama.blobs.iterdir()
    }
    other.push("team/smol:1", destination="team/smol:2")
    assert other.pull("team/smol:2") == raw


def test_a_second_push_moves_no_blob(ollama: Ollama) -> None:
    ollama.create("team/smol:1", LAYERS, CONFIG)
    ollama.push("team/smol:1")
    ollama.requests.clear()
    ollama.push("team/smol:1", destination="other/name:1")
    assert {line.split()[0] for line in ollama.requests} == {"HEAD", "PUT"}


def test_ollama_names_may_have_upper_case(ollama: Ollama, store: Store) -> None:
    ollama.create("Team/Smol:1", LAYERS, CONFIG)
    ollama.push("Team/Smol:1")
    assert store.entries()[0].reference.familiar == "team/smol:1"
    ollama.pull("TEAM/smol:1")


def test_an_unknown_model_is_file_does_not_exist(ollama: Ollama) -> None:
    with pytest.raises(FileNotFoundError, match="file does not exist"):
        ollama.pull("team/absent:1")


def test_a_repushed_oci_manifest_keeps_its_own_type(client: Client, ollama: Ollama) -> None:
    value = client.image("team/oci", LAYERS["model"])
    raw = json.dumps(value, separators=(",", ":")).encode()
    headers = {"Content-Type": "application/vnd.docker.distribution.manifest.v2+json"}
    url = "/v2/team/oci/manifests/1"
    agent = {"User-Agent": "ollama/0.12.6 (amd64 linux) Go/go1.24.1"}
    assert client.ask("PUT", url, raw, headers | agent).status == 201
    assert client.ask("GET", url).header("Docker-Content-Digest") == digest_of(raw)
