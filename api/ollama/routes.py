"""Ollama's routes for text: /, version, generate, chat; deviations stand in docs/api.md."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from flask import Blueprint, Response, jsonify

from pannier.pkgmgr.errors import InvalidReference, ModelNotFound
from pannier.runtime.prompt import ChatPrompt

from ..answer import Answer, Piece
from ..errors import Failure, RequestError, failure_of
from ..service import Call, Service
from ..streaming import client_gone, from_client, marked, ndjson
from ..wire import read_body
from . import catalogue, convert, embeddings, transfers
from .schema import ChatRequest, GenerateRequest

# What clients are told that gate features on Ollama's version: the one whose API this is.
COMPATIBLE_VERSION = "0.32.0"

Chunk = Callable[[Piece], dict[str, Any]]


def blueprint(service: Service) -> Blueprint:
    """The routes over one service."""
    routes = Blueprint("ollama", __name__)

    @routes.get("/")
    def alive() -> Response:
        return Response("Ollama is running", content_type="text/plain; charset=utf-8")

    @routes.get("/api/version")
    def version() -> Response:
        from importlib.metadata import version

        return jsonify(version=COMPATIBLE_VERSION, pannier=version("pannier"))

    @routes.get("/api/status")
    def status() -> Response:
        return jsonify(cloud={"disabled": True, "source": "config"})

    @routes.post("/api/generate")
    def generate() -> Response:
        return _generate(service, read_body(GenerateRequest))

    @routes.post("/api/chat")
    def chat() -> Response:
        return _chat(service, read_body(ChatRequest))

    catalogue.add_routes(routes, service)
    embeddings.add_routes(routes, service)
    transfers.add_routes(routes, service)
    return routes


def error_response(failure: Failure) -> Response:
    """An error as Ollama says it."""
    response = jsonify(error=failure.message)
    response.status_code = failure.status
    return response


def _generate(service: Service, body: GenerateRequest) -> Response:
    call = from_client(convert.call_of(body), body.options)
    with_names(service, body.model, missing=RequestError(404, "model '' not found"))
    completion = convert.completion_of(body)
    if body.debug_render_only:
        model, _ = service.find(call, "generate")
        return _rendered(body.model, service.completion_prompt(model, call, completion))
    if not body.prompt and not body.images and not body.suffix:
        return _load(service, call, "generate", lambda: {"response": ""})

    answer = service.complete(call, completion, gone=client_gone())
    return _answer(
        answer,
        lambda piece: convert.generate_chunk(body.model, piece, now_ns=time.time_ns()),
        stream=body.stream,
    )


def _chat(service: Service, body: ChatRequest) -> Response:
    call, chat = from_client(convert.call_of(body), body.options), convert.chat_of(body)
    with_names(service, body.model, missing=RequestError(400, "model is required"))
    if body.debug_render_only:
        model, _ = service.find(call, "chat")
        return _rendered(body.model, service.chat_prompt(model, call, chat))
    if not body.messages:
        return _load(
            service, call, "chat", lambda: {"message": {"role": "assistant", "content": ""}}
        )

    answer = service.chat(call, chat, gone=client_gone())
    return _answer(
        answer,
        lambda piece: convert.chat_chunk(body.model, piece, now_ns=time.time_ns()),
        stream=body.stream,
    )


def with_names(service: Service, name: str, *, missing: RequestError) -> None:
    """Check a model's name before anything else is looked at.

    Raises:
        RequestError: `missing` where it is empty or no name; 404 where the store does not have it.
    """
    try:
        service.library.spec(name)
    except InvalidReference as error:
        if missing.status == 404:
            raise RequestError(404, f"model '{name[:200]}' not found") from error
        raise missing from error
    except ModelNotFound as error:
        raise RequestError(404, f"model '{name}' not found") from error


def _answer(answer: Answer, chunk: Chunk, *, stream: bool) -> Response:
    if not stream:
        try:
            return marked(jsonify(_chunk(answer, answer.collect(), chunk)), answer)
        finally:
            answer.close()

    def items() -> Iterator[dict[str, Any]]:
        for piece in answer:
            if piece.text or piece.thinking or piece.tool_calls or piece.logprobs or piece.finish:
                yield _chunk(answer, piece, chunk)

    return marked(ndjson(items(), fault=_fault, close=answer.close), answer)


def _chunk(answer: Answer, piece: Piece, chunk: Chunk) -> dict[str, Any]:
    out = chunk(piece)
    if piece.usage is not None:
        out |= convert.metrics(
            piece.usage, total_ns=answer.elapsed_ns, load_ns=answer.model.load_ns
        )
        out |= convert.truncation(answer.trimmed, piece.usage)
    return out


def _fault(error: BaseException) -> dict[str, Any]:
    return {"error": failure_of(error).message}


def _load(
    service: Service, call: Call, verb: str, content: Callable[[], dict[str, Any]]
) -> Response:
    """An empty request loads a model, or unloads it where it is not to be kept alive."""
    unload = call.keep_alive_s == 0
    if unload:
        service.unload(call.model)
    else:
        service.load(call, verb, gone=client_gone())
    return jsonify(
        model=call.model,
        created_at=convert.timestamp(time.time_ns()),
        **content(),
        done=True,
        done_reason="unload" if unload else "load",
    )


def _rendered(model: str, prompt: ChatPrompt) -> Response:
    return jsonify(
        model=model,
        created_at=convert.timestamp(time.time_ns()),
        _debug_info={"rendered_template": prompt.text, "image_count": len(prompt.images)},
    )
