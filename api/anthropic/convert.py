"""Between Anthropic's JSON and the service's values. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pannier.runtime.messages import Message, Think, ToolCall
from pannier.runtime.request import FinishReason, Usage

from ..answer import Piece
from ..errors import RequestError
from ..service import Call, Chat
from . import schema

_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_EFFORTS: Mapping[str, Think] = {
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "max": "max",
}
# Blocks of turns that other servers made and that say nothing to a local model.
_SILENT = ("redacted_thinking", "server_tool_use", "web_search_tool_result")
_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def chat_of(body: schema.CountRequest) -> Chat:
    """The conversation of a request.

    Raises:
        RequestError: 400, for blocks that a local model cannot be given.
    """
    messages: list[Message] = []
    system = _texts(body.system)
    if system:
        messages.append(Message("system", system))
    names: dict[str, str] = {}
    for turn in body.messages:
        messages += _turn(turn, names)
    return Chat(tuple(messages), tuple(_tool(tool) for tool in body.tools))


def call_of(body: schema.MessagesRequest, *, thinks: bool) -> Call:
    """What is not the conversation itself.

    Args:
        body: the request.
        thinks: whether the model can; one that cannot is not asked to.
    """
    if body.max_tokens <= 0:
        raise RequestError(400, "max_tokens is required and must be positive", param="max_tokens")
    if not body.messages:
        raise RequestError(400, "messages is required", param="messages")
    wanted = {
        "num_predict": body.max_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
        "stop": body.stop_sequences or None,
    }
    form = body.output_config.format if body.output_config else None
    think = think_of(body)
    return Call(
        model=body.model,
        options={name: value for name, value in wanted.items() if value is not None},
        think=think if thinks else None,
        thinking_budget=body.thinking.budget_tokens if thinks and body.thinking else None,
        tool_choice=tool_choice_of(body),
        many_calls=not body.tool_choice.disable_parallel_tool_use,
        format=form.schema_ if form else None,
    )


def think_of(body: schema.CountRequest) -> Think:
    """How much to think; None where the request does not say."""
    if body.thinking is not None and body.thinking.type == "disabled":
        return False
    effort = body.output_config.effort if body.output_config else None
    if effort is not None and effort not in _EFFORTS:
        raise RequestError(400, f"invalid effort {effort[:40]!r}", param="output_config.effort")
    if effort is not None:
        return _EFFORTS[effort]
    return True if body.thinking is not None else None


def tool_choice_of(body: schema.CountRequest) -> str:
    """Which tools may or must be called: `Call.tool_choice`."""
    choice = body.tool_choice
    if choice.type == "tool":
        if choice.name not in [tool.name for tool in body.tools]:
            raise RequestError(400, "tool_choice names no tool of this request")
        return choice.name
    return "required" if choice.type == "any" else choice.type


def _tool(tool: schema.Tool) -> dict[str, Any]:
    if tool.type != "custom":
        raise RequestError(400, f"server tool {tool.type[:60]!r} is not supported", param="tools")
    if not tool.name:
        raise RequestError(400, "a tool has no name", param="tools")
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.input_schema,
    }
    return {"type": "function", "function": function}


def _turn(turn: schema.Message, names: dict[str, str]) -> Iterator[Message]:
    """One turn: results of tools are turns of their own, before what the user says."""
    blocks = [schema.Block(type="text", text=turn.content)] if isinstance(turn.content, str) else (
        turn.content
    )  # fmt: skip
    texts, thoughts, images = [], [], []
    calls: list[ToolCall] = []
    for block in blocks:
        if block.type == "text":
            texts.append(block.text)
        elif block.type == "thinking":
            thoughts.append(block.thinking)
        elif block.type == "image":
            images.append(_image(block))
        elif block.type == "tool_use":
            names[block.id] = block.name
            calls.append(ToolCall(block.name, block.input, block.id, len(calls)))
        elif block.type == "tool_result":
            yield _result(block, names)
        elif block.type not in _SILENT:
            raise RequestError(400, f"content block {block.type[:60]!r} is not supported")
    if texts or thoughts or images or calls:
        yield Message(
            turn.role,
            "\n".join(texts),
            thinking="\n".join(thoughts),
            images=tuple(images),
            tool_calls=tuple(calls),
        )


def _result(block: schema.Block, names: Mapping[str, str]) -> Message:
    parts = block.content if isinstance(block.content, list) else []
    return Message(
        "tool",
        _texts(block.content, beside=("image",)),
        images=tuple(_image(part) for part in parts if part.type == "image"),
        tool_name=names.get(block.tool_use_id, ""),
        tool_call_id=block.tool_use_id,
    )


def _texts(content: str | list[schema.Block], beside: Sequence[str] = ()) -> str:
    """The text of blocks; those of the kinds in `beside` are for somebody else to read."""
    if isinstance(content, str):
        return content
    for block in content:
        if block.type not in ("text", *beside):
            raise RequestError(400, f"content block {block.type[:60]!r} is not supported here")
    return "\n".join(block.text for block in content if block.type == "text")


def _image(block: schema.Block) -> bytes:
    source = block.source
    if source is None or source.type != "base64" or source.media_type not in _IMAGES:
        raise RequestError(400, "invalid image: only base64 of jpeg, png, gif or webp is read")
    try:
        return base64.b64decode(source.data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(400, "invalid image: not base64") from error


def blocks_of(piece: Piece) -> list[dict[str, Any]]:
    """The content of a whole answer."""
    blocks: list[dict[str, Any]] = []
    if piece.thinking:
        blocks.append({"type": "thinking", "thinking": piece.thinking, "signature": ""})
    if piece.text or not (piece.thinking or piece.tool_calls):
        blocks.append({"type": "text", "text": piece.text})
    for call in piece.tool_calls:
        blocks.append({**tool_use_of(call), "input": dict(call.arguments)})
    return blocks


def tool_use_of(call: ToolCall) -> dict[str, Any]:
    """The block of a tool call, its input left empty."""
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}


def stop_of(piece: Piece, body: schema.MessagesRequest, *, called: bool) -> dict[str, Any]:
    """`stop_reason` and `stop_sequence` of an answer's last piece."""
    if piece.finish is FinishReason.LENGTH:
        reason = "max_tokens"
    elif called:
        reason = "tool_use"
    elif piece.stop_text is not None and piece.stop_text in body.stop_sequences:
        return {"stop_reason": "stop_sequence", "stop_sequence": piece.stop_text}
    else:
        reason = "end_turn"
    return {"stop_reason": reason, "stop_sequence": None}


def usage_of(usage: Usage | None) -> dict[str, int]:
    """Token counts; what was in memory already is counted apart, as Anthropic does."""
    usage = usage or Usage()
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }


def error_body(status: int, message: str, request_id: str) -> dict[str, Any]:
    """An error as Anthropic's SDKs read it."""
    kind = _KINDS.get(status, "invalid_request_error" if 400 <= status < 500 else "api_error")
    return {
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": request_id,
    }
