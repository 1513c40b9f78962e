"""POST /v1/responses over a scripted runtime."""

import json
from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from support.scripted import ScriptedRuntime
from support.web import Reply, WebClient

from pannier.api.answer import Piece
from pannier.api.openai.responses import _frame, _Run
from pannier.api.openai.responses_schema import ResponsesRequest
from pannier.runtime.errors import RunnerDied
from pannier.runtime.messages import ToolCall
from pannier.runtime.request import Delta, FinishReason, Usage

PATH = "/v1/responses"
EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)


def events(reply: Reply) -> list[dict[str, Any]]:
    blocks = reply.text.removesuffix("\n\n").split("\n\n")
    return [json.loads(block.partition("\ndata: ")[2]) for block in blocks]


def test_a_response_is_answered_whole(client: WebClient, runtime: ScriptedRuntime) -> None:
    body = {"model": "tiny", "input": "Hi", "instructions": "Be.", "max_output_tokens": 9}
    answer = client.post(PATH, json=body).json
    assert Response.model_validate(answer).output_text == "Hello there!"
    assert answer["status"] == "completed"
    assert answer["usage"]["total_tokens"] == 10
    prompt = "".join(segment.text for segment in runtime.requests[-1].prompt)
    assert prompt.startswith("<|system|>\nBe.</s>\n<|user|>\nHi</s>")
    assert runtime.requests[-1].max_tokens == 9


def test_a_response_streams_its_events_in_order(client: WebClient) -> None:
    found = events(client.post(PATH, json={"model": "tiny", "input": "Hi", "stream": True}))
    assert [event["type"].removeprefix("response.") for event in found] == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta",
        "output_text.delta", "output_text.delta", "output_text.done", "content_part.done",
        "output_item.done", "completed",
    ]  # fmt: skip
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    for event in found:
        EVENT.validate_python(event)


def test_reasoning_and_calls_are_items_that_openais_types_accept() -> None:
    run = _Run(_frame(ResponsesRequest.model_validate({"model": "tiny", "input": "Hi"})))
    pieces = [
        Piece(thinking="hm"),
        Piece(tool_calls=(ToolCall("add", {"a": 1}, "call_1"),)),
        Piece(finish=FinishReason.LENGTH, usage=Usage(1)),
    ]
    found: list[Any] = [event for piece in pieces for event in run.add(piece)]
    for _, event in found:
        EVENT.validate_python(event)
    assert [item["type"] for item in run.response["output"]] == ["reasoning", "function_call"]
    assert run.response["output"][1]["arguments"] == '{"a":1}'
    assert run.response["status"] == "incomplete"


def test_items_of_earlier_turns_become_messages(
    client: WebClient, runtime: ScriptedRuntime
) -> None:
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "Add."}]},
        {"type": "function_call", "call_id": "c", "name": "add", "arguments": '{"a":1}'},
        {"type": "function_call_output", "call_id": "c", "output": "2"},
        {"type": "message", "role": "user", "content": "So?"},
    ]
    assert client.post(PATH, json={"model": "tiny", "input": items}).status_code == 200
    prompt = "".join(segment.text for segment in runtime.requests[-1].prompt)
    assert "<|tool|>\n2</s>\n<|user|>\nSo?</s>" in prompt


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"previous_response_id": "resp_1"}, 400),
        ({"input": ""}, 400),
        ({"input": [{"type": "web_search_call"}]}, 400),
        ({"tools": [{"type": "web_search"}]}, 400),
        ({"model": "nope"}, 404),
    ],
)
def test_what_cannot_be_done_is_refused(
    client: WebClient, change: dict[str, Any], status: int
) -> None:
    reply = client.post(PATH, json={"model": "tiny", "input": "Hi", **change})
    assert reply.status_code == status
    assert reply.json["error"]["message"]


def test_a_failure_in_mid_stream_is_a_failed_response(
    client: WebClient, runtime: ScriptedRuntime
) -> None:
    runtime.steps = [Delta("Hel"), RunnerDied("the runner of tiny died", signal="SIGKILL")]
    last = events(client.post(PATH, json={"model": "tiny", "input": "Hi", "stream": True}))[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["error"]["message"] == "the runner of tiny died"
