"""Priorities, deadlines and full queues on the wire: the same on all three surfaces."""

import json
import threading
from typing import Any

import pytest
from flask import Flask
from support.scripted import ScriptedRuntime, words
from support.web import Reply, WebClient

from pannier.api.admission import Admission
from pannier.api.app import create_app
from pannier.api.service import Service
from pannier.runtime.errors import DeadlinePassed, QueueFull

HELLO = [{"role": "user", "content": "Hi"}]
PATHS = ("/api/chat", "/v1/chat/completions", "/v1/messages")
OTHERS: dict[str, dict[str, Any]] = {
    "/api/generate": {"prompt": "Hi"},
    "/v1/completions": {"prompt": "Hi"},
    "/v1/responses": {"input": "Hi"},
}


def ask(
    client: WebClient, path: str, *, headers: dict[str, str] | None = None, **more: Any
) -> Reply:
    body = OTHERS.get(path, {"messages": HELLO, "max_tokens": 9})
    return client.post(path, json={"model": "tiny", **body, **more}, headers=headers or {})


def message_of(reply: Reply) -> str:
    error = reply.json["error"]
    return str(error if isinstance(error, str) else error["message"])


@pytest.mark.parametrize("path", [*PATHS, *OTHERS])
@pytest.mark.parametrize(("word", "number"), [("high", -1), ("normal", 0), ("LOW", 1)])
def test_a_header_sets_priority_and_deadline(
    client: WebClient, runtime: ScriptedRuntime, path: str, word: str, number: int
) -> None:
    headers = {"X-Pannier-Priority": word, "X-Pannier-Deadline": "90"}
    assert ask(client, path, headers=headers, stream=False).status_code == 200
    request = runtime.requests[-1]
    assert request.priority == number
    assert request.deadline_s is not None
    assert 80 < request.deadline_s <= 90


@pytest.mark.parametrize("path", [*PATHS, *OTHERS])
def test_a_field_goes_before_its_header(
    client: WebClient, runtime: ScriptedRuntime, path: str
) -> None:
    fields: dict[str, Any] = {"priority": "low", "deadline": "1m30s"}
    own = {"options": fields} if path.startswith("/api/") else fields
    headers = {"X-Pannier-Priority": "high", "X-Pannier-Deadline": "5"}
    reply = ask(client, path, headers=headers, stream=False, **own)
    assert reply.status_code == 200
    assert "X-Pannier-Ignored" not in reply.headers
    assert runtime.requests[-1].priority == 1
    assert (runtime.requests[-1].deadline_s or 0) > 80


@pytest.mark.parametrize("path", [*PATHS, *OTHERS])
@pytest.mark.parametrize(
    ("header", "value"),
    [("Priority", "urgent"), ("Priority", "1"), ("Deadline", "soon"), ("Deadline", "0"),
     ("Deadline", "-5"), ("Deadline", "nan"), ("Deadline", "inf"), ("Deadline", "100000")],
)  # fmt: skip
def test_what_is_no_priority_or_deadline_is_refused(
    client: WebClient, runtime: ScriptedRuntime, path: str, header: str, value: str
) -> None:
    reply = ask(client, path, headers={f"X-Pannier-{header}": value})
    assert reply.status_code == 400
    assert header.lower() in message_of(reply) or "duration" in message_of(reply)
    assert runtime.requests == []


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", [*PATHS, *OTHERS])
def test_a_deadline_that_passes_in_the_queue_is_504(
    client: WebClient, runtime: ScriptedRuntime, path: str, stream: bool
) -> None:
    runtime.steps = [threading.Event()]  # its turn never comes
    reply = ask(client, path, headers={"X-Pannier-Deadline": "0.06"}, stream=stream)
    assert reply.status_code == 504
    assert message_of(reply) == "the request's deadline has passed"
    assert reply.headers["X-Should-Retry"] == "false"
    assert runtime.streams[0].cancelled.is_set()


def test_a_deadline_that_passes_while_the_model_loads_is_504(
    client: WebClient, runtime: ScriptedRuntime
) -> None:
    loaded = threading.Event()

    def load() -> None:
        loaded.wait(20)

    runtime.on_load = load
    reply = ask(client, "/api/chat", headers={"X-Pannier-Deadline": "0.06"})
    loaded.set()
    assert reply.status_code == 504


def test_a_deadline_that_passes_in_mid_stream_is_the_last_line(
    client: WebClient, runtime: ScriptedRuntime
) -> None:
    runtime.steps = [*words("Hel")[:1], DeadlinePassed("tiny: its deadline has passed")]
    lines = ask(client, "/api/chat").data.splitlines()
    assert json.loads(lines[-1]) == {"error": "the request's deadline has passed"}


@pytest.fixture
def crowded(service: Service, runtime: ScriptedRuntime) -> WebClient:
    """An application that lets one request in, which is there already."""
    admission = Admission(1)
    admission.enter()
    app: Flask = create_app(service, admission=admission)
    return app.test_client()  # type: ignore[return-value]  # FlaskClient says JSON may be None


BUSY = "server busy, please try again.  maximum pending requests exceeded"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", {"error": BUSY}),
        ("/v1/chat/completions",
         {"error": {"message": BUSY, "type": "api_error", "param": None, "code": None}}),
        ("/v1/messages", {"type": "error", "error": {"type": "overloaded_error", "message": BUSY}}),
    ],
)  # fmt: skip
def test_who_finds_the_server_full_is_told_when_to_come_back(
    crowded: WebClient, runtime: ScriptedRuntime, path: str, body: dict[str, Any]
) -> None:
    reply = ask(crowded, path)
    assert (reply.status_code, reply.headers["Retry-After"]) == (503, "1")
    assert body.items() <= reply.json.items()
    assert runtime.requests == []
    assert crowded.get("/api/ps").status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_a_models_full_queue_says_the_same(
    client: WebClient, runtime: ScriptedRuntime, path: str
) -> None:
    runtime.steps = [QueueFull(512, retry_after_s=7)]
    reply = ask(client, path)
    assert (reply.status_code, reply.headers["Retry-After"]) == (503, "7")
    assert message_of(reply) == BUSY


def test_a_place_is_free_again_when_an_answer_ends() -> None:
    now = 0.0
    admission = Admission(1, clock=lambda: now)
    leave = admission.enter()
    now = 17.0
    leave()
    leave()
    admission.enter()
    with pytest.raises(QueueFull) as caught:
        admission.enter()
    assert caught.value.retry_after_s == 3.0


def test_streams_give_their_place_back(service: Service) -> None:
    admission = Admission(1)
    app = create_app(service, admission=admission)
    for body, status in ((b"{", 400), (b'{"model":"tiny","messages":[{"role":"user"}]}', 200)) * 2:
        with app.test_client().post("/api/chat", data=body) as reply:
            assert reply.status_code == status
            assert reply.data
    admission.enter()
