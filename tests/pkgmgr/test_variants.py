from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from support import peers
from support.registry import DockerRegistry, docker_registry

from pannier.pkgmgr import mediatypes as mt
from pannier.pkgmgr import operations
from pannier.pkgmgr.conversion import LossyConversion, push_as
from pannier.pkgmgr.descriptor import Descriptor
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import InvalidOption, ModelNotFound, UnknownDialect
from pannier.pkgmgr.manifest import Index, Manifest, parse
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.settings import RegistrySettings, Settings
from pannier.pkgmgr.store.store import Store
from pannier.pkgmgr.transfer.events import Event, Noticed, Started
from pannier.pkgmgr.variants import choose, create_index, free_memory, list_variants

GB = 10**9


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def index_of(*children: dict[str, Any], **members: Any) -> Index:
    manifests = [
        {
            "mediaType": mt.OCI_MANIFEST,
            "digest": str(Digest.of(str(number).encode())),
            "size": 500,
        }
        | child
        for number, child in enumerate(children)
    ]
    document = {"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": manifests, **members}
    index = parse(json.dumps(document).encode())
    assert isinstance(index, Index)
    return index


def child(quantization: str, size: int, tag: str = "") -> dict[str, Any]:
    notes = {mt.QUANTIZATION: quantization, mt.WEIGHTS_SIZE: str(size)}
    return {"annotations": notes | ({mt.REF_NAME: tag} if tag else {})}


SIZES = index_of(
    child("Q4_K_M", 4 * GB, "8b-q4"), child("Q8_0", 8 * GB, "8b-q8"), child("F16", 16 * GB)
)


@pytest.mark.parametrize(
    ("free", "quantization", "reason"),
    [
        (64 * GB, "F16", "the best that fits into 64.0 GB"),
        (10 * GB, "Q8_0", "the best that fits"),
        (9 * GB, "Q4_K_M", "the best that fits"),
        (2 * GB, "Q4_K_M", "the smallest; none fits into 2.0 GB"),
    ],
)
def test_the_best_that_fits_is_taken(free: int, quantization: str, reason: str) -> None:
    choice = choose(SIZES, None, free=free)
    assert choice.variant.labels[0] == quantization
    assert choice.reason.startswith(reason)


@pytest.mark.parametrize(
    "wanted", ["Q8_0", "q8_0", "8b-q8", f"{mt.QUANTIZATION}=Q8_0", str(Digest.of(b"1"))]
)
def test_a_variant_can_be_asked_for(wanted: str) -> None:
    assert choose(SIZES, wanted, free=None).variant.descriptor.digest == Digest.of(b"1")


def test_what_is_not_clear_is_listed() -> None:
    with pytest.raises(InvalidOption, match="no variant is called 'Q2_K'") as caught:
        choose(SIZES, "Q2_K", free=GB)
    assert (
        caught.value.hint == "there are Q4_K_M (8b-q4, 4.0 GB), Q8_0 (8b-q8, 8.0 GB), F16 (16.0 GB)"
    )
    with pytest.raises(InvalidOption, match="several variants are called 'same'"):
        choose(index_of(child("same", 1), child("same", 2)), "same", free=GB)
    with pytest.raises(InvalidOption, match="nothing tells which one fits"):
        choose(index_of({}, {}), None, free=GB)
    with pytest.raises(InvalidOption, match="nothing tells"):
        choose(SIZES, None, free=None)
    with pytest.raises(UnknownDialect, match="names no model"):
        choose(index_of(), None, free=GB)


def test_platforms_and_labels_count_and_attestations_do_not() -> None:
    index = index_of(
        {"platform": {"os": "linux", "architecture": "amd64"}},
        {"platform": {"os": "linux", "architecture": "arm64"}},
        {"platform": {"os": "unknown", "architecture": "unknown"}, "modelMetadata": {"x": "tiny"}},
        {"annotations": {"vnd.docker.reference.type": "attestation-manifest"}},
    )
    assert len(list_variants(index)) == 3
    assert choose(index, "linux/arm64", free=None).variant.descriptor.digest == Digest.of(b"1")
    assert choose(index, "tiny", free=None).variant.descriptor.digest == Digest.of(b"2")


def test_a_single_child_needs_no_choice() -> None:
    assert choose(index_of({}), None, free=None).reason == "it is the only one"


def test_free_memory_is_known_here(tmp_path: Path) -> None:
    assert (free_memory() or 0) > 1 << 20
    assert free_memory(tmp_path / "absent") is None


def two_models(store: Store, host: str) -> tuple[Reference, Reference]:
    one, two = (Reference.parse(f"{host}/team/m:{tag}") for tag in ("8b-q4", "8b-f32"))
    store.tag(peers.modelpack("raw").store(store), one)
    store.tag(peers.docker("0.2").store(store), two)
    return one, two


def test_an_index_is_made_of_stored_models(store: Store) -> None:
    one, two = two_models(store, "x.y")
    name = Reference.parse("x.y/team/m:8b")
    descriptor = create_index(store, name, [one, two])
    index = store.manifest(descriptor.digest)
    assert isinstance(index, Index)
    assert index == store.manifest(create_index(store, name, [one, two]).digest)
    assert [item.annotations[mt.REF_NAME] for item in index.manifests] == ["8b-q4", "8b-f32"]
    assert index.manifests[0].annotations[mt.QUANTIZATION] == "Q4_K_M"
    assert set(json.loads(index.raw)["manifests"][0]) == {
        "mediaType", "digest", "size", "annotations", "artifactType",
    }  # fmt: skip
    with pytest.raises(InvalidOption, match="is an index itself"):
        create_index(store, name, [name])
    with pytest.raises(InvalidOption, match="the same"):
        create_index(store, name, [one, one])
    with pytest.raises(InvalidOption, match="at least one"):
        create_index(store, name, [])
    with pytest.raises(ModelNotFound):
        create_index(store, name, [Reference.parse("x.y/team/none")])


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with docker_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path, {"HOME": str(tmp_path)})


