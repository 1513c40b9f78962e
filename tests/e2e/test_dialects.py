"""Dialects against other people's programs: skopeo, the unmodified oras client, llama.cpp."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import gguf, peers
from support.registry import DockerRegistry, docker_registry

from pannier.pkgmgr import operations
from pannier.pkgmgr.conversion import push_as
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.modelspec import ModelFiles, Role
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.settings import Settings
from pannier.pkgmgr.store.store import Store

OCI = [name for name, item in peers.catalogue().items() if item.dialect != "ollama"]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path, {"HOME": str(tmp_path)})


def skopeo(*arguments: str) -> bytes:
    command = [str(shutil.which("skopeo")), *arguments]
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


@pytest.mark.registry
@pytest.mark.skopeo
@pytest.mark.parametrize("name", OCI)
def test_skopeo_copies_what_we_push_byte_for_byte(
    name: str, store: Store, registry: DockerRegistry, settings: Settings, tmp_path: Path
) -> None:
    artifact = peers.catalogue()[name]
    reference = Reference.parse(f"{registry.host}/skopeo/{name.lower()}:1")
    store.tag(artifact.store(store), reference)
    operations.push(store, reference, settings=settings)
    source = f"docker://{reference}"
    assert skopeo("inspect", "--raw", "--tls-verify=false", source) == artifact.manifest
    skopeo("copy", "-q", "--src-tls-verify=false", source, f"oci:{tmp_path}/copy:1")
    for digest in (artifact.descriptor.digest, *artifact.blobs):
        content = (tmp_path / "copy" / "blobs" / "sha256" / digest.hex).read_bytes()
        assert Digest.of(content) == digest


@pytest.mark.registry
@pytest.mark.skopeo
def test_skopeo_reads_every_dialect_that_we_write(
    store: Store, registry: DockerRegistry, settings: Settings
) -> None:
    reference = Reference.parse(f"{registry.host}/skopeo/written:1")
    store.tag(peers.modelpack("tar").store(store), reference)
    pushed = push_as(store, reference, reference, ["docker", "ollama"], settings=settings)
    for name, item in pushed:
        raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}")
        assert Digest.of(raw) == item.descriptor.digest


@pytest.mark.registry
@pytest.mark.parametrize("dialect", ["modelpack", "docker"])
def test_the_oras_client_pulls_what_we_push(
    dialect: str, store: Store, registry: DockerRegistry, settings: Settings, tmp_path: Path
) -> None:
    import oras.client

    reference = Reference.parse(f"{registry.host}/oras/{dialect}:1")
    store.tag(peers.oras().store(store), reference)
    ((name, _),) = push_as(store, reference, reference, [dialect], settings=settings)
    client = oras.client.OrasClient(insecure=True)
    manifest = client.get_manifest(str(name))
    assert manifest == json.loads(operations.inspect_remote(name, settings=settings).content.raw)
    for layer in manifest["layers"]:
        content = client.get_blob(str(name), layer["digest"]).content
        assert str(Digest.of(content)) == layer["digest"]


@pytest.mark.registry
def test_what_the_oras_client_pushes_is_a_model(
    store: Store,
    registry: DockerRegistry,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import oras.client

    path = gguf.tiny_llama(tmp_path / "model.gguf")
    reference = Reference.parse(f"{registry.host}/oras/pushed:1")
    monkeypatch.chdir(tmp_path)
    oras.client.OrasClient(insecure=True).push(target=str(reference), files=[path.name])
    operations.pull(store, reference, settings=settings)
    spec = operations.read_model(store, reference).spec
    assert spec.dialect == "artifact"
    (part,) = spec.select(Role.WEIGHTS)
    assert part.descriptor.digest == Digest.of(path.read_bytes())


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.parametrize("name", peers.catalogue())
def test_every_shape_runs(
    name: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pannier.runtime.interface import ModelSource
    from pannier.runtime.request import GenerationRequest, LoadOptions, Segment
    from pannier.runtime.supervisor import Supervisor

    monkeypatch.setattr(peers, "MODEL", gguf.tiny_llama(tmp_path / "tiny.gguf").read_bytes())
    shards = gguf.tiny_shards(tmp_path, count=2)
    monkeypatch.setattr(peers, "SHARDS", tuple(path.read_bytes() for path in shards))
    reference = Reference.parse("golden")
    store.tag(peers.catalogue()[name].store(store), reference)
    spec = operations.read_model(store, reference).spec
    weights = spec.files(store.path).weights
    source = ModelSource(spec.digest, "golden", ModelFiles(weights))
    request = GenerationRequest((Segment("hello"),), max_tokens=3)
    with Supervisor(defaults=LoadOptions(num_ctx=64, num_thread=1)) as supervisor:
        deltas = list(supervisor.generate(source, request))
    usage = deltas[-1].usage
    assert usage is not None
    assert usage.prompt_tokens > 0
