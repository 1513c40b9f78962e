"""Anthropic's routes: messages, whole or as events, and count_tokens."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from flask import Blueprint, Response, g, jsonify

from pannier.pkgmgr.errors import InvalidReference, ModelNotFound

from ..answer import Answer, Piece
from ..errors import Failure, RequestError, failure_of
from ..library import StoredModel
from ..service import Call, Service
from ..streaming import Item, client_gone, from_client, marked, sse, ticking
from ..wire import read_body, warned
from . import convert, schema


def blueprint(service: Service) -> Blueprint:
    """The routes over one service."""
    routes = Blueprint("anthropic", __name__, url_prefix="/v1/messages")

    @routes.post("")
    def messages() -> Response:
        body = read_body(schema.MessagesRequest)
        return warned(body.ignored, _messages(service, body))

    @routes.post("/count_tokens")
    def count_tokens() -> Response:
        body = read_body(schema.CountRequest)
        return warned(body.ignored, _count(service, body))

    return routes


def error_response(failure: Failure) -> Response:
    """An error as Anthropic says it."""
    response = jsonify(convert.error_body(failure.status, failure.message, g.get("request_id", "")))
    response.status_code = failure.status
    return response


def _find(service: Service, name: str) -> StoredModel:
    try:
        return service.library.find(name)
    except (ModelNotFound, InvalidReference) as error:
        raise RequestError(404, f"model '{name[:200]}' not found") from error


def _count(service: Service, body: schema.CountRequest) -> Response:
    model = _find(service, body.model)
    think, choice = convert.think_of(body), convert.tool_choice_of(body)
    can_think = "thinking" in model.prompts.capabilities
    call = Call(body.model, think=think if can_think else None, tool_choice=choice)
    prompt = service.chat_prompt(model, call, convert.chat_of(body))
    return jsonify(input_tokens=service.count_tokens(model, prompt))


def _messages(service: Service, body: schema.MessagesRequest) -> Response:
    chat = convert.chat_of(body)
    thinks = "thinking" in _find(service, body.model).prompts.capabilities
    call = from_client(convert.call_of(body, thinks=thinks), vars(body))
    answer = service.chat(call, chat, gone=client_gone())
    message = {
        "id": f"msg_{secrets.token_hex(12)}",
        "type": "message",
        "role": "assistant",
        "model": body.model,
    }
    if body.stream:
        request_id = g.request_id
        response = sse(
            _events(answer, body, message),
            fault=lambda error: _fault(error, request_id),
            close=answer.close,
        )
        return marked(response, answer)
    try:
        piece = answer.collect()
    finally:
        answer.close()
    response = jsonify(
        message
        | {"content": convert.blocks_of(piece)}
        | convert.stop_of(piece, body, called=bool(piece.tool_calls))
        | {"usage": convert.usage_of(piece.usage)}
    )
    return marked(response, answer)


def _fault(error: BaseException, request_id: str) -> Item:
    failure = failure_of(error)
    return ("error", convert.error_body(failure.status, failure.message, request_id))


def _events(
    answer: Answer, body: schema.MessagesRequest, message: dict[str, Any]
) -> Iterator[Item]:
    blocks = _Blocks()
    began = False
    for piece in ticking(answer):
        if piece is None:
            yield _event("ping") if began else None
            continue
        if not began:
            began = True
            yield _event("message_start", message=message | _EMPTY | _usage_of_prompt(answer))
        yield from blocks.add(piece)
        if piece.finish is not None:
            yield from blocks.end()
            stop = convert.stop_of(piece, body, called=blocks.called)
            yield _event("message_delta", delta=stop, usage=convert.usage_of(piece.usage))
            yield _event("message_stop")


_EMPTY: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None}


def _usage_of_prompt(answer: Answer) -> dict[str, Any]:
    return {"usage": convert.usage_of(replace(answer.usage, completion_tokens=0))}


def _event(name: str, **fields: Any) -> Item:
    return (name, {"type": name, **fields})


class _Blocks:
    """The content blocks of one stream: at most one is open, each has its index."""

    def __init__(self) -> None:
        self._index = -1
        self._open: str | None = None
        self.called = False

    def add(self, piece: Piece) -> Iterator[Item]:
        """The events of one piece."""
        if piece.thinking:
            yield from self._begin("thinking", {"thinking": "", "signature": ""})
            yield self._delta({"type": "thinking_delta", "thinking": piece.thinking})
        if piece.text:
            yield from self._begin("text", {"text": ""})
            yield self._delta({"type": "text_delta", "text": piece.text})
        for call in piece.tool_calls:
            self.called = True
            if self._open is not None:
                yield from self.end()
            yield from self._begin("tool_use", convert.tool_use_of(call))
            text = json.dumps(dict(call.arguments), ensure_ascii=False)
            yield self._delta({"type": "input_json_delta", "partial_json": text})
            yield from self.end()

    def end(self) -> Iterator[Item]:
        """Close the open block; an answer without any content has one empty text."""
        if self._index < 0:
            yield from self._begin("text", {"text": ""})
        if self._open is not None:
            self._open = None
            yield _event("content_block_stop", index=self._index)

    def _begin(self, kind: str, content: dict[str, Any]) -> Iterator[Item]:
        if self._open == kind:
            return
        if self._open is not None:
            yield from self.end()
        self._index += 1
        self._open = kind
        block = {"type": kind, **content}
        yield _event("content_block_start", index=self._index, content_block=block)

    def _delta(self, delta: dict[str, Any]) -> Item:
        return _event("content_block_delta", index=self._index, delta=delta)
