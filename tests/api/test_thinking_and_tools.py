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


def test_responses_count_the_tokens_of_reasoning(client: WebClient, thinker: str) -> None:
    body = {"model": thinker, "input": "Hi"}
    usage = client.post("/v1/responses", json=body).json["usage"]
    assert usage["output_tokens_details"] == {"reasoning_tokens": 3}
    usage = client.post("/v1/responses", json={**body, "model": "tiny"}).json["usage"]
    assert usage["output_tokens_details"] == {"reasoning_tokens": 0}


def test_show_tells_what_the_template_makes_possible(client: WebClient, thinker: str) -> None:
    shown = client.post("/api/show", json={"model": thinker}).json
    assert shown["capabilities"] == ["completion", "tools", "thinking"]


def test_tools_are_refused_where_the_model_has_none(client: WebClient) -> None:
    body: dict[str, Any] = {"model": "tiny", "messages": HELLO, "tools": [TOOL]}
    response = client.post("/api/chat", json=body)
    assert response.status_code == 400
    assert "does not support tools" in response.json["error"]


TWO_CALLS = words(
    "A",
    '<tool_call>{"name": "time", "arguments": {}}</tool_call>',
    '<tool_call>{"name": "time", "arguments": {}}</tool_call>',
)
# What each API calls the wish for one call, and where its calls stand in an answer.
ONE_CALL: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HELLO, "tools": [TOOL], "parallel_tool_calls": False},
    "/v1/responses": {
        "input": "Hi",
        "tools": [{"type": "function", "name": "time"}],
        "parallel_tool_calls": False,
    },
    "/v1/messages": {
        "messages": HELLO,
        "max_tokens": 50,
        "tools": [{"name": "time", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    },
}
CALL_ID = re.compile(r'"(?:call_id|id)":\s*"(call_\w+)"')


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", ONE_CALL)
def test_an_answer_ends_with_the_first_call_where_one_is_wanted(
    client: WebClient, runtime: ScriptedRuntime, thinker: str, path: str, stream: bool
) -> None:
    runtime.steps = TWO_CALLS
    body = {"model": thinker, "stream": stream, **ONE_CALL[path]}
    reply = client.post(path, json=body)
    assert len({*CALL_ID.findall(reply.text)}) == 1
    assert runtime.streams[-1].cancelled.is_set()
    assert re.search(
        r'"(finish_reason|stop_reason|status)":\s*"(tool_calls|tool_use|comp)', reply.text
    )
    free = {k: v for k, v in body.items() if k not in ("parallel_tool_calls", "tool_choice")}
    assert len({*CALL_ID.findall(client.post(path, json=free).text)}) == 2


def test_one_block_of_several_calls_gives_the_first_where_one_is_wanted(
    client: WebClient, runtime: ScriptedRuntime, thinker: str
) -> None:
    call = '{"name": "time", "arguments": {}}'
    runtime.steps = words(f"<tool_call>[{call}, {call}]</tool_call>")
    path = "/v1/chat/completions"
    (choice,) = client.post(path, json={"model": thinker, **ONE_CALL[path]}).json["choices"]
    assert len(choice["message"]["tool_calls"]) == 1


@pytest.mark.parametrize(
    ("tool", "text"),
    [
        ({"type": "web_search"}, "tool type 'web_search' is not supported"),
        ({"type": "custom", "custom": {"name": "x"}}, "tool type 'custom' is not supported"),
        ({"type": "function"}, "a tool has no function with a name"),
        ({"type": "function", "function": "time"}, "a tool has no function with a name"),
        ({"type": "function", "function": {"name": 3}}, "a tool has no function with a name"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
def test_a_tool_that_is_no_function_is_refused(
    client: WebClient, thinker: str, path: str, tool: dict[str, Any], text: str
) -> None:
    choice = {"type": "function", "function": {"name": "time"}}
    body = {"model": thinker, "messages": HELLO, "input": "Hi", "tool_choice": choice}
    reply = client.post(path, json={**body, "tools": [tool]})
    assert (reply.status_code, reply.json["error"]["message"]) == (400, text)


BODIES: dict[str, dict[str, Any]] = {
    "/api/chat": {"messages": HELLO, "tools": [TOOL]},
    "/v1/chat/completions": {"messages": HELLO, "tools": [TOOL]},
    "/v1/responses": {"input": "Hi", "tools": [{"type": "function", "name": "time"}]},
    "/v1/messages": {
        "max_tokens": 9,
        "messages": HELLO,
        "tools": [{"name": "time", "input_schema": {"type": "object"}}],
    },
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("value", ['"\\ud83d"', "1e999", "9" * 5000, "[" * 900 + "]" * 900])
def test_a_call_with_an_odd_value_breaks_no_answer(
    client: WebClient, thinker: str, runtime: ScriptedRuntime, path: str, stream: bool, value: str
) -> None:
    runtime.steps = words(
        f'<tool_call>{{"name": "time", "arguments": {{"at": {value}}}}}</tool_call>'
    )
    answer = client.post(path, json={"model": thinker, "stream": stream, **BODIES[path]})
    text = answer.text
    assert answer.status_code == 200
    assert "internal server error" not in text
    assert "Infinity" not in text
