"""Anthropic's Messages API over a scripted runtime: shapes, texts and statuses."""

import json
from typing import Any

import pytest
from support.scripted import USAGE, ScriptedRuntime, words
from support.web import Reply, WebClient

from pannier.api.answer import Piece
from pannier.api.anthropic.convert import stop_of
from pannier.api.anthropic.routes import _Blocks
from pannier.api.anthropic.schema import MessagesRequest
from pannier.runtime.errors import RunnerDied
from pannier.runtime.messages import ToolCall
from pannier.runtime.request import Delta, FinishReason, Usage

PATH = "/v1/messages"
HELLO = [{"role": "user", "content": "Hi"}]
BODY = {"model": "tiny", "max_tokens": 50, "messages": HELLO}


def events(reply: Reply) -> list[tuple[str, dict[str, Any]]]:
    assert reply.content_type.startswith("text/event-stream")
    found = []
    for block in reply.text.removesuffix("\n\n").split("\n\n"):
        event, data = block.split("\n")
        found.append((event.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def prompt_of(runtime: ScriptedRuntime) -> str:
    return "".join(segment.text for segment in runtime.requests[-1].prompt)


def test_a_message_is_answered_whole(client: WebClient, runtime: ScriptedRuntime) -> None:
    answer = client.post(PATH, json={**BODY, "system": "Be brief.", "temperature": 0.5}).json
    assert answer["id"].startswith("msg_")
    assert (answer["type"], answer["role"], answer["model"]) == ("message", "assistant", "tiny")
    assert answer["content"] == [{"type": "text", "text": "Hello there!"}]
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("end_turn", None)
    assert (answer["usage"]["input_tokens"], answer["usage"]["output_tokens"]) == (7, 3)
    assert prompt_of(runtime).startswith("<|system|>\nBe brief.</s>\n<|user|>\nHi")
    assert runtime.requests[-1].max_tokens == 50
    assert runtime.requests[-1].sampling.temperature == 0.5


def test_a_message_streams_named_events_in_order(client: WebClient) -> None:
    found = events(client.post(PATH, json={**BODY, "stream": True}))
    assert [name for name, _ in found] == [
        "message_start", "content_block_start", "content_block_delta", "content_block_delta",
        "content_block_delta", "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    assert all(data["type"] == name for name, data in found)
    assert found[2][1]["delta"] == {"type": "text_delta", "text": "Hello"}
    assert found[-2][1]["delta"]["stop_reason"] == "end_turn"
    assert found[-2][1]["usage"]["output_tokens"] == 3


def test_the_first_event_counts_the_prompt(client: WebClient, runtime: ScriptedRuntime) -> None:
    known = Usage(prompt_tokens=7, cached_tokens=2)
    runtime.steps = [Delta("", 1, usage=known), *words("Hi")]
    started = events(client.post(PATH, json={**BODY, "stream": True}))[0]
    assert started[0] == "message_start"
    usage = started[1]["message"]["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (5, 2)
    assert usage["output_tokens"] == 0


def test_thinking_text_and_calls_are_blocks_of_their_own() -> None:
    blocks = _Blocks()
    call = ToolCall("add", {"a": 1}, "call_1")
    pieces = [Piece(thinking="hm"), Piece("so"), Piece(tool_calls=(call,))]
    found: list[Any] = [event for piece in pieces for event in blocks.add(piece)]
    starts = [data["content_block"] for name, data in found if name == "content_block_start"]
    assert [start["type"] for start in starts] == ["thinking", "text", "tool_use"]
    assert [d["index"] for n, d in found if n == "content_block_stop"] == [0, 1, 2]
    assert json.loads(found[-2][1]["delta"]["partial_json"]) == {"a": 1}


def test_a_stop_sequence_is_named(client: WebClient, runtime: ScriptedRuntime) -> None:
    runtime.steps = [
        Delta("x"),
        Delta(finish=FinishReason.STOP, usage=USAGE, stop_text="END"),
    ]
    answer = client.post(PATH, json={**BODY, "stop_sequences": ["END"]}).json
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", "END")
    runtime.steps = words("x", finish=FinishReason.LENGTH)
    assert client.post(PATH, json=BODY).json["stop_reason"] == "max_tokens"


def test_blocks_of_earlier_turns_become_messages(
    client: WebClient, runtime: ScriptedRuntime
) -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Add."}]},
        {"role": "assistant", "content": [
            {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": "2"},
            {"type": "text", "text": "So?"}]},
    ]  # fmt: skip
    assert client.post(PATH, json={**BODY, "messages": messages}).status_code == 200
    assert "<|tool|>\n2</s>\n<|user|>\nSo?</s>" in prompt_of(runtime)


def test_thinking_is_quietly_left_out_where_the_model_cannot(client: WebClient) -> None:
    body = {**BODY, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    assert client.post(PATH, json=body).status_code == 200


def test_tokens_are_counted(client: WebClient) -> None:
    counted = client.post(f"{PATH}/count_tokens", json={"model": "tiny", "messages": HELLO})
    assert counted.json == {"input_tokens": len("<|user|>\nHi</s>\n<|assistant|>\n")}


@pytest.mark.parametrize(
    ("change", "status", "kind"),
    [
        ({"max_tokens": 0}, 400, "invalid_request_error"),
        ({"messages": []}, 400, "invalid_request_error"),
        ({"model": "nope"}, 404, "not_found_error"),
        ({"model": ""}, 404, "not_found_error"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400, "invalid_request_error"),
        ({"tools": [{"type": "web_search_20250305", "name": "w"}]}, 400, "invalid_request_error"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {
            "type": "url", "url": "http://example.com"}}]}]}, 400, "invalid_request_error"),
    ],
)  # fmt: skip
def test_errors_have_anthropics_shape(
    client: WebClient, change: dict[str, Any], status: int, kind: str
) -> None:
    reply = client.post(PATH, json={**BODY, **change})
    assert reply.status_code == status
    assert reply.json["type"] == "error"
    assert reply.json["error"]["type"] == kind
    assert reply.json["request_id"] == reply.headers["X-Request-Id"]


