"""Request bodies of Anthropic's Messages API, as far as a local model can honour them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ..wire import Open, Urgent, Wire


class Source(Wire):
    """Where an image is; only base64 is read."""

    type: str = ""
    media_type: str = ""
    data: str = ""


class Block(Wire):
    """A block of content; which fields count depends on `type`."""

    type: str
    text: str = ""
    thinking: str = ""
    source: Source | None = None
    id: str = ""
    name: str = ""
    input: dict[str, Any] = Field(default_factory=dict)
    tool_use_id: str = ""
    content: str | list[Block] = ""


class Message(Wire):
    """One turn."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class Tool(Wire):
    """A tool that the model may call."""

    name: str = ""
    type: str = "custom"
    description: str = ""
    input_schema: dict[str, Any] = Field(default_factory=dict)


class ToolChoice(Wire):
    """Which tools may or must be called."""

    type: Literal["auto", "any", "tool", "none"] = "auto"
    name: str = ""
    disable_parallel_tool_use: bool = False


class Thinking(Wire):
    """Whether to think, and for how many tokens at most."""

    type: Literal["enabled", "disabled", "adaptive"] = "enabled"
    budget_tokens: int | None = Field(default=None, ge=1)


class OutputFormat(Wire):
    """The form of the answer."""

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(Wire):
    """How much effort to make, and the form of the answer."""

    effort: str | None = None
    format: OutputFormat | None = None


class CountRequest(Open):
    """POST /v1/messages/count_tokens."""

    model: str = ""
    messages: list[Message] = Field(default_factory=list)
    system: str | list[Block] = ""
    tools: list[Tool] = Field(default_factory=list)
    tool_choice: ToolChoice = Field(default_factory=ToolChoice)
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None


class MessagesRequest(CountRequest, Urgent):
    """POST /v1/messages."""

    max_tokens: int = 0
    stream: bool = False
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = None
    stop_sequences: list[str] = Field(default_factory=list)
