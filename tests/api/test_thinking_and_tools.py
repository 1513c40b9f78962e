"""Thinking and tool calls through both chat surfaces, with a scripted model."""

from __future__ import annotations

import re
from typing import Any

import pytest
from support.gguf import tiny_llama
from support.scripted import ScriptedRuntime, words
from support.web import WebClient

from pannier.pkgmgr.store.store import Store

from .conftest import add

TEMPLATE = (
    "{{ .Tools }}{{ range .Messages }}[{{ .Role }}]{{ if .Thinking }}<think>{{ .Thinking }}</think>"
    "{{ end }}{{ .Content }}{{ if .ToolCalls }}<tool_call>{{ range .ToolCalls }}{{ .Function }}"
    "{{ end }}{{ end }}{{ end }}[assistant]"
)
HELLO = [{"role": "user", "content": "Hi"}]
TOOL = {"type": "function", "function": {"name": "time", "parameters": {"type": "object"}}}
SPOKEN = words(
    "<thi", "nk>h", "m</think>", "\nA<", 'tool_call>{"name": "time", "argum', 'ents": {}}'
)


@pytest.fixture
def thinker(store: Store, runtime: ScriptedRuntime) -> str:
    path = tiny_llama(store.root / "thinker.gguf")
    add(store, "thinker", f'FROM {path}\nTEMPLATE """{TEMPLATE}"""\n')
    runtime.steps = SPOKEN
    return "thinker"


def test_ollama_gets_thinking_and_calls_apart(client: WebClient, thinker: str) -> None:
    body: dict[str, Any] = {"model": thinker, "messages": HELLO, "tools": [TOOL], "stream": False}
    message = client.post("/api/chat", json=body).json["message"]
    assert (message["thinking"], message["content"]) == ("hm", "A")
    (call,) = message["tool_calls"]
    assert call["function"] == {"index": 0, "name": "time", "arguments": {}}
    assert re.fullmatch(r"call_[a-z0-9]{8}", call["id"])


def test_openai_gets_reasoning_and_calls_apart(client: WebClient, thinker: str) -> None:
    body: dict[str, Any] = {"model": thinker, "messages": HELLO, "tools": [TOOL]}
    (choice,) = client.post("/v1/chat/completions", json=body).json["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["reasoning"] == "hm"
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "time", "arguments": "{}"}


def test_show_tells_what_the_template_makes_possible(client: WebClient, thinker: str) -> None:
    shown = client.post("/api/show", json={"model": thinker}).json
    assert shown["capabilities"] == ["completion", "tools", "thinking"]


def test_tools_are_refused_where_the_model_has_none(client: WebClient) -> None:
    body: dict[str, Any] = {"model": "tiny", "messages": HELLO, "tools": [TOOL]}
    response = client.post("/api/chat", json=body)
    assert response.status_code == 400
    assert "does not support tools" in response.json["error"]
