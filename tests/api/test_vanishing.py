"""Clients that go away before their answer begins: what they asked for is given up at once."""

import json
import threading
import time
from collections.abc import Callable

import pytest
from support.http import connect, running
from support.scripted import ScriptedRuntime

from pannier.api.app import create_app
from pannier.api.server import Server
from pannier.api.service import Service
from pannier.runtime.errors import DeadlinePassed
from pannier.runtime.request import GenerationRequest, LoadOptions, SamplingParams, Segment
from pannier.runtime.supervisor import Supervisor

# A failing test's patience; what is waited for comes within milliseconds.
PATIENCE_S = 20.0
PATHS = ("/api/chat", "/v1/chat/completions", "/v1/messages")


def send_and_vanish(
    server: Server, path: str, *, stream: bool, after: Callable[[], bool], **fields: object
) -> None:
    """Ask, wait until something is so, and close the connection without an answer."""
    messages = [{"role": "user", "content": "Hi"}]
    body = json.dumps(
        {"model": "tiny", "messages": messages, "max_tokens": 99, "stream": stream, **fields}
    ).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    with connect(server) as client:
        client.sendall(head.encode() + body)
        wait_until(after)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", PATHS)
def test_while_the_request_waits_behind_others(
    server: Server, runtime: ScriptedRuntime, path: str, stream: bool
) -> None:
    asked = threading.Event()
    runtime.on_load = asked.set
    runtime.steps = [threading.Event()]  # its turn never comes
    send_and_vanish(server, path, stream=stream, after=asked.is_set)
    wait_until(lambda: bool(runtime.streams))
    assert runtime.streams[0].cancelled.wait(PATIENCE_S)


@pytest.mark.parametrize("path", PATHS)
def test_while_the_model_loads(server: Server, runtime: ScriptedRuntime, path: str) -> None:
    loading, loaded = threading.Event(), threading.Event()

    def load() -> None:
        loading.set()
        assert loaded.wait(PATIENCE_S)

    runtime.on_load = load
    runtime.steps = [threading.Event()]
    send_and_vanish(server, path, stream=True, after=loading.is_set)
    loaded.set()
    wait_until(lambda: bool(runtime.streams))
    assert runtime.streams[0].cancelled.wait(PATIENCE_S)


@pytest.mark.parametrize("path", ["/api/embed", "/v1/embeddings", "/v1/rerank"])
def test_while_texts_are_embedded(server: Server, runtime: ScriptedRuntime, path: str) -> None:
    working, told = threading.Event(), threading.Event()

    def work(gone: Callable[[], bool]) -> None:
        working.set()
        wait_until(gone)
        told.set()

    runtime.on_vectors = work
    fields = {"input": "Hi", "query": "Hi", "documents": ["Hi"]}
    send_and_vanish(server, path, stream=False, after=working.is_set, **fields)
    assert told.wait(PATIENCE_S)


@pytest.mark.engine
def test_behind_a_request_that_goes_on(service: Service) -> None:
    with Supervisor(defaults=LoadOptions(num_ctx=512, num_parallel=1)) as supervisor:
        service.runtime = supervisor
        sampling = SamplingParams(temperature=1, seed=3, logit_bias={2: -100.0})
        source = service.library.find("tiny").source
        running_one = supervisor.generate(
            source, GenerationRequest((Segment("hello"),), sampling=sampling)
        )

        def busy() -> int:
            return supervisor.loaded()[0].busy

        with running(create_app(service)) as server:
            send_and_vanish(server, "/api/chat", stream=True, after=lambda: busy() == 2)
            wait_until(lambda: busy() == 1)
        delta = running_one.poll(PATIENCE_S)
        assert delta is not None
        assert delta.finish is None
        running_one.cancel()


@pytest.mark.engine
def test_a_deadline_ends_an_answer_that_never_stops(service: Service) -> None:
    with Supervisor(defaults=LoadOptions(num_ctx=512, num_parallel=1)) as supervisor:
        source = service.library.find("tiny").source
        sampling = SamplingParams(temperature=1, seed=3, logit_bias={2: -100.0})
        supervisor.load(source)
        stream = supervisor.generate(
            source, GenerationRequest((Segment("hello"),), sampling=sampling, deadline_s=0.2)
        )
        with pytest.raises(DeadlinePassed):
            list(stream)
        assert supervisor.loaded()[0].busy == 0


def wait_until(is_so: Callable[[], bool]) -> None:
    """Return when something is so."""
    pause = threading.Event()
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end, "it never came"
        pause.wait(0.005)
