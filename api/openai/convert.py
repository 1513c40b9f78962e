"""Between OpenAI's JSON and the service's values. Pure."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic_core import from_json

from pannier.runtime.messages import Message, Think, ToolCall
from pannier.runtime.request import FinishReason, Usage
from pannier.runtime.schema import closed

from ..answer import Piece
from ..errors import RequestError
from ..service import Call, Chat, Completion
from . import schema

_DATA_URL = re.compile(r"data:(?:image/(?:bmp|gif|jpeg|jpg|png|webp))?;base64,(.*)", re.DOTALL)
_FINISH = {FinishReason.STOP: "stop", FinishReason.LENGTH: "length"}
_EFFORTS: Mapping[str, Think] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "ultra": "max",
    "max": "max",
}
# OpenAI's name → the name of the same option in Ollama's set, which the service takes.
_OPTIONS = {
    "max_tokens": "num_predict",
    "seed": "seed",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repeat_penalty": "repeat_penalty",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
}


def options_of(body: schema.ChatRequest | schema.CompletionRequest) -> dict[str, Any]:
    """A request's sampling options; what it leaves out is the model's to say."""
    options: dict[str, Any] = {}
    for name, ours in _OPTIONS.items():
        value = getattr(body, name)
        if value is not None:
            options[ours] = value
    if isinstance(body, schema.ChatRequest) and body.max_completion_tokens is not None:
        options["num_predict"] = body.max_completion_tokens
    if body.stop is not None:
        options["stop"] = [body.stop] if isinstance(body.stop, str) else body.stop
    return options


def chat_of(body: schema.ChatRequest) -> Chat:
    """The conversation of a request.

    Raises:
        RequestError: 400, with the field at fault.
    """
    if not body.messages:
        raise RequestError(400, "[] is too short - 'messages'", param="messages")
    messages = tuple(message for item in body.messages for message in _messages(item))
    return Chat(messages, tuple(checked_tool(tool) for tool in body.tools))


def checked_tool(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool, which must be a function with a name.

    Raises:
        RequestError: 400 for any other.
    """
    kind = tool.get("type", "function")
    if kind != "function":
        raise RequestError(400, f"tool type {str(kind)[:60]!r} is not supported", param="tools")
    function = tool.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    if not (isinstance(name, str) and name):
        raise RequestError(400, "a tool has no function with a name", param="tools")
    return tool


def think_of(body: schema.ChatRequest) -> Think:
    """How much to think; None where the request does not say.

    Raises:
        RequestError: for an unknown effort.
    """
    effort = body.reasoning_effort or (body.reasoning.effort if body.reasoning else None)
    if effort is None:
        return None
    if effort not in _EFFORTS:
        known = ", ".join(_EFFORTS)
        raise RequestError(
            400, f"invalid reasoning effort {effort[:40]!r}: expected one of {known}",
            param="reasoning_effort",
        )  # fmt: skip
    return _EFFORTS[effort]


def call_of(body: schema.ChatRequest, *, keep_alive_s: float | None) -> Call:
    """What is not the conversation itself."""
    if body.top_logprobs and not body.logprobs:
        raise RequestError(400, "top_logprobs needs logprobs to be true", param="top_logprobs")
    return Call(
        model=body.model,
        options=options_of(body),
        keep_alive_s=keep_alive_s,
        think=think_of(body),
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        format=format_of(body.response_format),
        tool_choice=tool_choice_of(body),
        many_calls=body.parallel_tool_calls is not False,
        logit_bias=logit_bias_of(body.logit_bias),
    )


def format_of(form: schema.ResponseFormat | None) -> str | Mapping[str, Any] | None:
    """What the answer must be."""
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return "json"
    if form.json_schema is None or form.json_schema.schema_ is None:
        raise RequestError(400, "json_schema.schema is missing", param="response_format")
    wanted = form.json_schema.schema_
    return closed(wanted) if form.json_schema.strict else wanted


def tool_choice_of(body: schema.ChatRequest) -> str:
    """Which tools may or must be called: `Call.tool_choice`.

    Raises:
        RequestError: for anything else than auto, none, required or a function that is offered.
    """
    choice = body.tool_choice
    if choice is None:
        return "auto"
    if isinstance(choice, str):
        if choice in ("auto", "none") or (choice == "required" and body.tools):
            return choice
        raise RequestError(400, f"invalid tool_choice {choice[:40]!r}", param="tool_choice")
    function = choice.get("function")
    name = function.get("name") if isinstance(function, dict) else choice.get("name")
    offered = [tool.get("function", {}).get("name") for tool in body.tools]
    if not isinstance(name, str) or name not in offered:
        raise RequestError(400, "tool_choice names no tool of this request", param="tool_choice")
    return name


def completion_call_of(body: schema.CompletionRequest, *, keep_alive_s: float | None) -> Call:
    """What is not the prompt itself."""
    return Call(
        model=body.model,
        options=options_of(body),
        keep_alive_s=keep_alive_s,
        logprobs=body.logprobs,
        logit_bias=logit_bias_of(body.logit_bias),
    )


