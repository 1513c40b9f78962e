"""A model with a draft model: made, pushed, deleted, pulled, served and asked."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest
from e2e.test_main_job import serving
from support.cli import Pannier
from support.gguf import WORDS, tiny_llama


def write_modelfile(folder: Path, words: list[str]) -> Path:
    tiny_llama(folder / "large.gguf", blocks=3)
    tiny_llama(folder / "small.gguf", blocks=1, words=words)
    path = folder / "Modelfile"
    path.write_text("FROM large.gguf\nDRAFT small.gguf\nPARAMETER draft_num_predict 3\n")
    return path


@pytest.mark.engine
def test_a_model_and_its_draft_model_travel_and_run(pannier: Pannier, tmp_path: Path) -> None:
    path = write_modelfile(tmp_path, list(WORDS))
    created = pannier("create", "pair", "-f", path)
    assert created.code == 0, created.err
    with serving(Pannier(tmp_path / "node")) as url:
        remote = f"{url.removeprefix('http://')}/team/pair"
        assert pannier("push", "pair", remote).code == 0
        assert pannier("rm", "--yes", "pair").code == 0
        pulled = pannier("pull", remote)
        assert pulled.out == created.out, pulled.err
    layers = json.loads(pannier("show", remote, "--json").out)["layers"]
    assert [layer["role"] for layer in layers] == ["weights", "draft", "params"]
    with serving(pannier) as url:
        body = {"model": remote, "prompt": "hello", "options": {"num_predict": 20}}
        asked = urllib.request.Request(f"{url}/api/generate", json.dumps(body).encode())
        with urllib.request.urlopen(asked, timeout=60) as reply:
            assert json.loads(reply.read().splitlines()[-1])["done"]
        with urllib.request.urlopen(f"{url}/api/ps", timeout=60) as reply:
            (model,) = json.load(reply)["models"]
        assert "tokens_drafted" in model["stats"]


def test_a_draft_model_of_another_vocabulary_is_refused(pannier: Pannier, tmp_path: Path) -> None:
    path = write_modelfile(tmp_path, [*WORDS[:-1], "▁other"])
    pannier("create", "pair", "-f", path).fails(2, "small.gguf cannot draft for this model")
    assert pannier.names() == []
