"""Chat messages as every surface hands them to the prompt builder. Pure values.

Roles are free text: `system`, `user`, `assistant` and `tool` are what templates know. Everything in
here was written by a client and is data: no text of it can become a control token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

# On, off, or how much; None is "not said": on for models that can think.
Think = bool | Literal["low", "medium", "high", "max"] | None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool by the model.

    Attributes:
        arguments: parsed, in the order that the model wrote them.
        id: what the client knows this call by; empty where it has none.
        index: position among the calls of one message, from 0.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    id: str = ""
    index: int = 0


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Attributes:
        thinking: the reasoning that went before `content`, without its tags.
        images: encoded files (PNG, JPEG, …), not base64.
        tool_name: for role `tool`, which tool answered; `tool_call_id`, which call.
    """

    role: str
    content: str = ""
    thinking: str = ""
    images: tuple[bytes, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""