def manifest_of(store: Store, reference: Reference, settings: Settings) -> Manifest:
    other = Store.open(store.root.parent / "other")
    descriptor = operations.pull(other, reference, settings=settings)
    manifest = other.manifest(descriptor.digest)
    assert isinstance(manifest, Manifest)
    return manifest


@pytest.mark.registry
def test_an_index_travels_and_one_variant_is_pulled(
    tmp_path: Path, store: Store, registry: DockerRegistry, settings: Settings
) -> None:
    one, two = two_models(store, registry.host)
    name = one.with_tag("8b")
    create_index(store, name, [one, two])
    operations.push(store, name, settings=settings)
    other = Store.open(tmp_path / "pulled")
    events: list[Event] = []
    operations.pull(other, name, settings=settings, variant="8B-q4", on_event=events.append)
    assert other.find(name).descriptor.digest == peers.modelpack("raw").descriptor.digest
    assert any(isinstance(e, Noticed) and "Q4_K_M" in e.message for e in events)
    # The children have their tags in the registry, too.
    operations.pull(other, two, settings=settings)
    assert other.find(two).descriptor.digest == peers.docker("0.2").descriptor.digest
    operations.pull(other, name, settings=settings, variant="all")
    assert other.find(name).descriptor.digest == store.find(name).descriptor.digest
    operations.pull(other, name, settings=settings)
    assert isinstance(other.manifest(other.find(name).descriptor.digest), Manifest)
    with pytest.raises(InvalidOption, match="no variant"):
        operations.pull(other, name, settings=settings, variant="Q2_K")
    with pytest.raises(InvalidOption, match="has no variants"):
        operations.pull(other, two, settings=settings, variant="Q2_K")


@pytest.mark.registry
def test_a_nested_index_is_followed(
    tmp_path: Path, store: Store, registry: DockerRegistry, settings: Settings
) -> None:
    name = Reference.parse(f"{registry.host}/team/nested:1")
    inner = peers.modelpack("raw").store(store)
    for _ in range(2):
        document = {"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": [inner.to_json()]}
        raw = json.dumps(document).encode()
        inner = Descriptor(mt.OCI_INDEX, Digest.of(raw), len(raw))
        store.push(inner, io.BytesIO(raw))
    store.tag(inner, name)
    operations.push(store, name, settings=settings)
    other = Store.open(tmp_path / "pulled")
    operations.pull(other, name, settings=settings)
    assert other.find(name).descriptor.digest == peers.modelpack("raw").descriptor.digest


@pytest.mark.registry
def test_other_dialects_cost_no_second_upload_of_the_weights(
    store: Store, registry: DockerRegistry, settings: Settings
) -> None:
    reference = Reference.parse(f"{registry.host}/team/dialects:8b")
    store.tag(peers.modelpack("raw").store(store), reference)
    operations.push(store, reference, settings=settings)
    events: list[Event] = []
    pushed = push_as(
        store,
        reference,
        reference,
        ["modelpack", "ollama", "docker"],
        settings=settings,
        on_event=events.append,
    )
    assert [name.tag for name, _ in pushed] == ["8b", "8b-ollama", "8b-docker"]
    started = {event.descriptor.digest for event in events if isinstance(event, Started)}
    assert Digest.of(peers.MODEL) not in started
    for name, item in pushed:
        manifest = manifest_of(store, name, settings)
        assert manifest.descriptor.digest == item.descriptor.digest
        assert Digest.of(peers.MODEL) in {layer.digest for layer in manifest.layers}
    ollama = manifest_of(store, reference.with_tag("8b-ollama"), settings)
    assert ollama.descriptor.media_type == mt.DOCKER_MANIFEST


@pytest.mark.registry
def test_one_dialect_takes_the_tag_and_patterns_are_checked(
    store: Store, registry: DockerRegistry, settings: Settings
) -> None:
    reference = Reference.parse(f"{registry.host}/team/pattern:8b")
    store.tag(peers.ollama().store(store), reference)
    (one,) = push_as(store, reference, reference, ["modelpack"], settings=settings)
    assert one[0].tag == "8b"
    names = push_as(
        store, reference, reference, ["docker"], settings=settings, pattern="{dialect}-{tag}"
    )
    assert [name.tag for name, _ in names] == ["docker-8b"]
    for pattern in ("x", "{", "{tag.__class__}", "{0}"):
        with pytest.raises(InvalidOption, match="tag pattern"):
            push_as(
                store,
                reference,
                reference,
                ["docker", "ollama"],
                settings=settings,
                pattern=pattern,
            )
    with pytest.raises(LossyConversion):
        push_as(
            store, reference, reference.with_tag("no"), ["docker"], settings=settings, strict=True
        )
    with pytest.raises(ModelNotFound):
        operations.pull(store, reference.with_tag("no"), settings=settings)


def test_a_registry_setting_names_a_dialect() -> None:
    said = RegistrySettings(dialect="ollama")
    settings = Settings(Path("/"), {}, registries={"x.y": said})
    assert settings.registry("x.y").dialect == "ollama"
