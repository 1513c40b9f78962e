from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.gguf import tiny_llama
from support.models import smollm2

from pannier.api.main import EXIT_CODES, command_line
from pannier.pkgmgr.cli.app import run
from pannier.pkgmgr.gguf import read_header

pytestmark = pytest.mark.engine


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PANNIER_HOME", str(tmp_path / "home"))
    return tmp_path


def pannier(*arguments: str) -> int:
    return run(command_line(), list(arguments), exit_codes=EXIT_CODES)


def quantization(path: Path) -> str:
    with path.open("rb") as stream:
        return read_header(stream, size=path.stat().st_size, name=path.name).quantization


def test_a_file_is_quantized_to_a_file(home: Path) -> None:
    target = home / "small.gguf"
    source = tiny_llama(home / "tiny.gguf")
    assert pannier("quantize", str(source), str(target), "q8_0") == 0
    assert quantization(target) == "Q8_0"
    assert target.stat().st_size < source.stat().st_size
    assert sorted(path.name for path in home.glob("*.gguf*")) == ["small.gguf", "tiny.gguf"]


def test_a_model_is_quantized_with_all_else_that_it_has(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_llama(home / "tiny.gguf")
    modelfile = home / "Modelfile"
    modelfile.write_text("FROM ./tiny.gguf\nSYSTEM be brief\nPARAMETER top_k 7\n")
    assert pannier("create", "whole", "-f", str(modelfile)) == 0
    assert pannier("quantize", "whole", "small", "q8_0") == 0
    capsys.readouterr()
    shown: list[Any] = []
    for name in ("whole", "small"):
        assert pannier("show", name, "--json") == 0
        shown.append(json.loads(capsys.readouterr().out))
    assert shown[0]["system"] == shown[1]["system"] == "be brief"
    assert shown[0]["parameters"] == shown[1]["parameters"]


def test_what_is_quantized_already_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pannier("quantize", str(smollm2()), str(home / "x.gguf"), "q4_0") != 0
    assert "--again" in capsys.readouterr().err
    assert not (home / "x.gguf").exists()
    (home / "Modelfile").write_text(f"FROM {smollm2()}\n")
    assert pannier("create", "smol", "-f", str(home / "Modelfile")) == 0
    assert pannier("quantize", "smol", "small", "q4_0") != 0
    assert "error: smol is quantized already (Q4_1)" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["quantize", "create"])
def test_progress_is_shown_on_a_terminal(home: Path, command: str) -> None:
    source = tiny_llama(home / "tiny.gguf")
    (home / "Modelfile").write_text("FROM ./tiny.gguf\n")
    arguments = {
        "quantize": [str(source), str(home / "x.gguf"), "q8_0"],
        "create": ["small", "-q", "q8_0", "-f", str(home / "Modelfile")],
    }[command]
    ours, theirs = os.openpty()
    program = [sys.executable, "-m", "pannier.api.main", command, *arguments]
    with subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=theirs):
        os.close(theirs)
        shown = read_terminal(ours)
    assert "quantiz" in shown
    assert shown.rstrip().endswith("100 %")


def read_terminal(descriptor: int) -> str:
    """All that a terminal was told until nobody has it open any more."""
    data = b""
    with open(descriptor, "rb", buffering=0) as terminal:
        try:
            while chunk := terminal.read(4096):
                data += chunk
        except OSError:
            pass  # Linux's word for the end of a terminal.
    return data.decode()


@pytest.mark.parametrize("kind", ["q9_9", ""])
def test_an_unknown_type_is_a_usage_error(home: Path, kind: str) -> None:
    source = tiny_llama(home / "tiny.gguf")
    assert pannier("quantize", str(source), str(home / "x.gguf"), kind) == 2


def test_a_model_is_created_with_smaller_weights(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_llama(home / "tiny.gguf")
    modelfile = home / "Modelfile"
    modelfile.write_text("FROM ./tiny.gguf\nSYSTEM be brief\n")
    assert pannier("create", "small", "-q", "q8_0", "-f", str(modelfile)) == 0
    capsys.readouterr()
    assert pannier("show", "small", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["system"] == "be brief"
    assert shown["quantization"] == "Q8_0"
    modelfile.write_text("FROM small\n")
    assert pannier("create", "again", "-q", "q4_0", "-f", str(modelfile)) == 2
    assert "only supported for F16, BF16 and F32 models" in capsys.readouterr().err
    assert pannier("create", "x", "-q", "q9_9", "-f", str(modelfile)) == 2


def test_no_gguf_is_refused(home: Path) -> None:
    (home / "bad.gguf").write_bytes(b"nothing")
    assert pannier("quantize", str(home / "bad.gguf"), str(home / "x.gguf"), "q8_0") == 2


@pytest.mark.slow
def test_a_model_is_measured(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_llama(home / "tiny.gguf", context=4096)
    (home / "Modelfile").write_text("FROM ./tiny.gguf\n")
    assert pannier("create", "tiny", "-f", str(home / "Modelfile")) == 0
    capsys.readouterr()
    assert pannier("bench", "tiny", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert sorted(result["decode"]) == ["1", "2", "4", "8"]
    assert result["prefill"] > 0
    assert result["memory"] > 1 << 20
