from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support import gguf as make

from pannier.pkgmgr import mediatypes as mt
from pannier.pkgmgr.descriptor import Descriptor
from pannier.pkgmgr.errors import ModelfileError, ModelNotFound
from pannier.pkgmgr.manifest import Manifest
from pannier.pkgmgr.modelfile.build import create
from pannier.pkgmgr.modelfile.show import modelfile_of
from pannier.pkgmgr.modelfile.syntax import parse, render
from pannier.pkgmgr.modelspec import ChatMessage, ModelSpec, Role
from pannier.pkgmgr.operations import read_model
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.store.store import Store
from pannier.pkgmgr.transfer.events import Advanced, Event, Finished, Started

Build = Callable[..., ModelSpec]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "work"
    path.mkdir()
    make.tiny_llama(path / "a.gguf")
    return path


@pytest.fixture
def build(store: Store, folder: Path) -> Build:
    def run(text: str, name: str = "pack") -> ModelSpec:
        reference = Reference.parse(name)
        create(store, parse(text), reference, base_dir=folder)
        return read_model(store, reference).spec

    return run


def digest_of(store: Store, name: str = "pack") -> str:
    return str(store.find(Reference.parse(name)).descriptor.digest)


FULL = '''FROM ./a.gguf
TEMPLATE """{{ .Prompt }}"""
SYSTEM You carry packs.
PARAMETER temperature 0.7
PARAMETER num_ctx 2048
PARAMETER stop <a>
PARAMETER stop <b>
PARAMETER use_mmap true
MESSAGE user hi
MESSAGE assistant hello
LICENSE MIT
LICENSE Apache
RENDERER qwen3
REQUIRES 0.6.1
'''


def test_everything_in_a_modelfile_is_in_the_model(build: Build) -> None:
    spec = build(FULL)
    assert spec.template == "{{ .Prompt }}"
    assert spec.system == "You carry packs."
    assert spec.params == {
        "temperature": 0.7,
        "num_ctx": 2048,
        "stop": ["<a>", "<b>"],
        "use_mmap": True,
    }
    assert spec.messages == (ChatMessage("user", "hi"), ChatMessage("assistant", "hello"))
    assert spec.licenses == ("MIT", "Apache")
    assert spec.settings == {"renderer": "qwen3", "requires": "0.6.1"}
    assert spec.details["family"] == "llama"
    assert spec.details["parameter_size"] == "42K"
    assert spec.details["quantization_level"] == "F32"


def test_the_same_model_twice_has_the_same_digest(build: Build, store: Store, folder: Path) -> None:
    build(FULL, "one")
    build("# another comment\n" + FULL.replace("./a.gguf", str(folder / "a.gguf")), "two")
    assert digest_of(store, "one") == digest_of(store, "two")


