"""Request bodies of OpenAI's REST API, as far as a local model can honour them.

A field that stands here is honoured or refused. Any other field that a client sends is named in
the answer's `X-Pannier-Ignored` header, so nothing is ignored in silence.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ..wire import Urgent, Wire


class FunctionCall(Wire):
    """The function of a tool call; `arguments` is the JSON text of an object."""

    name: str = ""
    arguments: str = "{}"


class ToolCall(Wire):
    """A tool call of an earlier turn."""

    id: str = ""
    type: str = "function"
    function: FunctionCall = Field(default_factory=FunctionCall)


class ImageURL(Wire):
    """Where an image is; only `data:` URLs are read."""

    url: str = ""


class ContentPart(Wire):
    """A part of a message's content."""

    type: str
    text: str = ""
    refusal: str = ""
    image_url: ImageURL | str | None = None


class Message(Wire):
    """One message of a conversation."""

    role: str
    content: str | list[ContentPart] = ""
    name: str = ""
    reasoning: str = ""
    reasoning_content: str = ""
    tool_calls: list[ToolCall] = Field(default_factory=list)
    tool_call_id: str = ""


class StreamOptions(Wire):
    """What a stream shall hold beside the text."""

    include_usage: bool = False


class Reasoning(Wire):
    """How much to think."""

    effort: str | None = None


class JsonSchema(Wire):
    """A schema that the answer must follow."""

    name: str = ""
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormat(Wire):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: JsonSchema | None = None


class _Sampled(Urgent):
    model: str = ""
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=0)
    seed: int | None = None
    stop: str | list[str] | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: dict[str, float] | None = None
    n: int = Field(1, ge=1, le=16)
    # Fields beside OpenAI's that other local servers read as well.
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    keep_alive: Any = None


class ChatRequest(_Sampled):
    """POST /v1/chat/completions."""

    messages: list[Message] = Field(default_factory=list)
    max_completion_tokens: int | None = Field(None, ge=0)
    tools: list[dict[str, Any]] = Field(default_factory=list)
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning: Reasoning | None = None
    reasoning_effort: str | None = None
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=20)

    @property
    def ignored(self) -> tuple[str, ...]:
        """See `Open.ignored`; the name of who speaks is for tools only."""
        is_named = any(message.name and message.role != "tool" for message in self.messages)
        return tuple(sorted({*super().ignored, *(["messages.name"] if is_named else [])}))


class CompletionRequest(_Sampled):
    """POST /v1/completions."""

    prompt: str | list[str] | list[int] | list[list[int]] = ""
    suffix: str = ""
    echo: bool = False
    logprobs: int | None = Field(None, ge=0, le=5)
    best_of: int | None = None
