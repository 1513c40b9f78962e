"""Request body of POST /v1/responses, as far as a stateless server can honour it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ..wire import Urgent, Wire
from .schema import Reasoning

# What of `include` has an effect.
LOGPROBS = "message.output_text.logprobs"


class Part(Wire):
    """A part of an item's content."""

    type: str = ""
    text: str = ""
    refusal: str = ""
    image_url: str = ""


class InputItem(Wire):
    """An item of the input; which fields count depends on `type`."""

    type: str = "message"
    role: str = ""
    content: str | list[Part] = ""
    call_id: str = ""
    name: str = ""
    arguments: str = "{}"
    output: str | list[Part] = ""
    summary: list[Part] = Field(default_factory=list)


class Format(Wire):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str = ""
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class TextOptions(Wire):
    """How the text shall be."""

    format: Format = Format()


class ResponsesRequest(Urgent):
    """POST /v1/responses."""

    model: str = ""
    input: str | list[InputItem] = ""
    instructions: str = ""
    max_output_tokens: int | None = Field(None, ge=0)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    top_logprobs: int | None = Field(None, ge=0, le=20)
    reasoning: Reasoning | None = None
    text: TextOptions = TextOptions()
    tools: list[dict[str, Any]] = Field(default_factory=list)
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    stream: bool = False
    previous_response_id: str | None = None
    conversation: Any = None
    background: bool = False
    metadata: dict[str, Any] = Field(default_factory=dict)
    truncation: Literal["auto", "disabled"] = "auto"
    include: list[str] = Field(default_factory=list)

    @property
    def ignored(self) -> tuple[str, ...]:
        """See `Open.ignored`."""
        others = {"include"} if {*self.include} - {LOGPROBS} else set()
        return tuple(sorted({*super().ignored, *others}))
