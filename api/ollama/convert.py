"""Between Ollama's JSON and the service's values. Pure; the shapes are its `api/types.go`."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, cast

from pannier.runtime.interface import FOREVER, LoadedModel
from pannier.runtime.messages import Message, Think, ToolCall
from pannier.runtime.request import FinishReason, TokenLogprob, Usage
from pannier.runtime.trimming import Trimmed

from ..answer import Piece
from ..durations import seconds_of
from ..errors import RequestError
from ..service import Call, Chat, Completion
from .schema import ChatMessage, ChatRequest, GenerateRequest

# JSON has no infinity; OpenAI shows this number for a token that was all but impossible.
MIN_LOGPROB = -9999.0
_THINK = ("high", "medium", "low", "max")
_FINISH = {FinishReason.STOP: "stop", FinishReason.LENGTH: "length"}


def keep_alive_s(value: Any) -> float | None:
    """Seconds that a `keep_alive` asks for; None where it is absent.

    >>> keep_alive_s("1h30m"), keep_alive_s(-1) == FOREVER, keep_alive_s(0)
    (5400.0, True, 0.0)

    Raises:
        RequestError: in Go's words, for anything that is neither a number nor a duration.
    """
    if value is None:
        return None
    seconds = seconds_of(value, "keep_alive")
    return FOREVER if seconds < 0 else seconds


def think_of(value: bool | str | None) -> Think:
    """A `think` value.

    Raises:
        RequestError: in Ollama's words.
    """
    if value is None or isinstance(value, bool):
        return value
    if value not in _THINK:
        raise RequestError(
            400,
            f'invalid think value: "{value[:80]}" (must be "high", "medium", "low", "max", true,'
            " or false)",
            param="think",
        )
    return cast(Think, value)  # one of _THINK


def format_of(value: Any) -> str | dict[str, Any] | None:
    """What the answer must be; an empty text is no wish.

    Raises:
        RequestError: in Ollama's words.
    """
    if value in (None, ""):
        return None
    if value == "json" or isinstance(value, dict):
        return cast("str | dict[str, Any]", value)
    # Go quotes the JSON that it could not use.
    shown = json.dumps(json.dumps(value, ensure_ascii=False)[:200], ensure_ascii=False)
    raise RequestError(
        400,
        f'invalid format: {shown}; expected "json" or a valid JSON Schema object',
        param="format",
    )


def call_of(body: ChatRequest | GenerateRequest) -> Call:
    """What is common to both ways to ask."""
    if not 0 <= body.top_logprobs <= 20:
        raise RequestError(400, "top_logprobs must be between 0 and 20", param="top_logprobs")
    return Call(
        model=body.model,
        options=body.options,
        keep_alive_s=keep_alive_s(body.keep_alive),
        truncate=body.truncate,
        shift=body.shift,
        logprobs=body.top_logprobs if body.logprobs else None,
        think=think_of(body.think),
        thinking_budget=body.thinking_budget,
        format=format_of(body.format),
    )


def chat_of(body: ChatRequest) -> Chat:
    """The conversation of a chat request."""
    return Chat(tuple(_message(message) for message in body.messages), tuple(body.tools))


def completion_of(body: GenerateRequest) -> Completion:
    """The text of a generate request."""
    if body.raw and (body.template or body.system or body.context):
        raise RequestError(400, "raw mode does not support template, system, or context")
    return Completion(
        prompt=body.prompt,
        system=body.system or None,
        suffix=body.suffix,
        template=body.template or None,
        images=tuple(_image(image) for image in body.images),
        raw=body.raw,
        context=tuple(body.context),
    )


def _message(message: ChatMessage) -> Message:
    return Message(
        role=message.role.lower(),
        content=message.content,
        thinking=message.thinking,
        images=tuple(_image(image) for image in message.images),
        tool_calls=tuple(
            ToolCall(call.function.name, call.function.arguments, call.id, call.function.index)
            for call in message.tool_calls
        ),
        tool_name=message.tool_name,
        tool_call_id=message.tool_call_id,
    )


def _image(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(400, "invalid image data: not base64", param="images") from error


def chat_chunk(model: str, piece: Piece, *, now_ns: int) -> dict[str, Any]:
    """One object of an answer to /api/chat, without the metrics of the last one."""
    message: dict[str, Any] = {"role": "assistant", "content": piece.text}
    if piece.thinking:
        message["thinking"] = piece.thinking
    if piece.tool_calls:
        message["tool_calls"] = [_tool_call(call) for call in piece.tool_calls]
    chunk = {"model": model, "created_at": timestamp(now_ns), "message": message, **_done(piece)}
    return chunk | _logprobs(piece)


def generate_chunk(model: str, piece: Piece, *, now_ns: int) -> dict[str, Any]:
    """One object of an answer to /api/generate, without the metrics of the last one."""
    chunk: dict[str, Any] = {
        "model": model,
        "created_at": timestamp(now_ns),
        "response": piece.text,
    }
    if piece.thinking:
        chunk["thinking"] = piece.thinking
    chunk |= _done(piece)
    if piece.context:
        chunk["context"] = list(piece.context)
    if piece.tool_calls:
        chunk["tool_calls"] = [_tool_call(call) for call in piece.tool_calls]
    return chunk | _logprobs(piece)


def _logprobs(piece: Piece) -> dict[str, Any]:
    return {"logprobs": [logprob_json(token) for token in piece.logprobs]} if piece.logprobs else {}


def logprob_json(token: TokenLogprob, *, is_top: bool = False) -> dict[str, Any]:
    """How likely a token was; OpenAI's shape is the same."""
    value: dict[str, Any] = {
        "token": token.data.decode("utf-8", "replace"),
        "logprob": max(token.logprob, MIN_LOGPROB),
        "bytes": list(token.data),
    }
    if not is_top:
        value["top_logprobs"] = [logprob_json(top, is_top=True) for top in token.top]
    return value


