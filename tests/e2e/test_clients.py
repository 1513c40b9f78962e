"""Clients from PyPI, unmodified, against a real server with a real model."""

import http.client
import json
import os
import signal
import threading
from collections.abc import Iterator

import ollama
import openai
import pytest
from support.live import Live, live_server

pytestmark = [pytest.mark.engine, pytest.mark.slow]

QUESTION = [{"role": "user", "content": "What is the capital of France? One sentence."}]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_server(tmp_path_factory.mktemp("live")) as live:
        yield live


@pytest.fixture
def theirs(live: Live) -> Iterator[ollama.Client]:
    client = ollama.Client(host=live.url)
    yield client
    client._client.close()


@pytest.fixture
def openais(live: Live) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_ollama_chats(theirs: ollama.Client) -> None:
    answer = theirs.chat("smollm2", messages=QUESTION, options={"num_predict": 20})
    assert "Paris" in (answer.message.content or "")
    assert answer.done_reason in ("stop", "length")
    assert answer.prompt_eval_count
    assert answer.eval_count


def test_ollama_streams(theirs: ollama.Client) -> None:
    parts = list(theirs.chat("smollm2", QUESTION, stream=True, options={"num_predict": 20}))
    assert "Paris" in "".join(part.message.content or "" for part in parts)
    assert len(parts) > 3
    assert [part.done for part in parts].index(True) == len(parts) - 1


def test_ollama_generates_and_continues_with_context(theirs: ollama.Client) -> None:
    first = theirs.generate("smollm2", "My name is Ada.", options={"num_predict": 10})
    assert first.context
    alone = theirs.generate("smollm2", "And?", options={"num_predict": 2})
    second = theirs.generate("smollm2", "And?", context=first.context, options={"num_predict": 2})
    assert second.prompt_eval_count == len(first.context) + (alone.prompt_eval_count or 0)


def test_ollama_lists_shows_copies_and_deletes(theirs: ollama.Client) -> None:
    assert "smollm2:latest" in [model.model for model in theirs.list().models]
    shown = theirs.show("smollm2")
    assert shown.details
    assert shown.details.family == "llama"
    assert "completion" in (shown.capabilities or [])
    assert theirs.copy("smollm2", "second").status == "success"
    assert theirs.delete("second").status == "success"
    with pytest.raises(ollama.ResponseError, match="model 'second:latest' not found") as caught:
        theirs.show("second")
    assert caught.value.status_code == 404


def test_ollama_creates_on_top_of_a_model(theirs: ollama.Client) -> None:
    theirs.create("pirate", from_="smollm2", system="You talk like a pirate.")
    assert theirs.show("pirate").modelfile
    theirs.delete("pirate")


def test_openai_chats(openais: openai.OpenAI) -> None:
    answer = openais.chat.completions.create(
        model="smollm2",
        messages=[{"role": "user", "content": "What is the capital of France? One sentence."}],
        max_tokens=20,
    )
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.usage
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_openai_streams(openais: openai.OpenAI) -> None:
    stream = openais.chat.completions.create(
        model="smollm2",
        messages=[{"role": "user", "content": "What is the capital of France? One sentence."}],
        max_tokens=20,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "Paris" in text
    assert chunks[-1].usage
    assert chunks[-2].choices[0].finish_reason in ("stop", "length")


def test_openai_lists_and_completes(openais: openai.OpenAI) -> None:
    assert "smollm2:latest" in [model.id for model in openais.models.list()]
    assert openais.models.retrieve("smollm2").id == "smollm2"
    answer = openais.completions.create(
        model="smollm2", prompt="The capital of France is", max_tokens=5
    )
    assert "Paris" in answer.choices[0].text


def test_openai_reads_our_errors(openais: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="model 'nope' not found"):
        openais.chat.completions.create(model="nope", messages=[{"role": "user", "content": "x"}])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_a_runner_killed_in_mid_stream_leaves_an_error_and_the_next_request_works(
    live: Live, theirs: ollama.Client, number: signal.Signals
) -> None:
    count = {"num_predict": 500}
    stream = theirs.chat(
        "smollm2", [{"role": "user", "content": "Count."}], stream=True, options=count
    )
    next(iter(stream))
    os.kill(live.runtime.loaded()[0].pid, number)
    with pytest.raises(ollama.ResponseError, match=number.name):
        list(stream)
    answer = theirs.chat("smollm2", messages=QUESTION, options={"num_predict": 20})
    assert "Paris" in (answer.message.content or "")


def test_a_disconnect_frees_the_model(live: Live) -> None:
    connection = http.client.HTTPConnection(live.server.netloc, timeout=30)
    body = {"model": "smollm2", "prompt": "Write a long story.", "options": {"num_predict": 2000}}
    connection.request("POST", "/api/generate", json.dumps(body))
    connection.getresponse().readline()
    assert live.runtime.loaded()[0].busy == 1
    connection.close()
    tick = threading.Event()
    while live.runtime.loaded()[0].busy:  # pytest's timeout is the limit
        tick.wait(0.005)
