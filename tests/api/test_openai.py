"""OpenAI's REST surface over a scripted runtime: shapes, texts and statuses."""

import json
from typing import Any

import pytest
from support.scripted import ScriptedRuntime, words
from support.web import Reply, WebClient

from pannier.runtime.errors import RunnerDied
from pannier.runtime.request import Delta, FinishReason, TokenLogprob

HELLO = [{"role": "user", "content": "Hi"}]
PATH = "/v1/chat/completions"


def post(client: WebClient, path: str, **body: Any) -> Reply:
    return client.post(path, json=body)


def events(response: Reply) -> list[Any]:
    assert response.content_type.startswith("text/event-stream")
    blocks = response.text.split("\n\n")
    assert blocks.pop() == ""
    assert blocks.pop() == "data: [DONE]"
    return [json.loads(block.removeprefix("data: ")) for block in blocks]


def prompt_of(runtime: ScriptedRuntime) -> str:
    return "".join(segment.text for segment in runtime.requests[-1].prompt)


def test_a_chat_is_answered_whole(client: WebClient) -> None:
    answer = post(client, PATH, model="tiny", messages=HELLO).json
    assert answer["id"].startswith("chatcmpl-")
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "tiny"
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Hello there!"}
    assert (choice["index"], choice["finish_reason"]) == (0, "stop")
    assert answer["usage"]["total_tokens"] == 10


def test_a_chat_streams_role_text_finish_usage_and_done(client: WebClient) -> None:
    options = {"include_usage": True}
    response = post(client, PATH, model="tiny", messages=HELLO, stream=True, stream_options=options)
    first, second, third, finish, usage = events(response)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "Hello"}
    assert second["choices"][0]["delta"] == {"content": " there"}
    assert third["choices"][0]["finish_reason"] is None
    assert finish["choices"][0] == {
        "index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop",
    }  # fmt: skip
    assert all(chunk["usage"] is None for chunk in (first, second, third, finish))
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 3
    assert len({chunk["id"] for chunk in (first, second, usage)}) == 1
    assert len({chunk["created"] for chunk in (first, second, usage)}) == 1


def test_usage_is_not_sent_unasked(client: WebClient) -> None:
    chunks = events(post(client, PATH, model="tiny", messages=HELLO, stream=True))
    assert all("usage" not in chunk for chunk in chunks)


def test_sampling_fields_become_options(client: WebClient, runtime: ScriptedRuntime) -> None:
    post(
        client, PATH, model="team/guide:v1", messages=HELLO, temperature=0.1, top_p=0.2, seed=7,
        stop=["a", "b"], max_completion_tokens=9, frequency_penalty=0.3, presence_penalty=0.4,
    )  # fmt: skip
    request = runtime.requests[-1]
    assert request.sampling.seed == 7
    assert request.sampling.temperature == pytest.approx(0.1)
    assert request.max_tokens == 9
    assert request.stop[:2] == ("a", "b")


def test_what_the_request_leaves_out_is_the_models_to_say(
    client: WebClient, runtime: ScriptedRuntime
) -> None:
    post(client, PATH, model="team/guide:v1", messages=HELLO)
    assert runtime.requests[-1].sampling.temperature == 0.5
    assert runtime.requests[-1].stop[0] == "<end>"


def test_content_parts_and_the_developer_role(client: WebClient, runtime: ScriptedRuntime) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    messages = [{"role": "developer", "content": "Be."}, {"role": "user", "content": parts}]
    post(client, PATH, model="tiny", messages=messages)
    assert prompt_of(runtime).startswith("<|system|>\nBe.</s>\n<|user|>\none\ntwo</s>")


def test_fields_without_effect_are_named_in_a_header(client: WebClient) -> None:
    response = post(client, PATH, model="tiny", messages=HELLO, user="me", store=True)
    assert response.headers["X-Pannier-Ignored"] == "store, user"


def test_fields_without_effect_are_named_wherever_they_stand(client: WebClient) -> None:
    part = {"type": "text", "text": "Hello", "cache_control": {"type": "ephemeral"}}
    message = {"role": "user", "content": [part], "weight": 1}
    body = {"model": "tiny", "messages": [message], "max_tokens": 5}
    for path in ("/v1/chat/completions", "/v1/messages"):
        response = client.post(path, json=body)
        assert response.status_code == 200
        named = response.headers["X-Pannier-Ignored"]
        assert named == "messages.content.cache_control, messages.weight"


def test_a_completion_continues_the_prompt_itself(
    client: WebClient, runtime: ScriptedRuntime
) -> None:
    answer = post(client, "/v1/completions", model="tiny", prompt="Once").json
    assert answer["object"] == "text_completion"
    assert answer["choices"][0]["text"] == "Hello there!"
    assert prompt_of(runtime) == "Once"


def test_a_completion_streams(client: WebClient, runtime: ScriptedRuntime) -> None:
    runtime.steps = words("a", "b", finish=FinishReason.LENGTH)
    *texts, finish = events(
        post(client, "/v1/completions", model="tiny", prompt="Once", stream=True)
    )
    assert [chunk["choices"][0]["text"] for chunk in texts] == ["a", "b"]
    assert finish["choices"][0]["finish_reason"] == "length"


