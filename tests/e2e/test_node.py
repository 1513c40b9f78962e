"""`pannier serve` as a registry: what arrives is a model at once, through a bridge as well."""

from __future__ import annotations

import json
import re
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.cli import Pannier
from support.models import smollm2
from support.ollama_client import Key, Ollama


@contextmanager
def serving(pannier: Pannier, *options: str) -> Iterator[str]:
    """A node on a free port; gives host and port."""
    process = pannier.start("serve", "--listen", "127.0.0.1:0", *options)
    assert process.stderr is not None
    try:
        match = re.search(r"http://([0-9.:]+)", process.stderr.readline())
        assert match
        yield match[1]
    finally:
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in err) == (0, False), err


def ask(netloc: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    url, data = f"http://{netloc}{path}", json.dumps(body | {"stream": False}).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        value: dict[str, Any] = json.load(answer)
    return value


@pytest.mark.engine
@pytest.mark.slow
def test_a_pushed_model_is_listed_and_runs_at_once(pannier: Pannier, tmp_path: Path) -> None:
    node = Pannier(tmp_path / "node")
    pannier.create("smol", smollm2(), "PARAMETER num_ctx 512", "PARAMETER num_predict 4")
    with serving(node) as netloc:
        pushed = pannier("push", "smol", f"{netloc}/team/smol:1")
        assert pushed.code == 0, pushed.err
        assert node.names() == ["team/smol:1"]
        assert ask(netloc, "/api/generate", {"model": "team/smol:1", "prompt": "Hi"})["response"]
        # Real Ollama pulls it, pushes it back under another name, and that runs, too.
        ollama = Ollama(tmp_path / "ollama", netloc)
        ollama.pull("team/smol:1")
        ollama.push("team/smol:1", destination="team/again:1")
        assert ask(netloc, "/api/generate", {"model": "team/again:1", "prompt": "Hi"})["response"]


def test_a_bridge_keeps_what_it_brought(pannier: Pannier, tiny: Path, tmp_path: Path) -> None:
    digest = pannier.create("team/tiny:1", tiny, "SYSTEM Be brief.")
    edge, user = Pannier(tmp_path / "edge"), Pannier(tmp_path / "user")
    with serving(pannier) as netloc, serving(edge, "--upstream", netloc) as bridge:
        pulled = user("pull", f"{bridge}/team/tiny:1")
        assert (pulled.code, pulled.out.strip()) == (0, digest), pulled.err
        pushed = user("push", f"{bridge}/team/tiny:1", f"{bridge}/team/tiny:2")
        assert pushed.code == 0, pushed.err
        assert "team/tiny:2" in pannier.names()
    with serving(edge, "--upstream", netloc) as bridge:
        again = Pannier(tmp_path / "again")("pull", f"{bridge}/team/tiny:1")
        assert (again.code, again.out.strip()) == (0, digest), again.err


def test_limits_and_a_closed_door(pannier: Pannier, tiny: Path, tmp_path: Path) -> None:
    pannier.create("tiny", tiny)
    node = Pannier(tmp_path / "node")
    with serving(node, "--max-upload-size", "1KB") as netloc:
        refused = pannier("push", "tiny", f"{netloc}/team/tiny:1")
        assert refused.code == 5
        assert "1000 bytes" in refused.err
    with serving(node, "--read-only") as netloc:
        assert "read-only" in pannier("push", "tiny", f"{netloc}/team/tiny:1").err
    public = tmp_path / "id_ed25519.pub"
    public.write_text(Key().public_line)
    assert node("key", "add-ollama", public).code == 0
    with serving(node) as netloc:
        assert pannier("push", "tiny", f"{netloc}/team/tiny:1").code == 5
        secret = node("key", "add", "ci").out.strip()
        login = pannier("login", netloc, "-u", "ci", "--password-stdin", stdin=secret)
        assert login.code == 0, login.err
        assert pannier("push", "tiny", f"{netloc}/team/tiny:1").code == 0
    assert node.names() == ["team/tiny:1"]


def test_options_that_do_not_go_together(pannier: Pannier) -> None:
    pannier("serve", "--cache-size", "1GB").fails(2, "--cache-size is for a bridge")
    pannier("serve", "--upstream", "x").fails(2, "no registry host")
    pannier("serve", "--max-store-size", "big").fails(2, "no size")


def test_another_name_for_the_node(pannier: Pannier) -> None:
    with serving(pannier, "--allow-host", "gpu1") as netloc:
        host, _, port = netloc.partition(":")
        for name, status in (("gpu1", b"200"), ("evil.example", b"403")):
            with socket.create_connection((host, int(port))) as sock:
                line = f"GET /v2/ HTTP/1.1\r\nHost: {name}:{port}\r\nConnection: close\r\n\r\n"
                sock.sendall(line.encode())
                assert sock.recv(4096).split()[1] == status