def test_the_date_stands_in_it_only_where_asked(
    build: Build, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(FULL, "plain")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    build(FULL, "dated")
    manifest = store.manifest(store.find(Reference.parse("dated")).descriptor.digest)
    assert isinstance(manifest, Manifest)
    config = json.loads(store.read(manifest.config, max_size=1 << 20))
    assert config["descriptor"]["createdAt"] == "2023-11-14T22:13:20Z"
    assert digest_of(store, "plain") != digest_of(store, "dated")


def test_a_name_brings_its_layers_and_its_parameters(build: Build, store: Store) -> None:
    base = build(FULL, "base")
    spec = build(
        "FROM base\nSYSTEM Other.\nPARAMETER temperature 1\nPARAMETER num_ctx unset\n"
        "PARAMETER stop <c>\n",
        "child",
    )
    assert spec.select(Role.WEIGHTS) == base.select(Role.WEIGHTS)
    assert (spec.system, spec.template, spec.licenses) == ("Other.", base.template, base.licenses)
    assert spec.params == {"temperature": 1.0, "stop": ["<c>"], "use_mmap": True}
    assert spec.details == base.details
    manifest = read_model(store, Reference.parse("child")).manifest
    assert manifest.annotations[mt.BASE_DIGEST] == digest_of(store, "base")


def test_unset_counts_only_what_came_before(build: Build) -> None:
    build("FROM a.gguf\nPARAMETER stop x\n", "base")
    spec = build(
        'FROM base\nPARAMETER stop unset\nPARAMETER stop "unset"\nPARAMETER stop y', "child"
    )
    assert spec.params == {"stop": ["unset", "y"]}


def test_a_shard_brings_its_siblings_in_order(build: Build, folder: Path) -> None:
    paths = make.tiny_shards(folder, count=3)
    spec = build(f"FROM {paths[1].name}")
    assert [part.descriptor.size for part in spec.select(Role.WEIGHTS)] == [
        path.stat().st_size for path in paths
    ]
    assert spec.details["parameter_size"] == "42K"
    assert build("".join(f"FROM {path.name}\n" for path in reversed(paths))).parts == spec.parts


def test_a_directory_holds_the_model(build: Build, folder: Path) -> None:
    (folder / "d").mkdir()
    (folder / "a.gguf").rename(folder / "d" / "a.gguf")
    make.tiny_projector(folder / "d" / "p.gguf")
    spec = build("FROM ./d")
    assert [part.role for part in spec.parts][:2] == [Role.WEIGHTS, Role.PROJECTOR]


def test_projector_adapter_and_draft(build: Build, folder: Path) -> None:
    make.tiny_projector(folder / "p.gguf")
    make.tiny_adapter(folder / "l.gguf")
    make.tiny_llama(folder / "small.gguf", blocks=1)
    text = "FROM p.gguf\nFROM a.gguf\nADAPTER l.gguf\nDRAFT small.gguf\n"
    spec = build(text)
    roles = [part.role for part in spec.parts]
    assert roles == [Role.WEIGHTS, Role.PROJECTOR, Role.ADAPTER, Role.DRAFT]
    assert spec.details["families"] == ["llama", "clip"]


def test_a_draft_model_with_other_tokens_is_refused(build: Build, folder: Path) -> None:
    make.tiny_llama(folder / "small.gguf", blocks=1, words=[*make.WORDS[:-1], "▁other"])
    with pytest.raises(ModelfileError) as caught:
        build("FROM a.gguf\nDRAFT small.gguf\n")
    assert "small.gguf cannot draft for this model: its token 362 is '▁other'" in str(caught.value)
    build("FROM a.gguf", "base")
    with pytest.raises(ModelfileError):
        build("FROM base\nDRAFT small.gguf\n", "child")


def test_home_and_relative_paths(
    build: Build, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(folder))
    (folder / "sub").mkdir()
    assert build("FROM ~/a.gguf").parts == build("FROM sub/../a.gguf").parts


def test_progress_counts_every_byte(store: Store, folder: Path) -> None:
    events: list[Event] = []
    create(
        store,
        parse("FROM a.gguf"),
        Reference.parse("pack"),
        base_dir=folder,
        on_event=events.append,
    )
    size = (folder / "a.gguf").stat().st_size
    assert [type(event) for event in (events[0], events[-1])] == [Started, Finished]
    assert sum(event.count for event in events if isinstance(event, Advanced)) == size


def test_the_shown_modelfile_builds_the_same_model(
    build: Build, store: Store, folder: Path
) -> None:
    spec = build(FULL, "one")
    shown = render(modelfile_of(spec, store.path))
    again = build(shown, "two")
    assert again.parts == spec.parts
    assert (again.params, again.settings) == (spec.params, spec.settings)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("FROM ./missing.gguf", "Modelfile:1: cannot read ./missing.gguf: No such file"),
        ("SYSTEM x\nFROM ./text.gguf", "Modelfile:2: .*text.gguf is not a usable GGUF file"),
        ("FROM a.gguf\nFROM b.gguf", "a.gguf and b.gguf are two models"),
        ("FROM a.gguf\nADAPTER b.gguf", "kind 'model', which ADAPTER cannot take"),
        ("FROM l.gguf", "kind 'adapter', which FROM cannot take"),
        ("FROM p.gguf", "no FROM names a model"),
        ("FROM a.gguf\nPARAMETER temprature 1", "Modelfile:2: unknown parameter 'temprature'"),
        ("FROM a.gguf\nPARAMETER top_k many", "Modelfile:2: invalid int value 'many'"),
        ("FROM a.gguf\nPARAMETER temperature nan", "invalid float value"),
        ("FROM a.gguf\nPARAMETER use_mmap maybe", "invalid bool value"),
        ("FROM a.gguf\nPARAMETER nothing unset", "unknown parameter"),
        ("FROM a.gguf\nREQUIRES later", "Modelfile:2: requires must be a semantic version"),
        ("FROM a.gguf\nADAPTER nowhere", "Modelfile:2: there is no file 'nowhere'"),
        ("FROM x-00001-of-00002.gguf", "x-00002-of-00002.gguf is not beside it"),
        ("FROM ./empty", "holds no GGUF file"),
        ("FROM UPPER//case", "Modelfile:1: invalid model name"),
        ("FROM pipe.gguf", "not a regular file"),
        ("FROM base\nFROM a.gguf", "a model and weights"),
        ("FROM base\nFROM base2", "Modelfile:2: a model can have one base only"),
        ("FROM a\0.gguf", "cannot read"),
    ],
)
def test_bad_modelfiles_leave_nothing_behind(
    build: Build, store: Store, folder: Path, text: str, reason: str
) -> None:
    build("FROM a.gguf", "base")
    make.tiny_llama(folder / "b.gguf", seed=9)
    make.tiny_adapter(folder / "l.gguf")
    make.tiny_projector(folder / "p.gguf")
    make.tiny_llama(folder / "x-00001-of-00002.gguf")
    (folder / "text.gguf").write_text("version https://git-lfs.github.com/spec/v1\n")
    (folder / "empty").mkdir()
    os.mkfifo(folder / "pipe.gguf")
    with pytest.raises(ModelfileError, match=reason):
        build(text)
    with pytest.raises(ModelNotFound):
        store.find(Reference.parse("pack"))


