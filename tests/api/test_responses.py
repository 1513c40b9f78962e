"""POST /v1/responses over a scripted runtime."""

import json
from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from support.scripted import ScriptedRuntime, words
from support.web import Reply, WebClient

from pannier.api.answer import Piece
from pannier.api.openai.responses import _frame, _Run
from pannier.api.openai.responses_convert import call_of, chat_of
from pannier.api.openai.responses_schema import ResponsesRequest
from pannier.runtime.errors import RunnerDied
from pannier.runtime.messages import ToolCall
from pannier.runtime.request import Delta, FinishReason, TokenLogprob, Usage

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


def test_logprobs_stand_in_the_deltas_and_in_the_whole(
    client: WebClient, runtime: ScriptedRuntime
) -> None:
    tokens = [TokenLogprob(word.encode(), -0.5) for word in ("Hel", "lo", "!")]
    runtime.steps = [
        Delta("", 1, logprobs=(tokens[0],)),
        Delta("Hello", 1, logprobs=(tokens[1],)),
        Delta("!", 1, logprobs=(tokens[2],)),
        Delta(finish=FinishReason.STOP, usage=Usage(7, 0, 3)),
    ]
    body = {"model": "tiny", "input": "Hi", "include": ["message.output_text.logprobs"]}
    reply = client.post(PATH, json=body)
    assert runtime.requests[-1].logprobs == 0
    assert "X-Pannier-Ignored" not in reply.headers
    (part,) = reply.json["output"][0]["content"]
    assert [each["token"] for each in part["logprobs"]] == ["Hel", "lo", "!"]
    found = events(client.post(PATH, json={**body, "stream": True}))
    deltas = [event for event in found if event["type"] == "response.output_text.delta"]
    assert [[each["token"] for each in d["logprobs"]] for d in deltas] == [["Hel", "lo"], ["!"]]
    for event in found:
        EVENT.validate_python(event)
    client.post(PATH, json={"model": "tiny", "input": "Hi", "top_logprobs": 2})
    assert runtime.requests[-1].logprobs == 2


def test_truncation_can_be_ruled_out(client: WebClient, runtime: ScriptedRuntime) -> None:
    for value, may_cut in (("auto", True), ("disabled", False)):
        body = {"model": "tiny", "input": "Hi", "truncation": value}
        assert client.post(PATH, json=body).json["truncation"] == value
        assert runtime.requests[-1].truncate is may_cut
    assert client.post(PATH, json={**body, "truncation": "some"}).status_code == 400


def test_what_has_no_effect_is_named(client: WebClient) -> None:
    body = {
        "model": "tiny",
        "input": "Hi",
        "store": True,
        "include": ["reasoning.encrypted_content"],
    }
    reply = client.post(PATH, json=body)
    assert reply.headers["X-Pannier-Ignored"] == "include, store"


def test_strictness_of_formats_and_functions_is_heeded(client: WebClient) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    form = {"type": "json_schema", "name": "x", "schema": schema}
    for strict in (True, False):
        body: dict[str, Any] = {"model": "tiny", "input": "Hi", "text": {"format": form}}
        body["text"]["format"]["strict"] = strict
        reply = client.post(PATH, json=body)
        assert reply.json["text"]["format"]["strict"] is strict
        assert "X-Pannier-Ignored" not in reply.headers
        request = ResponsesRequest.model_validate(body)
        wanted = call_of(request).format
        assert isinstance(wanted, dict)
        assert ("additionalProperties" in wanted) is strict
    tool = {"type": "function", "name": "f", "parameters": schema, "strict": True}
    request = ResponsesRequest.model_validate({"model": "tiny", "input": "Hi", "tools": [tool]})
    assert chat_of(request).tools[0]["function"]["strict"] is True


def test_a_message_that_is_cut_says_so(client: WebClient, runtime: ScriptedRuntime) -> None:
    runtime.steps = words("Hel", finish=FinishReason.LENGTH)
    answer = client.post(PATH, json={"model": "tiny", "input": "Hi"}).json
    assert answer["status"] == answer["output"][0]["status"] == "incomplete"


def test_an_image_that_a_function_gave_is_not_lost(client: WebClient) -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,aGk="}
    items = [{"type": "function_call_output", "call_id": "c", "output": [image]}]
    reply = client.post(PATH, json={"model": "tiny", "input": items})
    assert "does not support vision" in reply.json["error"]["message"]


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ({"content": "Hi"}, "an input message has no role"),
        ({"type": "item_reference", "id": "x"}, "input item 'item_reference' is not supported"),
    ],
)
def test_an_item_that_cannot_be_read_is_refused(
    client: WebClient, item: dict[str, Any], text: str
) -> None:
    reply = client.post(PATH, json={"model": "tiny", "input": [item]})
    assert (reply.status_code, reply.json["error"]["message"]) == (400, text)
