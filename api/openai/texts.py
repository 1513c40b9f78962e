"""Answers to chat/completions and completions: whole or in chunks, one choice or several."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from flask import Response, jsonify

from pannier.pkgmgr.errors import InvalidReference, ModelNotFound
from pannier.runtime.request import TokenLogprob, Usage

from ..answer import Answer, Piece
from ..errors import RequestError, failure_of
from ..ollama.convert import MIN_LOGPROB, keep_alive_s, logprob_json
from ..service import Completion, Service
from ..streaming import Item, client_gone, from_client, marked, merged, sse
from . import convert, schema

FINGERPRINT = "fp_pannier"
DONE = b"data: [DONE]\n\n"
_MAX_CHOICES = 64


@dataclass(frozen=True, slots=True)
class _Frame:
    """What all chunks of one answer share."""

    id: str
    object: str
    created: int
    model: str
    has_usage: bool = False

    @classmethod
    def new(cls, prefix: str, object_: str, model: str, *, has_usage: bool = False) -> _Frame:
        """With `has_usage` every chunk has a place for it, null in all but the last."""
        name = f"{prefix}-{secrets.token_hex(12)}"
        return cls(name, object_, int(time.time()), model, has_usage)

    def wrap(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": self.object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
            **({"usage": None} if self.has_usage else {}),
            **more,
        }


def chat(service: Service, body: schema.ChatRequest) -> Response:
    """POST /v1/chat/completions."""
    chat = convert.chat_of(body)
    call = convert.call_of(body, keep_alive_s=keep_alive_s(body.keep_alive))
    call = from_client(call, vars(body))
    gone = client_gone()
    calls = [convert.seeded(call, number) for number in range(body.n)]
    answers = started(body.model, [partial(service.chat, one, chat, gone=gone) for one in calls])
    if body.stream:
        frame = _Frame.new(
            "chatcmpl", "chat.completion.chunk", body.model, has_usage=_wants_usage(body)
        )
        return _streamed(answers, _chat_chunks(answers, frame, include_usage=_wants_usage(body)))
    frame = _Frame.new("chatcmpl", "chat.completion", body.model)
    return _whole(answers, frame, _chat_choice)


def complete(service: Service, body: schema.CompletionRequest) -> Response:
    """POST /v1/completions."""
    if body.best_of not in (None, body.n):
        raise RequestError(400, "best_of must be equal to n", param="best_of")
    prompts = convert.prompts_of(body)
    if len(prompts) * body.n > _MAX_CHOICES:
        raise RequestError(400, f"more than {_MAX_CHOICES} choices", param="prompt")
    call = convert.completion_call_of(body, keep_alive_s=keep_alive_s(body.keep_alive))
    call = from_client(call, vars(body))
    gone = client_gone()
    starts = [
        partial(service.complete, convert.seeded(call, number), prompt, gone=gone)
        for prompt in prompts
        for number in range(body.n)
    ]
    echoes = [_echo(service, body, prompt) for prompt in prompts for _ in range(body.n)]
    answers = started(body.model, starts)
    has_usage = body.stream and _wants_usage(body)
    frame = _Frame.new("cmpl", "text_completion", body.model, has_usage=has_usage)
    if body.stream:
        chunks = _text_chunks(answers, frame, echoes, include_usage=_wants_usage(body))
        return _streamed(answers, chunks)
    return _whole(answers, frame, lambda i, piece: _text_choice(i, piece, echoes[i]))


def started(name: str, starts: Sequence[Callable[[], Answer]]) -> list[Answer]:
    """Start several answers, all or none.

    Raises:
        RequestError: 404 where there is no such model; else what starting raises.
    """
    answers: list[Answer] = []
    try:
        for start in starts:
            answers.append(start())
    except BaseException as error:
        for answer in answers:
            answer.close()
        if isinstance(error, ModelNotFound | InvalidReference):
            raise RequestError(404, f"model '{name[:200]}' not found", param="model") from error
        raise
    return answers


def fault(error: BaseException) -> dict[str, Any]:
    """An error in the middle of a stream."""
    failure = failure_of(error)
    return convert.error_body(failure.status, failure.message, failure.param)


def _wants_usage(body: schema.ChatRequest | schema.CompletionRequest) -> bool:
    return body.stream_options is not None and body.stream_options.include_usage


def _echo(service: Service, body: schema.CompletionRequest, prompt: Completion) -> str:
    if not body.echo:
        return ""
    if prompt.context:
        source = service.library.find(body.model).source
        return service.runtime.detokenize(source, list(prompt.context))
    return prompt.prompt


def _streamed(answers: list[Answer], items: Iterator[Item]) -> Response:
    def close() -> None:
        for answer in answers:
            answer.close()

    return marked(sse(items, fault=fault, close=close, end=DONE), *answers)


def _whole(
    answers: list[Answer], frame: _Frame, choice: Callable[[int, Piece], dict[str, Any]]
) -> Response:
    try:
        pieces = [answer.collect() for answer in answers]
    finally:
        for answer in answers:
            answer.close()
    choices = [choice(number, piece) for number, piece in enumerate(pieces)]
    body = frame.wrap(choices, usage=_total([piece.usage for piece in pieces]))
    return marked(jsonify(body), *answers)


def _total(usages: Sequence[Usage | None]) -> dict[str, Any]:
    """Usage of all choices; a prompt that several choices share counts once per choice's start."""
    known = [usage for usage in usages if usage is not None]
    return convert.usage_of(
        Usage(
            prompt_tokens=max((usage.prompt_tokens for usage in known), default=0),
            cached_tokens=min((usage.cached_tokens for usage in known), default=0),
            completion_tokens=sum(usage.completion_tokens for usage in known),
        )
    )


