"""Texts as vectors, scores and token ids: embeddings, rerank, tokenize, detokenize."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from flask import Blueprint, Response, jsonify
from pydantic import Field

from pannier.pkgmgr.errors import InvalidReference, ModelNotFound

from ..errors import RequestError
from ..ollama.convert import keep_alive_s
from ..service import Call, Service
from ..streaming import client_gone, from_client, with_truncation
from ..vectors import packed, shortened
from ..wire import Open, Urgent, Wire, read_body, warned

_MAX_TEXTS = 2048
_T = TypeVar("_T")


class EmbeddingsRequest(Urgent):
    """POST /v1/embeddings."""

    model: str = ""
    input: Any = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1)
    keep_alive: Any = None


class Document(Wire):
    """A text to be ranked."""

    text: str = ""


class RerankRequest(Urgent):
    """POST /v1/rerank, as Jina and Cohere have it."""

    model: str = ""
    query: str = ""
    documents: list[str | Document] = Field(default_factory=list)
    top_n: int | None = Field(default=None, ge=1)
    return_documents: bool = False


class TokenizeRequest(Open):
    """POST /v1/tokenize; the text is `content` (llama-server) or `prompt` (vLLM)."""

    model: str = ""
    content: str = ""
    prompt: str = ""
    parse_special: bool = True


class DetokenizeRequest(Open):
    """POST /v1/detokenize."""

    model: str = ""
    tokens: list[int] = Field(default_factory=list)


def add_routes(routes: Blueprint, service: Service) -> None:
    """Add the routes of this module."""

    @routes.post("/embeddings")
    def embeddings() -> Response:
        body = read_body(EmbeddingsRequest)
        return warned(body.ignored, _embeddings(service, body))

    @routes.post("/rerank")
    def rerank() -> Response:
        body = read_body(RerankRequest)
        return warned(body.ignored, _rerank(service, body))

    @routes.post("/tokenize")
    def tokenize() -> Response:
        body = read_body(TokenizeRequest)
        source = _found(body.model, lambda: service.library.find(body.model)).source
        text = body.content or body.prompt
        tokens = service.runtime.tokenize(source, text, special=body.parse_special)
        return warned(body.ignored, jsonify(tokens=tokens, count=len(tokens)))

    @routes.post("/detokenize")
    def detokenize() -> Response:
        body = read_body(DetokenizeRequest)
        source = _found(body.model, lambda: service.library.find(body.model)).source
        text = service.runtime.detokenize(source, _checked(body.tokens, "tokens"))
        return warned(body.ignored, jsonify(content=text, prompt=text))


def _found(name: str, find: Callable[[], _T]) -> _T:
    try:
        return find()
    except (ModelNotFound, InvalidReference) as error:
        raise RequestError(404, f"model '{name[:200]}' not found", param="model") from error


def _embeddings(service: Service, body: EmbeddingsRequest) -> Response:
    texts = _texts(service, body)
    call = Call(body.model, keep_alive_s=keep_alive_s(body.keep_alive))
    call = from_client(call, vars(body))
    found = _found(body.model, lambda: service.embed(call, texts, gone=client_gone()))
    rows = [shortened(row, body.dimensions) for row in found.rows]
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": packed(row) if body.encoding_format == "base64" else row,
        }
        for index, row in enumerate(rows)
    ]
    usage = {"prompt_tokens": found.tokens, "total_tokens": found.tokens}
    answer = jsonify(object="list", data=data, model=body.model, usage=usage)
    return with_truncation(answer, found.truncated)


def _texts(service: Service, body: EmbeddingsRequest) -> list[str]:
    """The texts of an `input`; lists of token ids are turned back into texts."""
    value = body.input
    if isinstance(value, str) and value:
        return [value]
    if not isinstance(value, list) or not value:
        raise RequestError(400, "invalid input", param="input")
    if len(value) > _MAX_TEXTS:
        raise RequestError(400, f"more than {_MAX_TEXTS} inputs", param="input")
    if all(isinstance(item, str) for item in value):
        return value
    lists = value if all(isinstance(item, list) for item in value) else [value]
    source = _found(body.model, lambda: service.library.find(body.model)).source
    return [service.runtime.detokenize(source, _checked(item, "input")) for item in lists]


def _checked(tokens: list[Any], param: str) -> list[int]:
    if not all(type(token) is int and 0 <= token < 2**31 for token in tokens):
        raise RequestError(400, f"invalid {param}", param=param)
    return tokens


def _rerank(service: Service, body: RerankRequest) -> Response:
    texts = [item if isinstance(item, str) else item.text for item in body.documents]
    if not (body.query and texts) or len(texts) > _MAX_TEXTS:
        raise RequestError(400, f"query and 1 to {_MAX_TEXTS} documents are required")
    call = from_client(Call(body.model), vars(body))
    found = _found(body.model, lambda: service.rank(call, body.query, texts, gone=client_gone()))
    order = sorted(range(len(texts)), key=lambda index: -found.rows[index][0])
    results = [
        {"index": index, "relevance_score": found.rows[index][0]}
        | ({"document": {"text": texts[index]}} if body.return_documents else {})
        for index in order[: body.top_n]
    ]
    usage = {"prompt_tokens": found.tokens, "total_tokens": found.tokens}
    answer = jsonify(object="list", model=body.model, usage=usage, results=results)
    return with_truncation(answer, found.truncated)
