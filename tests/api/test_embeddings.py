"""Embeddings, ranking and token ids on both surfaces, over a scripted runtime."""

import base64
import struct
from typing import Any

import pytest
from support.scripted import ScriptedRuntime
from support.web import WebClient


def test_embed_gives_one_vector_per_text(client: WebClient) -> None:
    answer = client.post("/api/embed", json={"model": "tiny", "input": ["a", "bc"]}).json
    assert answer["embeddings"] == [[0.6, 0.0, 0.8]] * 2
    assert answer["prompt_eval_count"] == 3
    assert answer["model"] == "tiny"
    assert isinstance(answer["total_duration"], int)


def test_embed_shortens_and_normalises_again(client: WebClient) -> None:
    body = {"model": "tiny", "input": "a", "dimensions": 2}
    assert client.post("/api/embed", json=body).json["embeddings"] == [[1.0, 0.0]]


@pytest.mark.parametrize("value", ["", [], None])
def test_embed_of_nothing_loads_the_model(
    client: WebClient, runtime: ScriptedRuntime, value: Any
) -> None:
    assert (
        client.post("/api/embed", json={"model": "tiny", "input": value}).json["embeddings"] == []
    )
    assert len(runtime.loaded()) == 1


def test_the_older_route(client: WebClient) -> None:
    body = {"model": "tiny", "prompt": "a"}
    assert client.post("/api/embeddings", json=body).json == {"embedding": [0.6, 0.0, 0.8]}
    assert client.post("/api/embeddings", json={"model": "tiny"}).json == {"embedding": []}


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/api/embed", {"model": ":", "input": "x"}, 404, "model ':' not found"),
        ("/api/embed", {"model": "nope", "input": "x"}, 404,
         'model "nope" not found, try pulling it first'),
        ("/api/embed", {"model": "tiny", "input": 7}, 400, "invalid input type"),
        ("/api/embed", {"model": "tiny", "input": "x" * 2000, "truncate": False}, 400,
         "the input length exceeds the context length"),
        ("/api/embeddings", {"prompt": "x"}, 400, "model is required"),
    ],
)  # fmt: skip
def test_errors_have_ollamas_texts(
    client: WebClient, path: str, body: Any, status: int, text: str
) -> None:
    reply = client.post(path, json=body)
    assert (reply.status_code, reply.json) == (status, {"error": text})


def test_openais_embeddings_as_numbers_and_as_base64(client: WebClient) -> None:
    body: dict[str, Any] = {"model": "tiny", "input": ["a", "b"]}
    answer = client.post("/v1/embeddings", json=body).json
    assert [row["index"] for row in answer["data"]] == [0, 1]
    assert answer["data"][0]["embedding"] == [0.6, 0.0, 0.8]
    assert answer["usage"] == {"prompt_tokens": 2, "total_tokens": 2}
    encoded = client.post("/v1/embeddings", json={**body, "encoding_format": "base64"}).json
    values = struct.unpack("<3f", base64.b64decode(encoded["data"][0]["embedding"]))
    assert values == pytest.approx((0.6, 0.0, 0.8))


@pytest.mark.parametrize("value", [[72, 105], [[72, 105]]])
def test_token_ids_are_embedded_as_their_text(client: WebClient, value: Any) -> None:
    answer = client.post("/v1/embeddings", json={"model": "tiny", "input": value}).json
    assert answer["usage"]["prompt_tokens"] == 2


@pytest.mark.parametrize("change", [{"input": []}, {"input": None}, {"encoding_format": "hex"},
                                    {"input": [1, "a"]}, {"dimensions": 0}])  # fmt: skip
def test_bad_inputs_are_refused(client: WebClient, change: dict[str, Any]) -> None:
    reply = client.post("/v1/embeddings", json={"model": "tiny", "input": "x", **change})
    assert reply.status_code == 400
    assert reply.json["error"]["type"] == "invalid_request_error"


def test_rerank_orders_documents(client: WebClient) -> None:
    body = {
        "model": "tiny", "query": "llama", "documents": ["a cat", {"text": "a llama"}], "top_n": 1,
        "return_documents": True,
    }  # fmt: skip
    assert client.post("/v1/rerank", json=body).json["results"] == [
        {"index": 1, "relevance_score": 1.0, "document": {"text": "a llama"}}
    ]


def test_tokenize_and_back(client: WebClient) -> None:
    tokens = client.post("/v1/tokenize", json={"model": "tiny", "content": "Hi"}).json
    assert tokens == {"tokens": [72, 105], "count": 2}
    body = {"model": "tiny", "tokens": tokens["tokens"]}
    assert client.post("/v1/detokenize", json=body).json["content"] == "Hi"
