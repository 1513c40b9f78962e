"""Formats, forced tool calls and trimming, from the request to the engine."""

from __future__ import annotations

from typing import Any

import pytest
from support.schemas import deep
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


def test_a_strict_schema_is_closed_also_where_it_is_composed(
    client: WebClient, runtime: ScriptedRuntime
) -> None:
    inner = {"type": "object", "properties": {"b": {"type": "string"}}}
    plain = {"type": "object", "properties": {"a": inner}}
    composed = {**plain, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}
    body = {"model": "tiny", "messages": HELLO}
    cases = ((plain, True, 2), (plain, None, 2), (composed, True, 2), (composed, False, 0))
    for wanted, strict, count in cases:
        form = {"name": "x", "schema": wanted, "strict": strict}
        response_format = {"type": "json_schema", "json_schema": form}
        reply = client.post(
            "/v1/chat/completions", json={**body, "response_format": response_format}
        )
        assert reply.status_code == 200
        grammar = (runtime.requests[-1].constraint or Constraint()).grammar
        assert grammar.count("additionalProperties") == count


@pytest.mark.parametrize(
    "schema",
    [
        *({"type": "integer", "minimum": 10**40}, {"properties": {"a": {"not": {}}}}, deep(60)),
        *({"enum": list(range(6000))}, {"pattern": "(" * 3000}, {"pattern": "(?=a)b"}),
        *({"$ref": "file:///etc/passwd"}, {"$ref": "#/nowhere"}, {"multipleOf": 1234567}),
        *({"type": "string", "minLength": 5, "maxLength": 2}, {"type": 3}, {"required": "a"}),
        *({"properties": []}, {"anyOf": []}, {"enum": []}, {"items": 5}, {"$ref": 7}),
        *({"minimum": "x"}, {"type": []}, {"format": 3}, {"patternProperties": {"(": {}}}),
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
    ],
    ids=lambda schema: str(schema)[:40],
)
def test_bad_schemas_are_told_apart_on_every_api(client: WebClient, schema: Any) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    body = {"model": "tiny", "messages": HELLO}
    replies = [
        client.post("/api/chat", json={**body, "format": schema, "stream": False}),
        client.post("/v1/chat/completions", json={**body, "response_format": form}),
    ]
    for reply in replies:
        assert reply.status_code in (200, 400), reply.json
    assert replies[0].status_code == replies[1].status_code
    assert replies[0].status_code == 400 or schema in (deep(60), {"format": 3}, {"items": 5})


@pytest.mark.parametrize(
    ("kind", "grammar"),
    [
        *(("regex", text) for text in ("(", "(?=a)", "[z-a]", "\\p{Nope}", "a{5,2}")),
        *(("gbnf", text) for text in ("", "root ::= nope", "root ::= (", "x ::= 1", "root")),
        *(("lark", text) for text in ("", "start: nope", "start: ((", "a: b")),
        *((kind, "x" * 300_000) for kind in ("regex", "gbnf", "lark")),
        *((kind, "(" * 20_000) for kind in ("regex", "gbnf", "lark")),
    ],
    ids=lambda value: value[:20],
)
def test_bad_grammars_are_a_400(client: WebClient, kind: str, grammar: str) -> None:
    form = {"type": kind, "grammar": grammar}
    reply = chat(client, model="tiny", format=form)
    assert reply.status_code == 400, reply.json


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


def test_parallel_calls_can_be_ruled_out(
    client: WebClient, runtime: ScriptedRuntime, thinker: str
) -> None:
    forced = {"model": thinker, "tools": [TOOL], "tool_choice": "required"}
    text = {"input": "Hello"}
    tool = {"name": "time", "input_schema": {"type": "object"}}
    claude = {"model": thinker, "messages": HELLO, "tools": [tool], "max_tokens": 9}
    any_tool = {"type": "any", "disable_parallel_tool_use": True}
    flat = {"tools": [{"type": "function", "name": "time"}], "parallel_tool_calls": False}
    asked = [
        ("/v1/chat/completions", {**forced, "messages": HELLO}),
        ("/v1/chat/completions", {**forced, "messages": HELLO, "parallel_tool_calls": False}),
        ("/v1/responses", {**forced, **text, **flat}),
        ("/v1/messages", {**claude, "tool_choice": any_tool}),
    ]
    grammars = []
    for path, body in asked:
        assert client.post(path, json=body).status_code == 200
        grammars.append((runtime.requests[-1].constraint or Constraint()).grammar.splitlines()[0])
    many, *one = grammars
    assert "{" in many or "," in many
    assert all(len(line) < len(many) for line in one)


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
