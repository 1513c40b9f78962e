"""The same on every surface: what a context had no room for, and whose a request is."""

import pytest
from support.scripted import ScriptedRuntime
from support.web import WebClient

from pannier.runtime.request import Delta, FinishReason, Usage

BODY = {"model": "tiny", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
TEXTS = (
    ("/api/chat", BODY),
    ("/api/generate", {"model": "tiny", "prompt": "Hi"}),
    ("/v1/chat/completions", BODY),
    ("/v1/completions", {"model": "tiny", "prompt": "Hi"}),
    ("/v1/responses", {"model": "tiny", "input": "Hi"}),
    ("/v1/messages", BODY),
)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("path", "body"), TEXTS)
def test_lost_tokens_stand_in_a_header(
    client: WebClient, runtime: ScriptedRuntime, path: str, body: dict[str, object], stream: bool
) -> None:
    reply = client.post(path, json={**body, "stream": stream})
    assert "X-Pannier-Truncated" not in reply.headers
    lost = Usage(prompt_tokens=7, truncated_tokens=40)
    runtime.steps = [
        Delta("Hi", 1, usage=lost),
        Delta(finish=FinishReason.STOP, usage=lost),
    ]
    reply = client.post(path, json={**body, "stream": stream})
    assert reply.headers["X-Pannier-Truncated"] == "40"


@pytest.mark.parametrize(
    ("path", "field"),
    [("/api/embed", "input"), ("/api/embeddings", "prompt"), ("/v1/embeddings", "input")],
)
def test_lost_tokens_of_embedded_texts_are_told(client: WebClient, path: str, field: str) -> None:
    reply = client.post(path, json={"model": "tiny", field: "short"})
    assert "X-Pannier-Truncated" not in reply.headers
    assert "truncated" not in reply.json
    reply = client.post(path, json={"model": "tiny", field: "x" * 1040})
    assert reply.headers["X-Pannier-Truncated"] == "40"
    if path == "/api/embed":
        assert reply.json["truncated"] == {"tokens": 40}


LONG = [{"role": "user", "content": f"{number} " + "x" * 1000} for number in range(20)]
CHATS = (
    ("/api/chat", {"messages": LONG}),
    ("/v1/chat/completions", {"messages": LONG}),
    ("/v1/responses", {"input": LONG}),
    ("/v1/messages", {"messages": LONG, "max_tokens": 9}),
)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("path", "body"), CHATS)
def test_messages_that_were_left_out_are_counted_in_headers(
    client: WebClient, runtime: ScriptedRuntime, path: str, body: dict[str, object], stream: bool
) -> None:
    reply = client.post(path, json={**body, "model": "tiny", "stream": stream})
    assert reply.status_code == 200
    messages = int(reply.headers["X-Pannier-Truncated-Messages"])
    prompt = "".join(segment.text for segment in runtime.requests[-1].prompt)
    assert prompt.count("x" * 1000) == len(LONG) - messages
    assert int(reply.headers["X-Pannier-Truncated"]) >= messages * 1000


@pytest.mark.parametrize(("path", "body"), TEXTS)
def test_a_request_is_its_addresss(
    client: WebClient, runtime: ScriptedRuntime, path: str, body: dict[str, object]
) -> None:
    for address in ("127.0.0.1", "10.0.0.7"):
        client.post(path, json={**body, "stream": False}, environ_base={"REMOTE_ADDR": address})
    assert [asked.client for asked in runtime.requests] == ["127.0.0.1", "10.0.0.7"]
