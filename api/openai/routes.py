"""OpenAI's routes."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify

from pannier.pkgmgr.errors import InvalidReference, ModelNotFound

from ..cards import Card
from ..errors import Failure, RequestError
from ..service import Service
from ..wire import read_body, warned
from . import convert, responses, schema, texts, tokens
from .responses_schema import ResponsesRequest


def blueprint(service: Service) -> Blueprint:
    """The routes over one service."""
    routes = Blueprint("openai", __name__, url_prefix="/v1")

    @routes.post("/chat/completions")
    def chat() -> Response:
        body = read_body(schema.ChatRequest)
        return warned(body.ignored, texts.chat(service, body))

    @routes.post("/completions")
    def completions() -> Response:
        body = read_body(schema.CompletionRequest)
        return warned(body.ignored, texts.complete(service, body))

    @routes.post("/responses")
    def respond() -> Response:
        body = read_body(ResponsesRequest)
        return warned(body.ignored, responses.respond(service, body))

    @routes.get("/models")
    def models() -> Response:
        return jsonify(object="list", data=[_model(card) for card in service.library.cards()])

    @routes.get("/models/<path:name>")
    def model(name: str) -> Response:
        return jsonify(_one_model(service, name.replace("%2F", "/").replace("%2f", "/")))

    tokens.add_routes(routes, service)
    return routes


def error_response(failure: Failure) -> Response:
    """An error as OpenAI says it."""
    response = jsonify(convert.error_body(failure.status, failure.message, failure.param))
    response.status_code = failure.status
    return response


def _model(card: Card) -> dict[str, Any]:
    return {
        "id": card.reference.familiar,
        "object": "model",
        "created": int(card.entry.modified),
        "owned_by": card.reference.repository.partition("/")[0],
    }


def _one_model(service: Service, name: str) -> dict[str, Any]:
    try:
        wanted = service.library.spec(name)[0].reference
    except (ModelNotFound, InvalidReference) as error:
        raise RequestError(404, f"model '{name[:200]}' not found", param="model") from error
    card = next(card for card in service.library.cards() if card.reference == wanted)
    return {**_model(card), "id": name}
