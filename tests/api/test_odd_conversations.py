"""Conversations that no template was written for: an answer or a 400 that says why, never a 500."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from support.chatformats import FAMILIES
from support.gguf import tiny_llama
from support.web import WebClient

from pannier.pkgmgr.named_templates import NAMED_TEMPLATES
from pannier.pkgmgr.store.store import Store

from .conftest import add

USER = {"role": "user", "content": "Hi"}
ANSWER = {"role": "assistant", "content": "Hello"}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
RESULT = {"role": "tool", "content": "12", "tool_call_id": "c1"}
CONVERSATIONS: Mapping[str, list[dict[str, Any]]] = {
    "assistant first": [ANSWER, USER],
    "assistant alone": [ANSWER],
    "two users": [USER, USER],
    "two answers": [USER, ANSWER, ANSWER],
    "system last": [USER, {"role": "system", "content": "Be brief."}],
    "system alone": [{"role": "system", "content": "Be brief."}],
    "two systems": [{"role": "system", "content": "a"}, {"role": "system", "content": "b"}, USER],
    "developer": [{"role": "developer", "content": "Be brief."}, USER],
    "unknown role": [{"role": "narrator", "content": "Once"}, USER],
    "no role": [{"role": "", "content": "Hi"}],
    "empty": [{"role": "user", "content": ""}],
    "null": [{"role": "user", "content": None}],
    "empty answer": [USER, {"role": "assistant", "content": ""}],
    "result without a call": [USER, RESULT],
    "result first": [RESULT, USER],
    "call without a result": [USER, CALL, USER],
    "call last": [USER, CALL],
    "call and result": [USER, CALL, RESULT],
    "other call's result": [USER, CALL, {**RESULT, "tool_call_id": "nope"}],
    "control tokens": [{"role": "<|im_end|>", "content": "</s>[INST]<|eot_id|>"}],
    "odd text": [{"role": "user", "content": "\\u0000\\ud800 {{ .System }} {% for %} \\ue000"}],
}
GO = ("chatml", "mistral-instruct", "command-r", "gemma3-instruct")
JINJA = ("llama3.1", "qwen3", "mistral-v3", "gemma2", "gpt-oss", "glm4")


@pytest.fixture
def models(store: Store) -> list[str]:
    for name in GO:
        path = tiny_llama(store.root / f"{name}.gguf", template=None)
        add(store, name, f'FROM {path}\nTEMPLATE """{NAMED_TEMPLATES[name].source}"""\n')
    for name in JINJA:
        add(store, name, f"FROM {tiny_llama(store.root / name, template=FAMILIES[name][0])}\n")
    add(store, "plain", f"FROM {tiny_llama(store.root / 'plain.gguf', template=None)}\n")
    return [*GO, *JINJA, "plain"]


def test_odd_conversations_are_answered_or_refused(client: WebClient, models: list[str]) -> None:
    refused = 0
    for conversation, messages in CONVERSATIONS.items():
        for model in models:
            for path in ("/api/chat", "/v1/chat/completions"):
                body = {"model": model, "messages": messages, "stream": False}
                reply = client.post(path, json=body)
                assert reply.status_code in (200, 400), (conversation, model, path, reply.data)
                if reply.status_code == 400:
                    refused += 1
                    assert len(str(reply.json["error"])) > 15, (conversation, model, reply.data)
    assert 15 < refused < 100


TOOL_NAMES = (
    "",
    "a b",
    "<|im_end|>",
    "é😀",
    'x"}{',
    "a" * 500,
    "{{ .Name }}",
    "f\\n\\x00",
    "a.b-c/d",
)


def test_tools_of_odd_names_are_offered_or_refused(client: WebClient, models: list[str]) -> None:
    for name in TOOL_NAMES:
        function: dict[str, Any] = {
            "name": name,
            "description": None,
            "parameters": {"properties": {name: {}}},
        }
        call = {"id": name, "type": "function", "function": {"name": name, "arguments": {}}}
        messages = [USER, {"role": "assistant", "content": "", "tool_calls": [call]}, RESULT]
        for model in {"command-r", "qwen3", "glm4"} & set(models):
            body = {"model": model, "messages": messages, "stream": False}
            offers: list[dict[str, Any]] = [{"type": "function", "function": function}, {}]
            for tool in offers:
                reply = client.post("/api/chat", json={**body, "tools": [tool]})
                assert reply.status_code in (200, 400), (name, model, reply.data)
