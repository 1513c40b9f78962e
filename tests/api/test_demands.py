"""Formats, forced tool calls and trimming, from the request to the engine."""

from __future__ import annotations

from typing import Any

from support.scripted import ScriptedRuntime, words
from support.web import WebClient

from pannier.pkgmgr.store.store import Store
from pannier.runtime.constraint import Constraint

from .test_thinking_and_tools import HELLO, TOOL, thinker

__all__ = ["thinker"]

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


def chat(client: WebClient, **body: Any) -> Any:
    return client.post("/api/chat", json={"messages": HELLO, "stream": False, **body})


def test_a_format_reaches_the_engine_as_a_grammar(
    client: WebClient, runtime: ScriptedRuntime
) -> None:
    chat(client, model="tiny", format="json")
    constraint = runtime.requests[-1].constraint
    assert constraint is not None
    assert constraint.grammar
    chat(client, model="tiny", format=SCHEMA)
    assert '"integer"' in (runtime.requests[-1].constraint or constraint).grammar
    chat(client, model="tiny")
    assert runtime.requests[-1].constraint is None


def test_a_format_may_be_another_grammar(client: WebClient, runtime: ScriptedRuntime) -> None:
    for kind, source in (("regex", "[a-c]+"), ("gbnf", 'root ::= "x"'), ("lark", 'start: "x"')):
        chat(client, model="tiny", format={"type": kind, "grammar": source})
        assert runtime.requests[-1].constraint is not None
    response = chat(client, model="tiny", format={"type": "regex"})
    assert response.status_code == 400
    assert "in `grammar`" in response.json["error"]


def test_a_schema_that_cannot_be_obeyed_is_a_400(client: WebClient) -> None:
    response = chat(client, model="tiny", format={"$ref": "https://example.com/x"})
    assert response.status_code == 400
    assert "only # is supported" in response.json["error"]


def test_the_grammar_begins_after_the_reasoning(
    client: WebClient, runtime: ScriptedRuntime, thinker: str
) -> None:
    chat(client, model=thinker, format="json")
    constraint = runtime.requests[-1].constraint
    assert constraint is not None
    assert constraint.thinking == ("<think>", "</think>")
    chat(client, model=thinker, format="json", think=False)
    assert (runtime.requests[-1].constraint or constraint).thinking is None


def test_a_budget_ends_the_reasoning(
    client: WebClient, runtime: ScriptedRuntime, thinker: str
) -> None:
    chat(client, model=thinker, thinking_budget=50)
    assert (runtime.requests[-1].constraint or Constraint()).budget == 50
    body = {"model": thinker, "messages": HELLO, "max_tokens": 100}
    thinking = {"type": "enabled", "budget_tokens": 40}
    client.post("/v1/messages", json={**body, "thinking": thinking})
    assert (runtime.requests[-1].constraint or Constraint()).budget == 40
    assert chat(client, model=thinker, thinking_budget=0).status_code == 400


def test_a_required_tool_is_called(
    client: WebClient, runtime: ScriptedRuntime, thinker: str
) -> None:
    runtime.steps = words('<tool_call>\n{"name": "time", "arguments": {}}')
    body = {"model": thinker, "messages": HELLO, "tools": [TOOL]}
    for choice in ("required", {"type": "function", "function": {"name": "time"}}):
        reply = client.post("/v1/chat/completions", json={**body, "tool_choice": choice}).json
        assert reply["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "time"
        constraint = runtime.requests[-1].constraint
        assert constraint is not None
        assert constraint.grammar.startswith("start: ")
        assert constraint.marks == ("<tool_call>", "</tool_call>")
        assert constraint.trigger == ""
    client.post("/v1/chat/completions", json=body)
    lazy = runtime.requests[-1].constraint
    assert lazy is not None
    assert lazy.trigger == "<tool_call>"
    client.post("/v1/chat/completions", json={**body, "tool_choice": "none"})
    assert runtime.requests[-1].constraint is None


def test_messages_that_do_not_fit_are_left_out_and_counted(
    client: WebClient, store: Store, runtime: ScriptedRuntime
) -> None:
    turns = [{"role": "user", "content": f"{number} " + "x" * 1000} for number in range(20)]
    reply = chat(client, model="tiny", messages=turns).json
    assert reply["truncated"]["messages"] > 10
    prompt = "".join(segment.text for segment in runtime.requests[-1].prompt)
    assert prompt.count("x" * 1000) == 20 - reply["truncated"]["messages"]
    assert "19 x" in prompt
    assert "truncated" not in chat(client, model="tiny").json
