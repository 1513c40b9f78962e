"""A conversation in the form that Jinja chat templates expect. Pure.

The names are those of Transformers' `apply_chat_template`; a key that a message has no value for is
absent, since templates ask whether it is defined.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..messages import Message, Think, ToolCall
from .shield import Shield


def jinja_names(
    turns: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]],
    think: Think,
    tokens: Mapping[str, str],
    continues: bool,
) -> dict[str, Any]:
    """Top-level names for a template. All texts must be shielded already.

    Args:
        turns: the conversation.
        tools: as the wire gives them.
        think: whether and how much to think.
        tokens: `bos_token` and its like.
        continues: whether the last message is to be continued, not answered.
    """
    names: dict[str, Any] = {
        **tokens,
        "messages": [_message(turn) for turn in turns],
        "tools": list(tools) or None,
        "documents": None,
        "add_generation_prompt": not continues,
    }
    if think is not None:
        names["enable_thinking"] = names["thinking"] = think is not False
    if isinstance(think, str):
        names["reasoning_effort"] = think
    return names


def _message(message: Message) -> dict[str, Any]:
    out: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.thinking:
        out["reasoning_content"] = out["thinking"] = message.thinking
    if message.tool_calls:
        out["tool_calls"] = [_call(call) for call in message.tool_calls]
    if message.tool_name:
        out["name"] = message.tool_name
    if message.tool_call_id:
        out["tool_call_id"] = message.tool_call_id
    return out


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": dict(call.arguments)}
    return {"id": call.id, "type": "function", "function": function}


def shielded(message: Message, shield: Shield) -> Message:
    """The message with every text in it protected."""
    return Message(
        role=shield.protect(message.role),
        content=shield.protect(message.content),
        thinking=shield.protect(message.thinking),
        images=message.images,
        tool_calls=tuple(
            ToolCall(
                shield.protect(call.name),
                shield.protect_all(call.arguments),
                shield.protect(call.id),
                call.index,
            )
            for call in message.tool_calls
        ),
        tool_name=shield.protect(message.tool_name),
        tool_call_id=shield.protect(message.tool_call_id),
    )


def client_texts(turns: Iterable[Message], tools: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """All client texts that a template can print."""
    for turn in turns:
        yield from (turn.role, turn.content, turn.thinking, turn.tool_name, turn.tool_call_id)
        for call in turn.tool_calls:
            yield from (call.id, call.name)
            yield from _strings(call.arguments)
    yield from _strings(tools)


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)
