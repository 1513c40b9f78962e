"""The OpenAPI 3.1 document of everything but the registry, made from the request schemas.

The pydantic classes that validate requests are its single source; this module adds which path
takes which of them, and what comes back. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from pydantic.json_schema import models_json_schema

from .anthropic import schema as anthropic
from .ollama import schema as ollama
from .openai import schema as openai
from .openai.responses_schema import ResponsesRequest
from .openai.tokens import DetokenizeRequest, EmbeddingsRequest, RerankRequest, TokenizeRequest
from .wire import Wire

_JSON, _NDJSON, _SSE, _TEXT = (
    "application/json",
    "application/x-ndjson",
    "text/event-stream",
    "text/plain",
)
_BINARY = "application/octet-stream"
_FAILURES = {
    "500": "A fault of the server, or its engine broke down; the body says what.",
    "502": "The registry that had to be asked cannot be reached, or failed.",
    "503": "Too many wait already, or there is no memory for the model; try again later.",
}
_REF = "#/components/schemas/{model}"


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    Attributes:
        body: the schema of the request, or the content type of one without.
        answers: content types of a success; empty where it has no body.
        status: of a success.
    """

    method: str
    path: str
    summary: str
    body: type[Wire] | str | None = None
    answers: tuple[str, ...] = (_JSON,)
    status: int = 200


OPERATIONS: Mapping[str, Sequence[Operation]] = {
    "Ollama": (
        Operation("get", "/", "Is the server there?", answers=(_TEXT,)),
        Operation("get", "/api/version", "The version of the API, and of pannier."),
        Operation("get", "/api/status", "Is there a cloud behind this server? There is none."),
        Operation("post", "/api/generate", "Answer or continue one text; load or unload a model.",
                  ollama.GenerateRequest, (_NDJSON, _JSON)),
        Operation("post", "/api/chat", "Continue a conversation; load or unload a model.",
                  ollama.ChatRequest, (_NDJSON, _JSON)),
        Operation("post", "/api/embed", "Vectors for texts.", ollama.EmbedRequest),
        Operation("post", "/api/embeddings", "A vector for one text, the older form.",
                  ollama.EmbeddingsRequest),
        Operation("get", "/api/tags", "The models that are stored."),
        Operation("get", "/api/ps", "The models that are in memory."),
        Operation("post", "/api/show", "What a model is.", ollama.ShowRequest),
        Operation("post", "/api/create", "Make a model of others, or of uploaded files.",
                  ollama.CreateRequest, (_NDJSON, _JSON)),
        Operation("post", "/api/pull", "Get a model from its registry.", ollama.TransferRequest,
                  (_NDJSON, _JSON)),
        Operation("post", "/api/push", "Send a model to its registry.", ollama.TransferRequest,
                  (_NDJSON, _JSON)),
        Operation("post", "/api/copy", "Give a model a second name.", ollama.CopyRequest, ()),
        Operation("delete", "/api/delete", "Remove a name, and what no other name needs.",
                  ollama.DeleteRequest, ()),
        Operation("head", "/api/blobs/{digest}", "Is this blob stored?", answers=()),
        Operation("post", "/api/blobs/{digest}", "Upload a blob.", _BINARY, (), 201),
    ),
    "OpenAI": (
        Operation("post", "/v1/chat/completions", "Continue a conversation.", openai.ChatRequest,
                  (_JSON, _SSE)),
        Operation("post", "/v1/completions", "Continue texts as they are.",
                  openai.CompletionRequest, (_JSON, _SSE)),
        Operation("post", "/v1/responses", "Answer with items.", ResponsesRequest, (_JSON, _SSE)),
        Operation("post", "/v1/embeddings", "Vectors for texts.", EmbeddingsRequest),
        Operation("post", "/v1/rerank", "Order documents by relevance.", RerankRequest),
        Operation("post", "/v1/tokenize", "The token ids of a text.", TokenizeRequest),
        Operation("post", "/v1/detokenize", "The text of token ids.", DetokenizeRequest),
        Operation("get", "/v1/models", "The models that are stored."),
        Operation("get", "/v1/models/{name}", "One model; slashes may stand in the name."),
    ),
    "Anthropic": (
        Operation("post", "/v1/messages", "Continue a conversation.", anthropic.MessagesRequest,
                  (_JSON, _SSE)),
        Operation("post", "/v1/messages/count_tokens", "How long is a conversation?",
                  anthropic.CountRequest),
    ),
    "This API": (
        Operation("get", "/openapi.json", "This document."),
        Operation("get", "/docs", "This document for people.", answers=("text/html",)),
    ),
}  # fmt: skip


def document() -> dict[str, Any]:
    """The whole document."""
    bodies = [op.body for ops in OPERATIONS.values() for op in ops if isinstance(op.body, type)]
    references, schemas = models_json_schema(
        [(body, "validation") for body in dict.fromkeys(bodies)], ref_template=_REF
    )
    paths: dict[str, dict[str, Any]] = {}
    for tag, operations in OPERATIONS.items():
        for operation in operations:
            reference = references.get((operation.body, "validation"))  # type: ignore[arg-type]  # a text or None finds nothing
            paths.setdefault(operation.path, {})[operation.method] = _operation(
                tag, operation, reference
            )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "pannier",
            "version": version("pannier"),
            "description": "Ollama's, OpenAI's and Anthropic's REST APIs over local models.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": tag} for tag in OPERATIONS],
        "paths": paths,
        "components": {"schemas": {**schemas.get("$defs", {}), **_ERRORS}},
    }


def _operation(tag: str, operation: Operation, body: Mapping[str, Any] | None) -> dict[str, Any]:
    value: dict[str, Any] = {"tags": [tag], "summary": operation.summary}
    if "{" in operation.path:
        name = operation.path.partition("{")[2].rstrip("}")
        value["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        ]
    if isinstance(operation.body, str):
        value["requestBody"] = {"required": True, "content": {operation.body: {}}}
    elif body is not None:
        value["requestBody"] = {"required": True, "content": {_JSON: {"schema": body}}}
    success: dict[str, Any] = {"description": "Done."}
    if operation.answers:
        success["content"] = {kind: {} for kind in operation.answers}
    responses = {str(operation.status): success}
    if operation.status == 201:
        responses["200"] = {"description": "It was there already."}
    if operation.body is not None or "{" in operation.path:
        error = {"$ref": _REF.format(model=f"{_surface(tag)}Error")}
        responses["4XX"] = {
            "description": "Refused; the body says why.",
            "content": {_JSON: {"schema": error}, _TEXT: {}},
        }
        for status, why in _FAILURES.items():
            responses[status] = {"description": why, "content": {_JSON: {"schema": error}}}
    value["responses"] = responses
    return value


def _surface(tag: str) -> str:
    return tag if f"{tag}Error" in _ERRORS else "Ollama"


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


_STRING = {"type": "string"}
_MAYBE = {"type": ["string", "null"]}
_ERRORS = {
    "OllamaError": _object(error=_STRING),
    "OpenAIError": _object(error=_object(message=_STRING, type=_STRING, param=_MAYBE, code=_MAYBE)),
    "AnthropicError": _object(
        type={"const": "error"}, error=_object(type=_STRING, message=_STRING), request_id=_STRING
    ),
}
