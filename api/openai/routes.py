"""OpenAI's routes: chat/completions, completions, models."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, jsonify

from pannier.pkgmgr.errors import InvalidReference, ModelNotFound

from ..answer import Answer, Piece
from ..errors import Failure, RequestError, failure_of
from ..library import Card
from ..ollama.convert import keep_alive_s
from ..service import Call, Completion, Service
from ..streaming import Item, client_gone, sse, ticking
from ..wire import read_body
from . import convert, schema

FINGERPRINT = "fp_pannier"
DONE = b"data: [DONE]\n\n"
IGNORED_HEADER = "X-Pannier-Ignored"


def blueprint(service: Service) -> Blueprint:
    """The routes over one service."""
    routes = Blueprint("openai", __name__, url_prefix="/v1")

    @routes.post("/chat/completions")
    def chat() -> Response:
        return _chat(service, read_body(schema.ChatRequest))

    @routes.post("/completions")
    def completions() -> Response:
        return _complete(service, read_body(schema.CompletionRequest))

    @routes.get("/models")
    def models() -> Response:
        return jsonify(object="list", data=[_model(card) for card in service.library.cards()])

    @routes.get("/models/<path:name>")
    def model(name: str) -> Response:
        return jsonify(_one_model(service, name.replace("%2F", "/").replace("%2f", "/")))

    return routes


def error_response(failure: Failure) -> Response:
    """An error as OpenAI says it."""
    response = jsonify(convert.error_body(failure.status, failure.message, failure.param))
    response.status_code = failure.status
    return response


@dataclass(frozen=True, slots=True)
class _Frame:
    """What all chunks of one answer share."""

    id: str
    object: str
    created: int
    model: str

    @classmethod
    def new(cls, prefix: str, object_: str, model: str) -> _Frame:
        return cls(f"{prefix}-{secrets.token_hex(12)}", object_, int(time.time()), model)

    def wrap(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": self.object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
            **more,
        }


def _chat(service: Service, body: schema.ChatRequest) -> Response:
    call = convert.call_of(body, keep_alive_s=keep_alive_s(body.keep_alive))
    chat = convert.chat_of(body)
    _refuse(body)
    answer = _started(body.model, lambda: service.chat(call, chat, gone=client_gone()))
    usage = body.stream_options is not None and body.stream_options.include_usage
    if body.stream:
        frame = _Frame.new("chatcmpl", "chat.completion.chunk", body.model)
        items = _chat_chunks(answer, frame, include_usage=usage)
        return _warned(body.ignored, sse(items, fault=_fault, close=answer.close, end=DONE))
    frame = _Frame.new("chatcmpl", "chat.completion", body.model)
    return _warned(body.ignored, jsonify(_whole(answer, frame, convert.message_of, "message")))


def _complete(service: Service, body: schema.CompletionRequest) -> Response:
    _refuse(body)
    if not isinstance(body.prompt, str):
        raise RequestError(400, "prompt must be one string", param="prompt")
    call = Call(
        model=body.model,
        options=convert.options_of(body),
        keep_alive_s=keep_alive_s(body.keep_alive),
    )
    completion = Completion(body.prompt, suffix=body.suffix, raw=not body.suffix)
    answer = _started(body.model, lambda: service.complete(call, completion, gone=client_gone()))
    frame = _Frame.new("cmpl", "text_completion", body.model)
    usage = body.stream_options is not None and body.stream_options.include_usage
    if body.stream:
        items = _text_chunks(answer, frame, include_usage=usage)
        return _warned(body.ignored, sse(items, fault=_fault, close=answer.close, end=DONE))
    return _warned(body.ignored, jsonify(_whole(answer, frame, lambda piece: piece.text, "text")))


def _refuse(body: schema.ChatRequest | schema.CompletionRequest) -> None:
    """Say no to what is known and not done, rather than answer as if nothing had been asked."""
    for name in ("n", "logprobs", "logit_bias", "echo", "best_of", "tool_choice"):
        value = getattr(body, name, None)
        if value not in (None, False, 1, "auto", {}):
            raise RequestError(400, f"{name} is not supported", param=name)
    form = getattr(body, "response_format", None)
    if form is not None and form.type != "text":
        raise RequestError(400, "response_format is not supported", param="response_format")


def _started(name: str, start: Callable[[], Answer]) -> Answer:
    try:
        return start()
    except (ModelNotFound, InvalidReference) as error:
        raise RequestError(404, f"model '{name[:200]}' not found", param="model") from error


def _whole(
    answer: Answer, frame: _Frame, content: Callable[[Piece], Any], key: str
) -> dict[str, Any]:
    try:
        piece = answer.collect()
    finally:
        answer.close()
    assert piece.usage is not None
    finish = convert.finish_of(piece.finish, called=bool(piece.tool_calls))
    choice = {"index": 0, key: content(piece), "logprobs": None, "finish_reason": finish}
    return frame.wrap([choice], usage=convert.usage_of(piece.usage))


def _chat_chunks(answer: Answer, frame: _Frame, *, include_usage: bool) -> Iterator[Item]:
    called = began = False
    for piece in ticking(answer):
        if piece is None:
            yield None
            continue
        deltas = convert.deltas_of(piece)
        called = called or bool(piece.tool_calls)
        if not began:
            began = True
            deltas = deltas or [{"content": ""}]
            deltas[0] = {"role": "assistant", **deltas[0]}
        for delta in deltas:
            yield frame.wrap([_choice({"delta": delta}, None)])
        if piece.finish is not None:
            yield frame.wrap(
                [_choice({"delta": {}}, convert.finish_of(piece.finish, called=called))]
            )
            if include_usage and piece.usage is not None:
                yield frame.wrap([], usage=convert.usage_of(piece.usage))


def _text_chunks(answer: Answer, frame: _Frame, *, include_usage: bool) -> Iterator[Item]:
    for piece in ticking(answer):
        if piece is None:
            yield None
            continue
        if piece.text:
            yield frame.wrap([_choice({"text": piece.text}, None)])
        if piece.finish is not None:
            reason = convert.finish_of(piece.finish, called=False)
            yield frame.wrap([_choice({"text": ""}, reason)])
            if include_usage and piece.usage is not None:
                yield frame.wrap([], usage=convert.usage_of(piece.usage))


def _choice(content: Mapping[str, Any], finish: str | None) -> dict[str, Any]:
    return {"index": 0, **content, "logprobs": None, "finish_reason": finish}


def _fault(error: BaseException) -> dict[str, Any]:
    failure = failure_of(error)
    return convert.error_body(failure.status, failure.message, failure.param)


def _warned(ignored: tuple[str, ...], response: Response) -> Response:
    """Name the fields that had no effect; header values hold printable ASCII only."""
    names = [name for name in ignored if name.isascii() and name.isidentifier()][:32]
    if names:
        response.headers[IGNORED_HEADER] = ", ".join(names)
    return response


def _model(card: Card) -> dict[str, Any]:
    first = card.reference.repository.partition("/")[0]
    return {
        "id": card.reference.familiar,
        "object": "model",
        "created": int(card.modified),
        "owned_by": first,
    }


def _one_model(service: Service, name: str) -> dict[str, Any]:
    try:
        wanted = service.library.spec(name)[0].reference
    except (ModelNotFound, InvalidReference) as error:
        raise RequestError(404, f"model '{name[:200]}' not found", param="model") from error
    card = next(card for card in service.library.cards() if card.reference == wanted)
    return {**_model(card), "id": name}
