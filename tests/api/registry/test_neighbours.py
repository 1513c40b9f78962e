"""Other programs that read from a node: another pannier, and docker-registry as its mirror."""

import hashlib
import os
from pathlib import Path

import pytest
from support.artifacts import make_artifact
from support.gguf import tiny_llama
from support.node import Client, bridging, serving
from support.registry import docker_registry

from pannier.pkgmgr import operations
from pannier.pkgmgr.access import PULL, PUSH, Keyring
from pannier.pkgmgr.errors import Cancelled
from pannier.pkgmgr.modelfile.build import create
from pannier.pkgmgr.modelfile.syntax import parse
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.settings import Settings
from pannier.pkgmgr.store.store import Store
from pannier.pkgmgr.transfer.credentials import Credential
from pannier.pkgmgr.transfer.events import Advanced, Event, Started
from pannier.pkgmgr.transfer.open import open_keychain


def settings_of(home: Path) -> Settings:
    return Settings(home, {"HOME": str(home)})


@pytest.fixture
def made(tmp_path: Path, store: Store) -> Reference:
    """A native model in the node's store."""
    path = tiny_llama(tmp_path / "tiny.gguf")
    reference = Reference.parse("team/tiny:1")
    text = f"FROM {path}\nSYSTEM Be brief.\nPARAMETER temperature 0.5\n"
    create(store, parse(text), reference, base_dir=tmp_path)
    return reference


def test_a_node_pulls_from_a_node(
    client: Client, store: Store, made: Reference, tmp_path: Path
) -> None:
    other = Store.open(tmp_path / "other")
    name = Reference.parse(f"{client.netloc}/team/tiny:1")
    descriptor = operations.pull(other, name, settings=settings_of(tmp_path / "other"))
    assert descriptor.digest == store.find(made).descriptor.digest
    model = operations.read_model(other, name)
    assert model.spec.system == "Be brief."


def test_a_node_pushes_to_a_node_and_it_is_a_model_there(
    client: Client, store: Store, made: Reference, tmp_path: Path
) -> None:
    target = Store.open(tmp_path / "target")
    with serving(target) as elsewhere:
        name = Reference.parse(f"{elsewhere.netloc}/copies/tiny:2")
        operations.push(store, made, name, settings=settings_of(store.root))
    (listed,) = operations.list_models(target)
    assert (listed.reference.familiar, listed.dialect) == ("copies/tiny:2", "modelpack")
    assert listed.digest == store.find(made).descriptor.digest


def test_a_closed_node_serves_a_neighbour_with_a_key(
    client: Client, store: Store, made: Reference, tmp_path: Path
) -> None:
    _, secret = Keyring(store.root).add_secret(name="neighbour", scopes=(PULL, PUSH))
    home = tmp_path / "other"
    other, settings = Store.open(home), settings_of(home)
    open_keychain(settings).store(client.netloc, Credential("robot", secret))
    name = Reference.parse(f"{client.netloc}/team/tiny:1")
    descriptor = operations.pull(other, name, settings=settings)
    operations.push(other, name, name.with_tag("2"), settings=settings)
    assert str(descriptor.digest) in {str(entry.descriptor.digest) for entry in store.entries()}
    assert {entry.reference.tag for entry in store.entries()} == {"1", "2"}


def test_a_chain_of_bridges(client: Client, store: Store, made: Reference, tmp_path: Path) -> None:
    with (
        bridging(tmp_path, client.netloc, home="near") as (near, _),
        bridging(tmp_path, near.netloc, home="far") as (far, _),
    ):
        other = Store.open(tmp_path / "other")
        name = Reference.parse(f"{far.netloc}/team/tiny:1")
        operations.pull(other, name, settings=settings_of(tmp_path / "other"))
        assert operations.read_model(other, name).spec.params["temperature"] == 0.5


def test_a_large_model_comes_in_parallel_and_goes_on_after_a_break(
    client: Client, store: Store, tmp_path: Path
) -> None:
    artifact = make_artifact(os.urandom(1 << 20) * 64)
    artifact.push_to(store, "team/large:1")
    home = tmp_path / "other"
    other, settings = Store.open(home), settings_of(home)
    name = Reference.parse(f"{client.netloc}/team/large:1")
    resumed, count = [], [0]

    def stop_half_way(event: Event) -> None:
        count[0] += event.count if isinstance(event, Advanced) else 0
        if count[0] > 32 << 20:
            raise Cancelled

    def note(event: Event) -> None:
        if isinstance(event, Started):
            resumed.append(event.resumed)

    with pytest.raises(Cancelled):
        operations.pull(other, name, settings=settings, on_event=stop_half_way)
    operations.pull(other, name, settings=settings, on_event=note)
    assert max(resumed) > 8 << 20
    assert len({line for line in client.seen if "bytes=" in line}) > 2


@pytest.mark.registry
def test_docker_registry_mirrors_a_node(client: Client, made: Reference, tmp_path: Path) -> None:
    upstream = {"REGISTRY_PROXY_REMOTEURL": f"http://{client.netloc}"}
    with docker_registry(tmp_path / "mirror", environ=upstream) as mirror:
        host, _, port = mirror.host.partition(":")
        reader = Client((host, int(port)))
        accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
        manifest = reader.ask("GET", "/v2/team/tiny/manifests/1", headers=accept)
        assert manifest.status == 200
        for item in [manifest.json["config"], *manifest.json["layers"]]:
            for _ in range(2):
                blob = reader.ask("GET", f"/v2/team/tiny/blobs/{item['digest']}")
                assert hashlib.sha256(blob.body).hexdigest() == item["digest"][7:]
