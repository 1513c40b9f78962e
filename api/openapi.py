"""The OpenAPI 3.1 document of everything but the registry, made from the request schemas.

The pydantic classes of requests and replies are its single source; this module adds which path
takes and gives which of them, and how it may fail. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from .anthropic import replies as wrote
from .anthropic import schema as anthropic
from .ollama import replies as told
from .ollama import schema as ollama
from .openai import replies as said
from .openai import schema as openai
from .openai.responses_schema import ResponsesRequest
from .openai.tokens import DetokenizeRequest, EmbeddingsRequest, RerankRequest, TokenizeRequest
from .urgency import DEADLINE_HEADER, PRIORITIES, PRIORITY_HEADER
from .wire import Wire

_JSON, _NDJSON, _SSE, _TEXT = (
    "application/json",
    "application/x-ndjson",
    "text/event-stream",
    "text/plain",
)
_BINARY = "application/octet-stream"
_STREAMS = (_NDJSON, _SSE)
_REF = "#/components/schemas/{model}"

# Every status that an operation may end with, beside its success; 405 belongs to other methods.
_FAILURES: Mapping[str, str] = {
    "400": "The request is wrong; the body says what.",
    "401": "The registry wants credentials that this server does not have.",
    "403": "This host, origin or site may not ask (without a body), or a policy refuses the model.",
    "404": "There is no such model, or no such blob.",
    "409": "The model crashed the engine too often and is not tried for a while.",
    "413": "The body is too large.",
    "415": "The body is compressed in a way that is not known here.",
    "429": "The registry wants fewer requests.",
    "500": "A fault of the server, or its engine broke down; the body says what.",
    "502": "The registry that had to be asked cannot be reached, or failed.",
    "503": "Too many wait already, or there is no memory for the model; `Retry-After` says when.",
    "504": "The request's own deadline has passed.",
    "507": "The server has no space left.",
}
_ALWAYS = ("403", "500")
_WITH_BODY = ("400", "413", "415", "503")
_MODEL = ("404", "409", "503", "504")
_STORED = ("404",)
_REGISTRY = ("401", "404", "429", "502", "503", "507")

_Replies = Mapping[str, tuple[type[BaseModel], ...]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    Attributes:
        body: the schema of the request, or the content type of one without.
        replies: content types of a success and what they hold; empty where it has no body. Of a
            stream it is what each line or event holds.
        status: of a success.
        fails: statuses of failures beyond those that every operation has.
    """

    method: str
    path: str
    summary: str
    body: type[Wire] | str | None = None
    replies: _Replies = field(default_factory=dict)
    status: int = 200
    fails: tuple[str, ...] = ()


def _json(*replies: type[BaseModel]) -> _Replies:
    return {_JSON: replies}


_PROGRESS: _Replies = {_NDJSON: (told.Progress,), _JSON: (told.Progress,)}

