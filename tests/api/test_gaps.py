"""Filling the gap between a prompt and a suffix, through both APIs that have it."""

from __future__ import annotations

import pytest
from support.gguf import tiny_llama
from support.scripted import ScriptedRuntime
from support.web import WebClient

from pannier.pkgmgr.store.store import Store

from .conftest import add

TEMPLATE = "{{ if .Suffix }}<P>{{ .Prompt }}<S>{{ .Suffix }}<M>{{ else }}{{ .Prompt }}{{ end }}"


@pytest.fixture
def coder(store: Store) -> str:
    path = tiny_llama(store.root / "coder.gguf", template=None)
    add(store, "coder", f'FROM {path}\nTEMPLATE """{TEMPLATE}"""\n')
    return "coder"


def prompt_of(runtime: ScriptedRuntime) -> str:
    return "".join(segment.text for segment in runtime.requests[-1].prompt)


@pytest.mark.parametrize("path", ["/api/generate", "/v1/completions"])
@pytest.mark.parametrize("prompt", ["def f(", ""])
def test_a_gap_is_filled_by_the_models_own_form(
    client: WebClient, runtime: ScriptedRuntime, coder: str, path: str, prompt: str
) -> None:
    body = {"model": coder, "prompt": prompt, "suffix": "): </s>", "stream": False}
    assert client.post(path, json=body).status_code == 200
    assert prompt_of(runtime) == f"<P>{prompt}<S>): </s><M>"
    segments = runtime.requests[-1].prompt
    assert [part.text for part in segments if not part.special] == ["</s>"]
    assert "insert" in client.post("/api/show", json={"model": coder}).json["capabilities"]


@pytest.mark.parametrize("path", ["/api/generate", "/v1/completions"])
def test_a_model_without_a_form_for_gaps_says_so(client: WebClient, path: str) -> None:
    body = {"model": "tiny", "prompt": "a", "suffix": "b", "stream": False}
    reply = client.post(path, json=body)
    assert reply.status_code == 400
    assert "does not support insert" in str(reply.json["error"])