def test_a_failure_in_mid_stream_is_an_error_event(
    client: WebClient, runtime: ScriptedRuntime
) -> None:
    runtime.steps = [Delta("Hel"), RunnerDied("the runner of tiny died", signal="SIGKILL")]
    name, data = events(client.post(PATH, json={**BODY, "stream": True}))[-1]
    assert (name, data["error"]["type"]) == ("error", "api_error")


def test_an_answer_cut_behind_a_call_says_that_it_is_cut() -> None:
    body = MessagesRequest.model_validate({**BODY, "tools": [{"name": "add"}]})
    for finish, reason in ((FinishReason.LENGTH, "max_tokens"), (FinishReason.STOP, "tool_use")):
        assert stop_of(Piece(finish=finish), body, called=True)["stop_reason"] == reason


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"output_config": {"effort": "huge"}}, "invalid effort 'huge'"),
        ({"output_config": {"format": {"type": "xml"}}}, "format.type: Input should be 'json_sch"),
        ({"tools": [{"input_schema": {}}]}, "a tool has no name"),
        ({"system": [{"type": "image"}]}, "content block 'image' is not supported here"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t",
            "content": [{"type": "document"}]}]}]}, "content block 'document' is not supported"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused(
    client: WebClient, change: dict[str, Any], text: str
) -> None:
    reply = client.post(PATH, json={**BODY, **change})
    assert reply.status_code == 400
    assert text in reply.json["error"]["message"]


def test_fields_without_effect_are_named(client: WebClient) -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "content": "no", "is_error": True}
    body = {"model": "tiny", "messages": [{"role": "user", "content": [result]}], "metadata": {}}
    for path, more in ((PATH, {"max_tokens": 5}), (f"{PATH}/count_tokens", {})):
        reply = client.post(path, json={**body, **more})
        assert reply.headers["X-Pannier-Ignored"] == "messages.content.is_error, metadata"