def _chat_choice(number: int, piece: Piece) -> dict[str, Any]:
    finish = convert.finish_of(piece.finish, called=bool(piece.tool_calls))
    return {
        "index": number,
        "message": convert.message_of(piece),
        "logprobs": _chat_logprobs(piece),
        "finish_reason": finish,
    }


def _text_choice(number: int, piece: Piece, echo: str) -> dict[str, Any]:
    return {
        "index": number,
        "text": echo + piece.text,
        "logprobs": _text_logprobs(piece.logprobs, len(echo)),
        "finish_reason": convert.finish_of(piece.finish, called=False),
    }


def _chat_chunks(answers: list[Answer], frame: _Frame, *, include_usage: bool) -> Iterator[Item]:
    begun: set[int] = set()
    called: set[int] = set()
    usages: list[Usage | None] = []
    for item in merged(answers):
        if item is None:
            yield None
            continue
        number, piece = item
        deltas = convert.deltas_of(piece)
        if number not in begun:
            begun.add(number)
            deltas = deltas or [{"content": ""}]
            deltas[0] = {"role": "assistant", **deltas[0]}
        if piece.tool_calls:
            called.add(number)
        logprobs = _chat_logprobs(piece)
        for delta in deltas or ([{"content": ""}] if logprobs else []):
            yield frame.wrap([_chunk(number, {"delta": delta}, logprobs, None)])
            logprobs = None
        if piece.finish is not None:
            finish = convert.finish_of(piece.finish, called=number in called)
            yield frame.wrap([_chunk(number, {"delta": {}}, None, finish)])
            usages.append(piece.usage)
    if include_usage:
        yield frame.wrap([], usage=_total(usages))


def _text_chunks(
    answers: list[Answer], frame: _Frame, echoes: list[str], *, include_usage: bool
) -> Iterator[Item]:
    usages: list[Usage | None] = []
    for number, echo in enumerate(echoes):
        if echo:
            yield frame.wrap([_chunk(number, {"text": echo}, None, None)])
    for item in merged(answers):
        if item is None:
            yield None
            continue
        number, piece = item
        logprobs = _text_logprobs(piece.logprobs, 0)
        if piece.text or logprobs:
            yield frame.wrap([_chunk(number, {"text": piece.text}, logprobs, None)])
        if piece.finish is not None:
            reason = convert.finish_of(piece.finish, called=False)
            yield frame.wrap([_chunk(number, {"text": ""}, None, reason)])
            usages.append(piece.usage)
    if include_usage:
        yield frame.wrap([], usage=_total(usages))


def _chunk(
    number: int, content: dict[str, Any], logprobs: dict[str, Any] | None, finish: str | None
) -> dict[str, Any]:
    return {"index": number, **content, "logprobs": logprobs, "finish_reason": finish}


def _chat_logprobs(piece: Piece) -> dict[str, Any] | None:
    if not piece.logprobs:
        return None
    return {"content": [logprob_json(token) for token in piece.logprobs], "refusal": None}


def _text_logprobs(tokens: Sequence[TokenLogprob], offset: int) -> dict[str, Any] | None:
    if not tokens:
        return None
    texts = [token.data.decode("utf-8", "replace") for token in tokens]
    offsets = [offset]
    for text in texts[:-1]:
        offsets.append(offsets[-1] + len(text))
    return {
        "tokens": texts,
        "token_logprobs": [max(token.logprob, MIN_LOGPROB) for token in tokens],
        "top_logprobs": [
            {
                top.data.decode("utf-8", "replace"): max(top.logprob, MIN_LOGPROB)
                for top in token.top
            }
            for token in tokens
        ],
        "text_offset": offsets,
    }