OPERATIONS: Mapping[str, Sequence[Operation]] = {
    "Ollama": (
        Operation("get", "/", "Is the server there?", replies={_TEXT: ()}),
        Operation("get", "/api/version", "The version of the API, and of pannier.",
                  replies=_json(told.Version)),
        Operation("get", "/api/status", "Is there a cloud behind this server? There is none.",
                  replies=_json(told.Status)),
        Operation("post", "/api/generate", "Answer or continue one text; load or unload a model.",
                  ollama.GenerateRequest,
                  {_NDJSON: (told.GenerateReply,), _JSON: (told.GenerateReply, told.Rendered)},
                  fails=_MODEL),
        Operation("post", "/api/chat", "Continue a conversation; load or unload a model.",
                  ollama.ChatRequest,
                  {_NDJSON: (told.ChatReply,), _JSON: (told.ChatReply, told.Rendered)},
                  fails=_MODEL),
        Operation("post", "/api/embed", "Vectors for texts.", ollama.EmbedRequest,
                  _json(told.EmbedReply), fails=_MODEL),
        Operation("post", "/api/embeddings", "A vector for one text, the older form.",
                  ollama.EmbeddingsRequest, _json(told.EmbeddingsReply), fails=_MODEL),
        Operation("get", "/api/tags", "The models that are stored.", replies=_json(told.Tags)),
        Operation("get", "/api/ps", "The models that are in memory.", replies=_json(told.Ps)),
        Operation("post", "/api/show", "What a model is.", ollama.ShowRequest,
                  _json(told.ShowReply), fails=_STORED),
        Operation("post", "/api/create", "Make a model of others, or of uploaded files.",
                  ollama.CreateRequest, _PROGRESS, fails=_REGISTRY),
        Operation("post", "/api/pull", "Get a model from its registry.", ollama.TransferRequest,
                  _PROGRESS, fails=_REGISTRY),
        Operation("post", "/api/push", "Send a model to its registry.", ollama.TransferRequest,
                  _PROGRESS, fails=_REGISTRY),
        Operation("post", "/api/copy", "Give a model a second name.", ollama.CopyRequest,
                  fails=("404", "507")),
        Operation("delete", "/api/delete", "Remove a name, and what no other name needs.",
                  ollama.DeleteRequest, fails=_STORED),
        Operation("head", "/api/blobs/{digest}", "Is this blob stored?", fails=("400", "404")),
        Operation("post", "/api/blobs/{digest}", "Upload a blob.", _BINARY, status=201,
                  fails=("507",)),
    ),
    "OpenAI": (
        Operation("post", "/v1/chat/completions", "Continue a conversation.", openai.ChatRequest,
                  {_JSON: (said.ChatCompletion,), _SSE: (said.ChatCompletionChunk,)},
                  fails=_MODEL),
        Operation("post", "/v1/completions", "Continue texts as they are.",
                  openai.CompletionRequest,
                  {_JSON: (said.TextCompletion,), _SSE: (said.TextCompletion,)}, fails=_MODEL),
        Operation("post", "/v1/responses", "Answer with items.", ResponsesRequest,
                  {_JSON: (said.ResponseReply,), _SSE: (said.ResponseEvent,)}, fails=_MODEL),
        Operation("post", "/v1/embeddings", "Vectors for texts.", EmbeddingsRequest,
                  _json(said.EmbeddingList), fails=_MODEL),
        Operation("post", "/v1/rerank", "Order documents by relevance.", RerankRequest,
                  _json(said.Ranking), fails=_MODEL),
        Operation("post", "/v1/tokenize", "The token ids of a text.", TokenizeRequest,
                  _json(said.Tokens), fails=_MODEL),
        Operation("post", "/v1/detokenize", "The text of token ids.", DetokenizeRequest,
                  _json(said.Detokenized), fails=_MODEL),
        Operation("get", "/v1/models", "The models that are stored.",
                  replies=_json(said.ModelList)),
        Operation("get", "/v1/models/{name}", "One model; slashes may stand in the name.",
                  replies=_json(said.ModelLine), fails=_STORED),
    ),
    "Anthropic": (
        Operation("post", "/v1/messages", "Continue a conversation.", anthropic.MessagesRequest,
                  {_JSON: (wrote.MessageReply,), _SSE: (wrote.MessageEvent,)}, fails=_MODEL),
        Operation("post", "/v1/messages/count_tokens", "How long is a conversation?",
                  anthropic.CountRequest, _json(wrote.TokenCount), fails=_MODEL),
    ),
    "This API": (
        Operation("get", "/openapi.json", "This document.", replies={_JSON: ()}),
        Operation("get", "/docs", "This document for people.", replies={"text/html": ()}),
    ),
}  # fmt: skip


def document() -> dict[str, Any]:
    """The whole document."""
    every = [operation for operations in OPERATIONS.values() for operation in operations]
    bodies = [op.body for op in every if isinstance(op.body, type)]
    replies = [reply for op in every for kinds in op.replies.values() for reply in kinds]
    references, schemas = models_json_schema(
        [(model, "validation") for model in dict.fromkeys([*bodies, *replies])], ref_template=_REF
    )
    by_model = {model: reference for (model, _), reference in references.items()}
    paths: dict[str, dict[str, Any]] = {}
    for tag, operations in OPERATIONS.items():
        for operation in operations:
            described = _operation(tag, operation, by_model)
            paths.setdefault(operation.path, {})[operation.method] = described
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


def _operation(tag: str, operation: Operation, references: Mapping[Any, Any]) -> dict[str, Any]:
    value: dict[str, Any] = {"tags": [tag], "summary": operation.summary}
    value["parameters"] = list(_parameters(operation))
    if isinstance(operation.body, str):
        value["requestBody"] = {"required": True, "content": {operation.body: {}}}
    elif operation.body is not None:
        schema = references[operation.body]
        value["requestBody"] = {"required": True, "content": {_JSON: {"schema": schema}}}
    error = {"$ref": _REF.format(model=f"{_surface(tag)}Error")}
    success: dict[str, Any] = {"description": "Done."}
    if operation.replies:
        success["content"] = {
            kind: _content([references[model] for model in models], kind, error)
            for kind, models in operation.replies.items()
        }
    responses = {str(operation.status): success}
    if operation.status == 201:
        responses["200"] = {"description": "It was there already."}
    fails = {*_ALWAYS, *operation.fails, *(_WITH_BODY if operation.body is not None else ())}
    for status in sorted(fails):
        content = {_JSON: {"schema": error}}
        responses[status] = {"description": _FAILURES[status], "content": content}
    value["responses"] = responses
    return value


def _parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    if "{" in operation.path:
        name = operation.path.partition("{")[2].rstrip("}")
        yield {"name": name, "in": "path", "required": True, "schema": _STRING}
    if "504" in operation.fails:
        levels = {"type": "string", "enum": list(PRIORITIES)}
        yield {"name": PRIORITY_HEADER, "in": "header", "schema": levels}
        yield {"name": DEADLINE_HEADER, "in": "header", "schema": _STRING}


def _content(schemas: list[Any], kind: str, error: Any) -> dict[str, Any]:
    """What a content type holds; a stream may end with an error."""
    if kind in _STREAMS:
        schemas = [*schemas, error]
    if not schemas:
        return {}
    return {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}


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