def prompts_of(body: schema.CompletionRequest) -> list[Completion]:
    """Every prompt of a request: texts or token ids go to the model as they are.

    A prompt with a `suffix` is put into the model's own form for filling gaps.
    """
    prompt = body.prompt
    if isinstance(prompt, str):
        return [Completion(prompt, suffix=body.suffix, raw=not body.suffix)]
    if body.suffix:
        raise RequestError(400, "suffix needs a prompt that is one string", param="suffix")
    if all(isinstance(item, int) for item in prompt):
        items: list[Any] = [prompt]
    else:
        items = list(prompt)
    if not prompt:
        raise RequestError(400, "prompt is empty", param="prompt")
    return [
        Completion(item, raw=True)
        if isinstance(item, str)
        else Completion("", raw=True, context=tuple(item))
        for item in items
    ]


def seeded(call: Call, number: int) -> Call:
    """The call for the choice of that number: a seed that is given gives each choice its own."""
    seed = call.options.get("seed")
    if not number or not isinstance(seed, int) or seed < 0:
        return call
    return replace(call, options={**call.options, "seed": seed + number})


def logit_bias_of(bias: Mapping[str, float] | None) -> dict[int, float]:
    """Token id → bias between -100, which forbids a token, and 100, which forces it.

    Raises:
        RequestError: where a key is no token id or a value is out of range.
    """
    values: dict[int, float] = {}
    for key, value in (bias or {}).items():
        if not (key.isascii() and key.isdigit() and len(key) < 10 and -100 <= value <= 100):
            raise RequestError(
                400, "logit_bias maps token ids to numbers from -100 to 100", param="logit_bias"
            )
        values[int(key)] = value
    return values


def _messages(item: schema.Message) -> list[Message]:
    """A message with parts is one message: texts joined, images beside them."""
    parts = item.content if isinstance(item.content, list) else []
    texts = [item.content] if isinstance(item.content, str) else [_part_text(p) for p in parts]
    return [
        Message(
            role="system" if item.role == "developer" else item.role.lower(),
            content="\n".join(text for text in texts if text),
            thinking=item.reasoning or item.reasoning_content,
            images=tuple(_part_image(part) for part in parts if part.type == "image_url"),
            tool_calls=tuple(_tool_call(call, i) for i, call in enumerate(item.tool_calls)),
            tool_name=item.name if item.role == "tool" else "",
            tool_call_id=item.tool_call_id,
        )
    ]


def _part_text(part: schema.ContentPart) -> str:
    if part.type in ("text", "input_text", "output_text"):
        return part.text
    if part.type == "refusal":
        return part.refusal
    if part.type == "image_url":
        return ""
    raise RequestError(
        400, f"invalid message content type: {part.type[:40]}", param="messages.content"
    )


def _part_image(part: schema.ContentPart) -> bytes:
    url = part.image_url.url if isinstance(part.image_url, schema.ImageURL) else part.image_url
    return image_of(url or "")


def image_of(url: str) -> bytes:
    """The image in a `data:` URL; no other URL is ever fetched.

    Raises:
        RequestError: 400 for any other URL.
    """
    match = _DATA_URL.fullmatch(url)
    if match is None:
        raise RequestError(
            400,
            "invalid image: only data: URLs with base64 of jpeg, png, webp, gif or bmp are read",
            param="messages.content.image_url",
        )
    try:
        return base64.b64decode(match[1], validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(400, "invalid image: not base64", param="messages.content") from error


def _tool_call(call: schema.ToolCall, index: int) -> ToolCall:
    return tool_call_of(call.function.name, call.function.arguments, call.id, index)


def tool_call_of(name: str, text: str, call_id: str, index: int) -> ToolCall:
    """A tool call whose arguments are JSON text.

    Raises:
        RequestError: 400 where they are not the text of an object.
    """
    try:
        arguments = from_json(text or "{}")
    except ValueError as error:
        raise RequestError(
            400, "invalid tool call arguments", param="messages.tool_calls"
        ) from error
    if not isinstance(arguments, dict):
        raise RequestError(400, "invalid tool call arguments", param="messages.tool_calls")
    return ToolCall(name, arguments, call_id, index)


def message_of(piece: Piece) -> dict[str, Any]:
    """The message of a whole answer."""
    message: dict[str, Any] = {"role": "assistant", "content": piece.text}
    if piece.thinking:
        message["reasoning"] = piece.thinking
    if piece.tool_calls:
        message["tool_calls"] = [call_json(call) for call in piece.tool_calls]
        message["content"] = piece.text or None
    return message


def deltas_of(piece: Piece) -> list[dict[str, Any]]:
    """The `delta` objects of one piece; thinking and content never share one."""
    deltas: list[dict[str, Any]] = []
    if piece.thinking:
        deltas.append({"content": "", "reasoning": piece.thinking})
    if piece.text:
        deltas.append({"content": piece.text})
    if piece.tool_calls:
        calls = [{"index": call.index, **call_json(call)} for call in piece.tool_calls]
        deltas.append({"content": "", "tool_calls": calls})
    return deltas


def call_json(call: ToolCall) -> dict[str, Any]:
    """A tool call; its arguments are JSON text here."""
    arguments = json.dumps(dict(call.arguments), ensure_ascii=False, separators=(",", ":"))
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }


def finish_of(finish: FinishReason | None, *, called: bool) -> str | None:
    """`finish_reason`; calls of tools replace `stop` only."""
    reason = _FINISH.get(finish) if finish is not None else None
    return "tool_calls" if called and reason == "stop" else reason


def usage_of(usage: Usage) -> dict[str, Any]:
    """Token counts."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def error_body(status: int, message: str, param: str | None = None) -> dict[str, Any]:
    """An error as OpenAI's SDKs read it."""
    kinds = {400: "invalid_request_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "invalid_request_error" if 400 <= status < 500 else "api_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": None}}
