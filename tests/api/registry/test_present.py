"""Models of every dialect, as real Ollama gets them."""

import io
import json
from pathlib import Path

import pytest
from support import peers
from support.drafts import FULL
from support.node import Client, bridging, serving
from support.ollama_client import DOCKER_MANIFEST, Ollama, OllamaError

from pannier.pkgmgr import operations
from pannier.pkgmgr.descriptor import Descriptor
from pannier.pkgmgr.dialects import modelpack
from pannier.pkgmgr.dialects.convert import convert, writable
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.store.store import Store

NAME = "team/smol"
AGENT = {"User-Agent": "ollama/0.12.6 (amd64 linux) Go/go1.24.1", "Accept": DOCKER_MANIFEST}
# Everything that holds exactly one GGUF, packed or not.
MODELS = sorted(set(peers.catalogue()) - {"omlmd", "oras-untitled"})


def put(store: Store, shape: str) -> Reference:
    reference = Reference.parse(f"{NAME}:1")
    store.tag(peers.catalogue()[shape].store(store), reference)
    return reference


@pytest.fixture
def ollama(client: Client, tmp_path: Path) -> Ollama:
    return Ollama(tmp_path / "ollama", client.netloc)


@pytest.mark.parametrize("shape", MODELS)
def test_ollama_pulls_a_model_of_any_dialect(ollama: Ollama, store: Store, shape: str) -> None:
    reference = put(store, shape)
    model = operations.read_model(store, reference)
    weights = [str(part.descriptor.digest) for part in model.spec.parts if part.role == "weights"]
    if len(weights) != 1:
        with pytest.raises(OllamaError, match="406"):
            ollama.pull(f"{NAME}:1")
        return
    got = json.loads(ollama.pull(f"{NAME}:1"))
    assert got["mediaType"] == DOCKER_MANIFEST
    kind = "application/vnd.ollama.image.model"
    assert [item["digest"] for item in got["layers"] if item["mediaType"] == kind] == weights


def test_the_derived_digest_is_stable_and_can_be_asked_for(
    client: Client, store: Store, tmp_path: Path
) -> None:
    reference = put(store, "modelpack-raw")
    url = f"/v2/{NAME}/manifests/"
    first = client.ask("GET", f"{url}1", headers=AGENT)
    digest = first.header("Docker-Content-Digest")
    assert digest != str(store.find(reference).descriptor.digest)
    assert client.ask("HEAD", f"{url}1", headers=AGENT).header("Docker-Content-Digest") == digest
    assert client.ask("GET", url + digest).body == first.body
    other = Store.open(tmp_path / "other")
    put(other, "modelpack-raw")
    with serving(other) as elsewhere:
        again = elsewhere.ask("GET", f"{url}1", headers=AGENT)
        assert again.header("Docker-Content-Digest") == digest
    # A restarted node that never derived it in this life finds it by deriving it again.
    with serving(store) as restarted:
        assert restarted.ask("GET", url + digest).body == first.body
        assert restarted.ask("GET", f"/v2/team/other/manifests/{digest}").status == 404


def test_what_is_presented_is_what_conversion_writes(client: Client, store: Store) -> None:
    reference = put(store, "docker-v0.1")
    model = operations.read_model(store, reference)

    def open_blob(descriptor: Descriptor) -> bytes:
        return store.read(descriptor, max_size=1 << 20)

    written = convert(model.manifest, model.spec, writable("ollama"), open_blob)
    assert client.ask("GET", f"/v2/{NAME}/manifests/1", headers=AGENT).body == written.manifest


def test_a_presented_model_listed_once(client: Client, ollama: Ollama, store: Store) -> None:
    put(store, "kitops-1.10-raw")
    ollama.pull(f"{NAME}:1")
    assert len(operations.list_models(store)) == 1
    assert client.ask("GET", f"/v2/{NAME}/tags/list").json["tags"] == ["1"]


def test_clients_of_oci_get_the_stored_bytes(client: Client, store: Store) -> None:
    reference = put(store, "modelpack-raw")
    got = client.ask("GET", f"/v2/{NAME}/manifests/1")
    assert got.header("Docker-Content-Digest") == str(store.find(reference).descriptor.digest)


def test_a_native_model_keeps_its_texts(client: Client, ollama: Ollama, store: Store) -> None:
    draft = FULL
    made = modelpack.compose(draft)
    for descriptor, data in made.blobs:
        store.push(descriptor, io.BytesIO(data))
    for text in ("weights", "projector", "adapter", "draft"):
        with store.ingest() as ingest:
            ingest.write(text.encode())
            ingest.commit()
    store.push(made.descriptor, io.BytesIO(made.manifest))
    store.tag(made.descriptor, Reference.parse(f"{NAME}:1"))
    got = json.loads(ollama.pull(f"{NAME}:1"))
    texts = {item["mediaType"].rpartition(".")[2]: item["digest"] for item in got["layers"]}
    assert ollama.blob_path(texts["system"]).read_text() == draft.system
    assert json.loads(ollama.blob_path(texts["params"]).read_text())["num_ctx"] == 4096


def test_what_is_no_model_is_404(client: Client, ollama: Ollama) -> None:
    value = client.image(NAME, b"layer", artifactType="application/x-sbom")
    client.push_manifest(NAME, "1", value)
    with pytest.raises(FileNotFoundError):
        ollama.pull(f"{NAME}:1")


@pytest.mark.parametrize("cache_size", [None, 0])
def test_a_bridge_presents_what_the_upstream_has(tmp_path: Path, cache_size: int | None) -> None:
    corp = Store.open(tmp_path / "corp")
    put(corp, "modelpack-raw")
    with (
        serving(corp) as upstream,
        bridging(tmp_path, upstream.netloc, cache_size=cache_size) as (client, _),
    ):
        ollama = Ollama(tmp_path / "ollama", client.netloc)
        raw = ollama.pull(f"{NAME}:1")
        direct = Ollama(tmp_path / "direct", upstream.netloc)
        assert direct.pull(f"{NAME}:1") == raw


def test_a_bridge_presents_a_packed_model(tmp_path: Path) -> None:
    corp = Store.open(tmp_path / "corp")
    put(corp, "kitops-1.10-tar")
    with serving(corp) as upstream, bridging(tmp_path, upstream.netloc) as (client, _):
        raw = Ollama(tmp_path / "ollama", client.netloc).pull(f"{NAME}:1")
        assert Ollama(tmp_path / "direct", upstream.netloc).pull(f"{NAME}:1") == raw
