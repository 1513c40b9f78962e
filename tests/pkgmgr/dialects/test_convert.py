from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given, settings
from support import peers
from support.drafts import FULL, MINIMAL, drafts, opener

from pannier.pkgmgr.conversion import LossyConversion, convert_stored
from pannier.pkgmgr.dialects import DIALECTS, docker, modelpack, ollama, read_spec
from pannier.pkgmgr.dialects.base import ModelDraft, WritableDialect
from pannier.pkgmgr.dialects.convert import writable
from pannier.pkgmgr.errors import InvalidOption
from pannier.pkgmgr.manifest import parse_manifest
from pannier.pkgmgr.modelspec import ModelSpec, Role
from pannier.pkgmgr.operations import read_model
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.store.store import Store

WRITABLE = [dialect for dialect in DIALECTS if isinstance(dialect, WritableDialect)]
NAMES = [dialect.name for dialect in WRITABLE]
CATALOGUE = peers.catalogue()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def through(store: Store, name: str, *dialects: str) -> ModelSpec:
    """Convert a named model from dialect to dialect; the name goes along."""
    reference = Reference.parse(name)
    for dialect in dialects:
        store.tag(convert_stored(store, reference, dialect).descriptor, reference)
    return read_model(store, reference).spec


def test_three_dialects_are_written() -> None:
    assert sorted(NAMES) == ["docker", "modelpack", "ollama"]
    with pytest.raises(InvalidOption, match="cannot be written as 'kitops'"):
        writable("kitops")


@pytest.mark.parametrize("dialect", WRITABLE, ids=NAMES)
@settings(max_examples=50)
@given(draft=drafts())
def test_what_is_written_is_read_as_that_dialect(
    dialect: WritableDialect, draft: ModelDraft
) -> None:
    composition = dialect.compose(draft)
    assert composition == dialect.compose(draft)
    spec = read_spec(parse_manifest(composition.manifest), opener(composition))
    assert spec.dialect == dialect.name
    weights = [part.descriptor.digest for part in spec.select(Role.WEIGHTS)]
    assert weights == [file.digest for file in draft.select(Role.WEIGHTS)]
    assert spec.licenses == draft.licenses


@settings(max_examples=100)
@given(draft=drafts())
def test_ollama_keeps_all_but_jinja(draft: ModelDraft) -> None:
    composition = ollama.compose(draft)
    spec = read_spec(parse_manifest(composition.manifest), opener(composition))
    assert (spec.template, spec.system) == (draft.template, draft.system)
    assert (spec.params, spec.messages) == (draft.params, draft.messages)


def test_ollama_manifests_are_a_fixed_point_of_its_code() -> None:
    composition = ollama.compose(FULL)
    text = composition.manifest.decode()
    value = json.loads(text)
    assert list(value) == ["schemaVersion", "mediaType", "config", "layers"]
    assert all(list(item) == ["mediaType", "digest", "size"] for item in value["layers"])
    assert text == json.dumps(value, separators=(",", ":"))
    config = composition.blobs[-1][1].decode()
    assert list(json.loads(config)) == [
        "model_format", "model_family", "model_families", "model_type", "file_type", "renderer",
        "requires", "architecture", "os",
    ]  # fmt: skip
    assert not text.endswith("\n")
    assert not config.endswith("\n")


def test_go_escapes_html() -> None:
    draft = ModelDraft(files=MINIMAL.files, details={"family": "<a>&"}, params={"stop": ["<b>"]})
    composition = ollama.compose(draft)
    contents = b"".join(data for _, data in composition.blobs)
    assert b"\\u003ca\\u003e\\u0026" in contents
    assert b'{"stop":["\\u003cb\\u003e"]}\n' in contents


def test_small_layers_are_shared_between_dialects() -> None:
    ours = {descriptor.digest for descriptor, _ in modelpack.compose(FULL).blobs}
    theirs = [descriptor.digest for descriptor, _ in ollama.compose(FULL).blobs]
    # Only the config is another one.
    assert [digest for digest in theirs if digest not in ours] == theirs[-1:]


def test_docker_has_a_context_size_and_little_else() -> None:
    composition = docker.compose(FULL)
    spec = read_spec(parse_manifest(composition.manifest), opener(composition))
    assert spec.context_size == 4096
    assert spec.jinja_template == FULL.jinja_template
    assert [line.partition(":")[0] for line in composition.dropped] == [
        "the adapter",
        "the draft model",
        "the Go template",
        "the system prompt",
        "the example messages",
        "stop, temperature, renderer, requires",
    ]


@pytest.mark.parametrize(
    "name", ["ollama", "docker-v0.1", "docker-v0.2", "modelpack-raw", "llmman"]
)
@pytest.mark.parametrize("route", list(permutations(NAMES)), ids="-".join)
def test_converting_back_restores_the_digest(
    name: str, route: tuple[str, ...], store: Store
) -> None:
    artifact = CATALOGUE[name]
    store.tag(artifact.store(store), Reference.parse("m"))
    before = read_model(store, Reference.parse("m")).spec
    assert through(store, "m", *route, artifact.dialect) == before
    assert store.find(Reference.parse("m")).descriptor.digest == artifact.descriptor.digest


@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("target", NAMES)
def test_every_shape_converts_to_every_written_dialect(
    name: str, target: str, store: Store
) -> None:
    artifact = CATALOGUE[name]
    store.tag(artifact.store(store), Reference.parse("m"))
    before = read_model(store, Reference.parse("m")).spec
    after = through(store, "m", target)
    assert after.dialect == target or artifact.dialect == target
    files = [part.descriptor.digest for part in before.select(Role.WEIGHTS)]
    assert [part.descriptor.digest for part in after.select(Role.WEIGHTS)] == files
    assert after.licenses == before.licenses


def test_strict_refuses_what_would_be_lost(store: Store) -> None:
    store.tag(CATALOGUE["ollama"].store(store), Reference.parse("m"))
    with pytest.raises(LossyConversion, match="as docker the model would lose the Go template"):
        convert_stored(store, Reference.parse("m"), "docker", strict=True)
    assert convert_stored(store, Reference.parse("m"), "modelpack", strict=True).dropped == ()


def test_unknown_layers_are_told_and_kept(store: Store) -> None:
    artifact = CATALOGUE["modelpack-raw"]
    store.tag(artifact.store(store), Reference.parse("m"))
    converted = convert_stored(store, Reference.parse("m"), "ollama")
    assert converted.dropped == ("tokenizer.json: kept, but only for converting back",)
