"""Ollama's routes for embeddings: embed, and the older embeddings."""

from __future__ import annotations

import time
from typing import Any

from flask import Blueprint, Response, jsonify

from pannier.pkgmgr.errors import InvalidReference, ModelNotFound
from pannier.runtime.errors import ContextOverflow
from pannier.runtime.interface import Embeddings

from ..errors import RequestError
from ..service import Call, Service
from ..streaming import client_gone, from_client, with_truncation
from ..vectors import shortened
from ..wire import read_body
from . import convert
from .schema import EmbeddingsRequest, EmbedRequest


def add_routes(routes: Blueprint, service: Service) -> None:
    """Add the routes of this module."""

    @routes.post("/api/embed")
    def embed() -> Response:
        return _embed(service, read_body(EmbedRequest))

    @routes.post("/api/embeddings")
    def embeddings() -> Response:
        return _embeddings(service, read_body(EmbeddingsRequest))


def _embed(service: Service, body: EmbedRequest) -> Response:
    began_ns = time.monotonic_ns()
    texts = texts_of(body.input)
    call = Call(
        body.model,
        options=body.options,
        keep_alive_s=convert.keep_alive_s(body.keep_alive),
        truncate=body.truncate,
    )
    call = from_client(call, body.options)
    invalid = RequestError(404, f"model '{body.model[:200]}' not found")
    found = _vectors(service, call, texts, invalid)
    answer: dict[str, Any] = {
        "model": body.model,
        "embeddings": [shortened(row, body.dimensions) for row in found.rows],
        "total_duration": time.monotonic_ns() - began_ns,
        "load_duration": found.model.load_ns,
        "prompt_eval_count": found.tokens,
        "truncated": {"tokens": found.truncated} if found.truncated else 0,
    }
    answer = {key: value for key, value in answer.items() if value != 0}
    return with_truncation(jsonify(answer), found.truncated)


def _embeddings(service: Service, body: EmbeddingsRequest) -> Response:
    call = Call(
        body.model, options=body.options, keep_alive_s=convert.keep_alive_s(body.keep_alive)
    )
    call = from_client(call, body.options)
    texts = [body.prompt] if body.prompt else []
    found = _vectors(service, call, texts, RequestError(400, "model is required"))
    answer = jsonify(embedding=found.rows[0] if found.rows else [])
    return with_truncation(answer, found.truncated)


def texts_of(value: Any) -> list[str]:
    """The texts of an `input`: one, several, or none.

    Raises:
        RequestError: 400 in Ollama's words.
    """
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise RequestError(400, "invalid input type", param="input")


def _vectors(service: Service, call: Call, texts: list[str], invalid: RequestError) -> Embeddings:
    try:
        return service.embed(call, texts, gone=client_gone())
    except InvalidReference as error:
        raise invalid from error
    except ModelNotFound as error:
        text = f'model "{call.model}" not found, try pulling it first'
        raise RequestError(404, text) from error
    except ContextOverflow as error:
        raise RequestError(400, "the input length exceeds the context length") from error
