"""The main job with the installed program: create, push, delete, pull by digest, serve, ask."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.cli import Pannier
from support.models import smollm2
from support.registry import DockerRegistry

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = "SYSTEM You are a helpful assistant. You answer in one short sentence."
QUESTION = "What is the capital of France?"


@contextmanager
def serving(pannier: Pannier) -> Iterator[str]:
    """A server on a free port; gives its URL."""
    process = pannier.start("serve", "--listen", "127.0.0.1:0")
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        match = re.search(r"http://[0-9.:]+", line)
        assert match, line
        yield match[0]
    finally:
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert out == ""


def round_trip(pannier: Pannier, host: str, tiny: Path) -> None:
    created = pannier.create("tiny", tiny, "PARAMETER temperature 0", "SYSTEM Be brief.")
    remote = f"{host}/team/deep/tiny:1.0"
    pushed = pannier("push", "tiny", remote)
    assert (pushed.code, pushed.out.strip()) == (0, created), pushed.err
    assert pannier("rm", "--yes", "tiny").code == 0
    assert pannier.blobs() == []
    pulled = pannier("pull", f"{remote}@{created}")
    assert (pulled.code, pulled.out.strip()) == (0, created), pulled.err
    (model,) = pannier.list()
    assert model["digest"] == created
    assert model["dialect"] == "modelpack"
    assert {"name", "size", "modified"} <= set(model)


@pytest.mark.registry
def test_a_model_comes_back_from_docker_registry_by_its_digest(
    pannier: Pannier, registry: DockerRegistry, tiny: Path
) -> None:
    round_trip(pannier, registry.host, tiny)


def test_a_model_comes_back_from_the_built_in_registry_by_its_digest(
    pannier: Pannier, tiny: Path, tmp_path: Path
) -> None:
    with serving(Pannier(tmp_path / "node")) as url:
        round_trip(pannier, url.removeprefix("http://"), tiny)


def test_the_same_model_made_twice_is_the_same_artifact(pannier: Pannier, tiny: Path) -> None:
    lines = ("PARAMETER temperature 0", "SYSTEM Be brief.")
    assert pannier.create("one", tiny, *lines) == pannier.create("two", tiny, *lines)


def test_names_can_be_shown_copied_and_removed(pannier: Pannier, tiny: Path) -> None:
    digest = pannier.create("tiny", tiny, "SYSTEM Be brief.")
    assert pannier("cp", "tiny", "localhost:5000/a/b:c").code == 0
    assert sorted(pannier.names()) == ["localhost:5000/a/b:c", "tiny:latest"]
    shown = json.loads(pannier("show", "TINY", "--json").out)
    assert (shown["digest"], shown["system"]) == (digest, "Be brief.")
    assert pannier("show", "tiny", "--system").out == "Be brief.\n"
    raw = pannier("inspect", "tiny", "--raw").out
    assert json.loads(raw) == json.loads(pannier("inspect", "tiny", "--json").out)["manifest"]
    assert pannier("rm", "tiny", f"localhost:5000/a/b@{digest}", "--yes").code == 0
    assert pannier.names() == []
    assert pannier.blobs() == []


def test_a_shown_modelfile_makes_an_equal_model(pannier: Pannier, tiny: Path) -> None:
    pannier.create("tiny", tiny, 'PARAMETER stop "a b"', 'SYSTEM """two\nlines"""')
    modelfile = pannier("show", "tiny", "--modelfile").out
    assert pannier("create", "again", "-f", "-", stdin=modelfile).code == 0
    shown = [json.loads(pannier("show", name, "--json").out) for name in ("tiny", "again")]
    assert shown[0]["layers"] == shown[1]["layers"]


@pytest.mark.engine
@pytest.mark.slow
def test_run_answers_from_a_pipe_without_a_server(pannier: Pannier) -> None:
    pannier.create("smollm2", smollm2(), "PARAMETER temperature 0", SYSTEM)
    answer = pannier("run", "smollm2", stdin=QUESTION)
    assert answer.code == 0, answer.err
    assert "Paris" in answer.out
    assert answer.err == ""
    as_json = json.loads(pannier("run", "smollm2", QUESTION, "--json").out)
    assert as_json["response"] == answer.out.rstrip("\n")


@pytest.mark.engine
@pytest.mark.slow
def test_a_server_answers_lists_and_unloads(pannier: Pannier) -> None:
    digest = pannier.create("smollm2", smollm2(), "PARAMETER temperature 0", SYSTEM)
    with serving(pannier) as url:
        answer = pannier("run", "smollm2", QUESTION, "--verbose", PANNIER_HOST=url)
        assert "Paris" in answer.out
        assert "eval rate:" in answer.err
        (loaded,) = json.loads(pannier("ps", "--json", OLLAMA_HOST=url).out)
        assert loaded["name"] == "smollm2:latest"
        assert digest.endswith(loaded["digest"])
        assert pannier("stop", "smollm2", PANNIER_HOST=url).code == 0
        pannier("stop", "nothing", PANNIER_HOST=url).fails(3, "not found")
        with urllib.request.urlopen(f"{url}/") as reply:
            assert reply.read() == b"Ollama is running"


@pytest.mark.engine
@pytest.mark.slow
def test_ctrl_c_ends_an_answer_with_130(pannier: Pannier) -> None:
    pannier.create("smollm2", smollm2(), "PARAMETER temperature 0")
    process = pannier.start("run", "smollm2", "Count to a million.", start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.read(1)
    # As a terminal does: the signal goes to every process of the foreground.
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.strip() == "error: interrupted"


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--built-in"]], ids=["installed", "built-in"])
def test_the_demo_runs_and_leaves_nothing_behind(flags: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "demo.py", *flags],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Paris") == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.engine
@pytest.mark.slow
def test_the_demo_stops_its_servers_after_ctrl_c(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-u", ROOT / "scripts" / "demo.py", "--built-in"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    ports = []
    for line in process.stdout:
        ports += re.findall(r"127\.0\.0\.1:(\d+)", line)
        if "A question" in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; everything is stopped" in err
    assert list(tmp_path.iterdir()) == []
    assert ports
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", int(port))) != 0