@pytest.mark.parametrize("name", make.hostile())
def test_a_hostile_gguf_makes_no_model(build: Build, store: Store, folder: Path, name: str) -> None:
    (folder / "bad.gguf").write_bytes(make.hostile()[name])
    with pytest.raises(ModelfileError, match=r"bad\.gguf is not a usable GGUF"):
        build("FROM bad.gguf")
    assert store.entries() == ()


def test_an_unknown_base_is_not_found(build: Build) -> None:
    with pytest.raises(ModelNotFound) as caught:
        build("FROM somebody/else:tag")
    assert caught.value.hint == "get it with `pannier pull somebody/else:tag`"


def test_an_unknown_base_can_be_fetched(store: Store, folder: Path, build: Build) -> None:
    def fetch(reference: Reference) -> Descriptor:
        build("FROM a.gguf", str(reference))
        return store.find(reference).descriptor

    modelfile = parse("FROM other")
    create(store, modelfile, Reference.parse("pack"), base_dir=folder, fetch=fetch)
    assert len(store.entries()) == 2


def test_deprecated_parameters_warn(build: Build, caplog: pytest.LogCaptureFixture) -> None:
    assert build("FROM a.gguf\nPARAMETER low_vram 1").params == {}
    assert "low_vram is deprecated" in caplog.text


def test_renamed_shards_are_told(build: Build, folder: Path) -> None:
    one, two = make.tiny_shards(folder, count=2)
    third = folder / "third"
    one.rename(third)
    two.rename(one)
    third.rename(two)
    with pytest.raises(ModelfileError, match="says in its header that it is shard 2 of 2"):
        build(f"FROM {one.name}")