def _done(piece: Piece) -> dict[str, Any]:
    if piece.finish is None:
        return {"done": False}
    reason = _FINISH.get(piece.finish)
    return {"done": True, "done_reason": reason} if reason else {"done": True}


def _tool_call(call: ToolCall) -> dict[str, Any]:
    function = {"index": call.index, "name": call.name, "arguments": dict(call.arguments)}
    return {"id": call.id, "function": function} if call.id else {"function": function}


def truncation(trimmed: Trimmed | None, usage: Usage) -> dict[str, Any]:
    """What the context was too small for: messages left out, and tokens; empty for nothing."""
    messages = trimmed.messages if trimmed else 0
    tokens = usage.truncated_tokens + (trimmed.tokens if trimmed else 0)
    return {"truncated": {"messages": messages, "tokens": tokens}} if messages or tokens else {}


def metrics(usage: Usage, *, total_ns: int, load_ns: int) -> dict[str, int]:
    """Counts and durations of the last object; zeros are left out, as Go does."""
    values = {
        "total_duration": total_ns,
        "load_duration": load_ns,
        "prompt_eval_count": usage.prompt_tokens,
        "prompt_eval_duration": usage.prompt_ns,
        "eval_count": usage.completion_tokens,
        "eval_duration": usage.decode_ns,
    }
    return {name: value for name, value in values.items() if value}


def timestamp(now_ns: int) -> str:
    """A moment in nanoseconds since the epoch as RFC 3339 with nanoseconds, UTC.

    >>> timestamp(1_500_000_000_000_000_001)
    '2017-07-14T02:40:00.000000001Z'
    """
    seconds, nanoseconds = divmod(now_ns, 1_000_000_000)
    return f"{_second(seconds)}.{nanoseconds:09d}Z"


@lru_cache(maxsize=1)
def _second(seconds: int) -> str:
    """Every token of a stream has its moment; most have the last one's second."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def local_time(seconds: float) -> str:
    """A moment in seconds since the epoch as RFC 3339 with the local offset, as Go prints it."""
    moment = datetime.fromtimestamp(seconds, UTC).astimezone()
    return moment.isoformat(timespec="microseconds")


def details_of(details: Mapping[str, Any]) -> dict[str, Any]:
    """Ollama's `details`; every key is there, as clients expect."""
    families = details.get("families")
    family = str(details.get("family") or "")
    return {
        "parent_model": str(details.get("parent_model") or ""),
        "format": str(details.get("format") or "gguf"),
        "family": family,
        "families": list(families) if families else ([family] if family else None),
        "parameter_size": str(details.get("parameter_size") or ""),
        "quantization_level": str(details.get("quantization_level") or ""),
    }


def loaded_line(
    model: LoadedModel, *, name: str, digest: str, details: Mapping[str, Any]
) -> dict[str, Any]:
    """One model of /api/ps; what never expires gets a time far away, as in Go."""
    expires = model.expires_at if model.expires_at is not None else _NEVER_S
    return {
        "name": name,
        "model": name,
        "size": model.info.size,
        "digest": digest,
        "details": details_of(details),
        "expires_at": local_time(expires),
        "size_vram": model.info.size_vram,
        "context_length": model.info.context_length,
        "stats": model.stats.record(),
        **({"advice": model.advice} if model.advice else {}),
    }


_NEVER_S = 10_992_000_000.0


def parameter_lines(params: Mapping[str, Any]) -> str:
    """`parameters` of /api/show: a name in 30 columns and a value in Go's syntax, a line each."""
    lines = []
    for name, value in params.items():
        values = value if isinstance(value, list | tuple) else [value]
        lines += [f"{name:<30} {_go_value(item)}" for item in values]
    return "\n".join(lines)


def _go_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float):
        return f"{value:g}" if abs(value) < 1e21 else repr(value)
    return str(value)


def model_info(
    metadata: Mapping[str, Any], *, num_parameters: int, verbose: bool
) -> dict[str, Any]:
    """`model_info` of /api/show: GGUF metadata; without `verbose` every array is null."""
    hidden = ("general.name", "tokenizer.chat_template")
    info = {
        key: _info_value(value, verbose)
        for key, value in sorted(metadata.items())
        if key not in hidden
    }
    return {**info, "general.parameter_count": num_parameters}


def _info_value(value: Any, verbose: bool) -> Any:
    if isinstance(value, str | int | float | bool):
        return value
    if verbose and isinstance(value, Sequence):
        return list(value)
    return None if not isinstance(value, Sequence) or value else []
