from __future__ import annotations

from pathlib import Path

import pytest
from support import gguf as make
from support import peers

from pannier.pkgmgr.compare import Change, Side, compare
from pannier.pkgmgr.modelfile.build import create
from pannier.pkgmgr.modelfile.syntax import parse
from pannier.pkgmgr.operations import read_model
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def side(store: Store, name: str) -> Side:
    model = read_model(store, Reference.parse(name))
    return Side(
        name, model.manifest, model.spec, lambda item, offset: store.fetch(item, offset=offset)
    )


def built(store: Store, folder: Path, name: str, text: str) -> Side:
    create(store, parse(text), Reference.parse(name), base_dir=folder)
    return side(store, name)


def kinds(changes: tuple[Change, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for change in changes:
        found.setdefault(change.kind, []).append(change.key)
    return found


def test_a_model_is_no_different_from_itself(store: Store, tmp_path: Path) -> None:
    make.tiny_llama(tmp_path / "a.gguf")
    one = built(store, tmp_path, "one", "FROM a.gguf")
    assert compare(one, built(store, tmp_path, "two", "FROM a.gguf")) == ()


def test_texts_and_parameters(store: Store, tmp_path: Path) -> None:
    make.tiny_llama(tmp_path / "a.gguf")
    one = built(store, tmp_path, "one", 'FROM a.gguf\nSYSTEM "a\nb"\nPARAMETER top_k 1\n')
    two = built(store, tmp_path, "two", 'FROM a.gguf\nSYSTEM "a\nc"\nPARAMETER top_k 2\n')
    changes = compare(one, two)
    assert kinds(changes) == {
        "layer": ["params", "system"],
        "parameter": ["top_k"],
        "text": ["system"],
    }
    assert changes[2] == Change("parameter", "top_k", "1", "2")
    assert changes[3].diff[-2:] == ("-b", "+c")


@pytest.mark.parametrize("tensors", [True, False])
def test_metadata_and_tensors(store: Store, tmp_path: Path, tensors: bool) -> None:
    make.tiny_llama(tmp_path / "a.gguf")
    make.tiny_llama(tmp_path / "b.gguf", seed=2, context=256, name="other")
    one = built(store, tmp_path, "one", "FROM a.gguf")
    two = built(store, tmp_path, "two", "FROM b.gguf")
    found = kinds(compare(one, two, tensors=tensors))
    assert found["metadata"] == ["general.name", "llama.context_length"]
    assert ("blk.0.attn_q.weight" in found.get("tensor", [])) is tensors
    # Norms are all ones in both.
    assert "blk.0.attn_norm.weight" not in found.get("tensor", [])


def test_dialects_of_one_model_differ_in_no_weights(store: Store) -> None:
    for name, artifact in (("one", peers.ollama()), ("two", peers.modelpack("tar+zstd"))):
        store.tag(artifact.store(store), Reference.parse(name))
    found = kinds(compare(side(store, "one"), side(store, "two")))
    assert "tensor" not in found
    assert "metadata" not in found
    assert found["text"]
