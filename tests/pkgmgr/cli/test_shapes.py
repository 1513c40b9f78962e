"""The commands on shapes of models: convert, index, diff, lint, fmt, inspect."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import gguf, peers

from pannier.pkgmgr.cli import app
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.store.store import Store

Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("PANNIER_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> int:
        return app.run(app.build(), arguments)

    return call


@pytest.fixture
def store(run: Run, tmp_path: Path) -> Store:
    store = Store.open(tmp_path / "home")
    store.tag(peers.ollama().store(store), Reference.parse("golden"))
    return store


def test_convert_there_and_back(run: Run, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("convert", "golden", "other", "--as", "docker", "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["dialect"] == "docker"
    assert "as docker it loses the Go template" in shown.err
    assert run("convert", "other", "back", "--as", "ollama") == 0
    assert capsys.readouterr().out.strip() == str(peers.ollama().descriptor.digest)
    assert run("convert", "golden", "x", "--as", "docker", "--strict") == 4
    assert run("convert", "golden", "x", "--as", "kitops") == 2
    assert run("convert", "absent", "x", "--as", "docker") == 3


def test_an_index_is_listed_and_shown(
    run: Run, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.tag(peers.modelpack().store(store), Reference.parse("golden:raw"))
    assert run("index", "create", "golden:all", "--from", "golden", "--from", "golden:raw") == 0
    assert run("list", "--json") == 0
    listed = json.loads(capsys.readouterr().out.partition("\n")[2])
    dialects = {item["name"]: item["dialect"] for item in listed}
    assert dialects["golden:all"] == "index"
    assert run("inspect", "golden:all", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert [item["labels"][:2] for item in record["variants"]] == [
        ["Q4_K_M", "latest"],
        ["Q4_K_M", "raw"],
    ]
    assert run("show", "golden:all") == 0


def test_inspect_tells_roles(run: Run, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", "golden", "--json") == 0
    record: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert record["dialect"] == "ollama"
    assert [item["role"] for item in record["layers"]] == [
        "weights", "template", "system", "license", "params", "messages",
    ]  # fmt: skip
    assert run("inspect", "golden", "--raw") == 0
    assert capsys.readouterr().out.encode() == peers.ollama().manifest


def test_diff_ends_with_one_where_asked(
    run: Run, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.tag(peers.modelpack().store(store), Reference.parse("raw"))
    assert run("diff", "golden", "golden", "--exit-code") == 0
    assert capsys.readouterr().out == ""
    assert run("diff", "golden", "raw", "--exit-code") == 1
    assert "- layer system" in capsys.readouterr().out


def test_lint_and_fmt(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "Modelfile"
    gguf.tiny_llama(tmp_path / "a.gguf")
    path.write_bytes(b"from  a.gguf\nparameter top_k  many\n")
    assert run("lint") == 1
    assert "Modelfile:2: error: invalid int value 'many'" in capsys.readouterr().out
    assert run("fmt", "--check") == 1
    assert path.read_bytes().startswith(b"from ")
    assert run("fmt") == 0
    assert path.read_text() == "FROM a.gguf\nPARAMETER top_k many\n"
    assert run("fmt", "--check") == 0
    path.write_text("FROM a.gguf\n")
    assert run("lint", "--json") == 0
    capsys.readouterr()
    assert run("lint", "absent") == 2
    path.write_bytes(b"\xff\xff")
    assert run("fmt") == 2


def test_ollamas_store_and_dockers_tar(
    run: Run, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("export", "golden", "--ollama-store", "out") == 0
    assert run("rm", "golden", "--yes") == 0
    capsys.readouterr()
    assert run("import", "out") == 2
    assert "it has golden:latest" in capsys.readouterr().err
    assert run("import", "out", "golden") == 0
    assert str(peers.ollama().descriptor.digest) in capsys.readouterr().out
    assert run("export", "golden", "--format", "docker", "-o", "m.tar") == 0
    assert (tmp_path / "m.tar").stat().st_size > len(peers.MODEL)
    assert run("export", "golden", "--format", "zip", "-o", "x") == 2
    assert run("export", "golden") == 2
    assert run("import", "out", "absent") == 3
