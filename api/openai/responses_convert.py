"""Between the JSON of /v1/responses and the service's values. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pannier.runtime.messages import Message, ToolCall
from pannier.runtime.request import FinishReason, Usage

from ..answer import Piece
from ..errors import RequestError
from ..service import Call, Chat
from . import convert, schema
from .responses_schema import LOGPROBS, InputItem, Part, ResponsesRequest


def chat_of(body: ResponsesRequest) -> Chat:
    """The conversation of a request.

    Raises:
        RequestError: 400, for what a stateless server cannot do.
    """
    for name in ("previous_response_id", "conversation", "background"):
        if getattr(body, name):
            raise RequestError(
                400, f"{name} is not supported: this server keeps no responses", param=name
            )
    messages: list[Message] = []
    if body.instructions:
        messages.append(Message("system", body.instructions))
    if isinstance(body.input, str):
        messages.append(Message("user", body.input))
    else:
        messages += _messages(body.input)
    if not messages or not body.input:
        raise RequestError(400, "input is empty", param="input")
    return Chat(tuple(messages), tuple(_tool(tool) for tool in body.tools))


def call_of(body: ResponsesRequest) -> Call:
    """What is not the conversation itself, by way of the chat request that asks for the same."""
    wanted: dict[str, Any] = {
        "model": body.model,
        "max_tokens": body.max_output_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "reasoning": body.reasoning,
        "logprobs": body.top_logprobs is not None or LOGPROBS in body.include,
        "top_logprobs": body.top_logprobs,
        "tools": [_tool(tool) for tool in body.tools],
        "tool_choice": body.tool_choice,
        "parallel_tool_calls": body.parallel_tool_calls,
    }
    form = body.text.format
    if form.type != "text":
        inner = schema.JsonSchema.model_validate({"schema": form.schema_, "strict": form.strict})
        wanted["response_format"] = schema.ResponseFormat(type=form.type, json_schema=inner)
    call = convert.call_of(schema.ChatRequest.model_validate(wanted), keep_alive_s=None)
    return replace(call, truncate=body.truncation == "auto")


def _messages(items: list[InputItem]) -> list[Message]:
    """Turns of the input; reasoning and calls that follow each other are one turn."""
    messages: list[Message] = []
    names: dict[str, str] = {}
    thinking = ""
    for item in items:
        if item.type == "reasoning":
            thinking += _text(item.summary) or _text(item.content)
        elif item.type == "function_call":
            names[item.call_id] = item.name
            messages.append(_call(item, messages, thinking))
            thinking = ""
        elif item.type == "function_call_output":
            name = names.get(item.call_id, "")
            messages.append(
                Message(
                    "tool",
                    _text(item.output),
                    images=_images(item.output),
                    tool_name=name,
                    tool_call_id=item.call_id,
                )
            )
        elif item.type in ("message", ""):
            messages.append(_message(item, thinking))
            thinking = ""
        else:
            raise RequestError(
                400, f"input item {item.type[:60]!r} is not supported", param="input"
            )
    return messages


def _message(item: InputItem, thinking: str) -> Message:
    if not item.role:
        raise RequestError(400, "an input message has no role", param="input")
    role = "system" if item.role == "developer" else item.role.lower()
    return Message(
        role,
        _text(item.content),
        thinking=thinking if role == "assistant" else "",
        images=_images(item.content),
    )


def _images(content: str | list[Part]) -> tuple[bytes, ...]:
    parts = content if isinstance(content, list) else []
    return tuple(convert.image_of(part.image_url) for part in parts if part.type == "input_image")


def _call(item: InputItem, before: list[Message], thinking: str) -> Message:
    """A call; several in a row are calls of one turn."""
    earlier: tuple[ToolCall, ...] = ()
    content = ""
    if before and before[-1].role == "assistant":
        last = before.pop()
        earlier, content, thinking = last.tool_calls, last.content, last.thinking or thinking
    call = convert.tool_call_of(item.name, item.arguments, item.call_id, len(earlier))
    return Message("assistant", content, thinking=thinking, tool_calls=(*earlier, call))


def _text(content: str | list[Part]) -> str:
    if isinstance(content, str):
        return content
    texts = []
    for part in content:
        if part.type in ("input_text", "output_text", "text", "summary_text", "reasoning_text"):
            texts.append(part.text)
        elif part.type == "refusal":
            texts.append(part.refusal)
        elif part.type != "input_image":
            raise RequestError(400, f"content part {part.type[:60]!r} is not supported")
    return "\n".join(texts)


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool as the chat API has it: the function under a key of its own."""
    if tool.get("type") != "function":
        return convert.checked_tool(tool)
    inner = {key: value for key, value in tool.items() if key != "type"}
    return convert.checked_tool({"type": "function", "function": tool.get("function") or inner})


def usage_of(usage: Usage | None, thinking_tokens: int) -> dict[str, Any]:
    """Token counts."""
    usage = usage or Usage()
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": thinking_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def ending_of(piece: Piece) -> dict[str, Any]:
    """`status`, `incomplete_details` and `usage` of an answer's end."""
    is_cut = piece.finish is FinishReason.LENGTH
    return {
        "status": "incomplete" if is_cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
        "usage": usage_of(piece.usage, piece.thinking_tokens),
    }