def test_models_are_listed_and_found_with_slashes(client: WebClient) -> None:
    listed = client.get("/v1/models").json
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["team/guide:v1", "tiny:latest"]
    assert [model["owned_by"] for model in listed["data"]] == ["team", "library"]
    for path in ("/v1/models/team/guide:v1", "/v1/models/team%2Fguide%3Av1"):
        assert client.get(path).json["id"] == "team/guide:v1"
    assert client.get("/v1/models/nope").status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"model": "nope", "messages": HELLO}, 404, "model 'nope' not found"),
        ({"messages": HELLO}, 404, "model '' not found"),
        ({"model": "tiny", "messages": []}, 400, "[] is too short - 'messages'"),
        ({"model": "tiny", "messages": HELLO, "temperature": "hot"}, 400,
         "invalid temperature: expected a number"),
        ({"model": "tiny", "messages": [{"role": "user", "content": [{"type": "video"}]}]}, 400,
         "invalid message content type: video"),
        ({"model": "tiny", "messages": HELLO, "stop": [1]}, 400, "invalid stop: expected"),
        ({"model": "tiny", "messages": HELLO, "top_logprobs": 2}, 400,
         "top_logprobs needs logprobs to be true"),
        ({"model": "tiny", "messages": HELLO, "reasoning_effort": "huge"}, 400,
         "invalid reasoning effort 'huge'"),
        ({"model": "tiny", "messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "http://example.com/x.png"}}]}]}, 400,
         "invalid image: only data: URLs"),
    ],
)  # fmt: skip
def test_errors_have_openais_shape(
    client: WebClient, body: dict[str, Any], status: int, text: str
) -> None:
    response = client.post(PATH, json=body)
    assert response.status_code == status
    error = response.json["error"]
    assert error["message"].startswith(text)
    assert error["type"] == ("not_found_error" if status == 404 else "invalid_request_error")
    assert set(error) == {"message", "type", "param", "code"}


def test_a_failure_in_mid_stream_is_an_error_event(
    client: WebClient, runtime: ScriptedRuntime
) -> None:
    runtime.steps = [Delta("Hel"), RunnerDied("the runner of tiny died", signal="SIGKILL")]
    *_, last = events(post(client, PATH, model="tiny", messages=HELLO, stream=True))
    assert last["error"]["message"] == "the runner of tiny died"
    assert last["error"]["type"] == "api_error"


def test_several_choices_each_with_its_seed(client: WebClient, runtime: ScriptedRuntime) -> None:
    answer = post(client, PATH, model="tiny", messages=HELLO, n=3, seed=5).json
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert [request.sampling.seed for request in runtime.requests] == [5, 6, 7]
    assert answer["usage"]["completion_tokens"] == 9
    assert answer["usage"]["prompt_tokens"] == 7


def test_several_choices_stream_side_by_side(client: WebClient) -> None:
    chunks = events(post(client, PATH, model="tiny", messages=HELLO, n=2, stream=True))
    for number in (0, 1):
        own = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == number]
        assert "".join(choice["delta"].get("content", "") for choice in own) == "Hello there!"
        assert own[-1]["finish_reason"] == "stop"


def test_log_probabilities_in_openais_shape(client: WebClient, runtime: ScriptedRuntime) -> None:
    top = (TokenLogprob(b"Hi", -0.5), TokenLogprob(b"Yo", -1.5))
    runtime.steps = [Delta("Hi", 1, logprobs=(TokenLogprob(b"Hi", -0.5, top),)), *words()]
    answer = post(client, PATH, model="tiny", messages=HELLO, logprobs=True, top_logprobs=2).json
    assert runtime.requests[-1].logprobs == 2
    (token,) = answer["choices"][0]["logprobs"]["content"]
    assert (token["token"], token["logprob"], token["bytes"]) == ("Hi", -0.5, [72, 105])
    assert [item["token"] for item in token["top_logprobs"]] == ["Hi", "Yo"]


def test_completions_take_lists_token_ids_echo_and_logprobs(
    client: WebClient, runtime: ScriptedRuntime
) -> None:
    body = {"model": "tiny", "echo": True}
    answer = client.post("/v1/completions", json={**body, "prompt": ["One", "Two"]}).json
    assert [choice["text"] for choice in answer["choices"]] == [
        "OneHello there!",
        "TwoHello there!",
    ]
    answer = client.post("/v1/completions", json={**body, "prompt": [72, 105]}).json
    assert answer["choices"][0]["text"] == "HiHello there!"
    assert runtime.requests[-1].context == (72, 105)


def test_logit_bias_reaches_the_sampler(client: WebClient, runtime: ScriptedRuntime) -> None:
    post(client, PATH, model="tiny", messages=HELLO, logit_bias={"42": -100})
    assert runtime.requests[-1].sampling.logit_bias == {42: -100}


def test_the_name_of_who_speaks_is_named_as_without_effect(client: WebClient) -> None:
    for message, named in (
        ({"role": "user", "content": "Hi", "name": "bob"}, "messages.name"),
        ({"role": "tool", "content": "12", "name": "time"}, None),
    ):
        body = {"model": "tiny", "messages": [message]}
        reply = client.post("/v1/chat/completions", json=body)
        assert reply.headers.get("X-Pannier-Ignored") == named
