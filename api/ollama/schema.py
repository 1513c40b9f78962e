"""Request bodies of Ollama's REST API, validated by pydantic."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from ..wire import Wire

# Ollama's `format`: "json", or a JSON schema. Its `keep_alive`: a number or a Go duration.
Format = Any
KeepAlive = Any


def _without_nulls(value: Any) -> Any:
    """langchain-ollama names every option and leaves most of them null; Ollama passes over them."""
    if isinstance(value, dict):
        return {name: item for name, item in value.items() if item is not None}
    return value


Options = Annotated[dict[str, Any], BeforeValidator(_without_nulls)]


class _Named(Wire):
    """A request that names a model; `name` is the older word."""

    model: str = ""
    name: str = ""

    @property
    def wanted(self) -> str:
        """The model's name, whichever field has it."""
        return self.model or self.name


class _Inference(Wire):
    model: str = ""
    stream: bool = True
    format: Format = None
    keep_alive: KeepAlive = None
    options: Options = Field(default_factory=dict)
    think: bool | str | None = None
    thinking_budget: int | None = Field(default=None, ge=1)
    truncate: bool = True
    shift: bool = True
    logprobs: bool = False
    top_logprobs: int = 0
    debug_render_only: bool = Field(False, alias="_debug_render_only")


class GenerateRequest(_Inference):
    """POST /api/generate."""

    prompt: str = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    context: list[int] = Field(default_factory=list)
    raw: bool = False
    images: list[str] = Field(default_factory=list)


def _object_or_text(value: Any) -> Any:
    """Arguments are an object here; some clients send the JSON text of one, as OpenAI does."""
    if isinstance(value, str):
        from pydantic_core import from_json

        value = from_json(value or "{}")
    return value


class Function(Wire):
    """The function of a tool call."""

    name: str = ""
    index: int = 0
    arguments: Annotated[dict[str, Any], BeforeValidator(_object_or_text)] = Field(
        default_factory=dict
    )


class Call(Wire):
    """A tool call in a message."""

    id: str = ""
    function: Function = Field(default_factory=Function)


class ChatMessage(Wire):
    """One message."""

    role: str = ""
    content: str = ""
    thinking: str = ""
    images: list[str] = Field(default_factory=list)
    tool_calls: list[Call] = Field(default_factory=list)
    tool_name: str = ""
    tool_call_id: str = ""


class ChatRequest(_Inference):
    """POST /api/chat."""

    messages: list[ChatMessage] = Field(default_factory=list)
    tools: list[dict[str, Any]] = Field(default_factory=list)


class EmbedRequest(Wire):
    """POST /api/embed."""

    model: str = ""
    input: Any = None
    truncate: bool = True
    dimensions: int = Field(0, ge=0)
    keep_alive: KeepAlive = None
    options: Options = Field(default_factory=dict)


class EmbeddingsRequest(Wire):
    """POST /api/embeddings, the older form."""

    model: str = ""
    prompt: str = ""
    keep_alive: KeepAlive = None
    options: Options = Field(default_factory=dict)


class ShowRequest(_Named):
    """POST /api/show."""

    verbose: bool = False
    system: str = ""
    template: str = ""
    options: Options = Field(default_factory=dict)


class TransferRequest(_Named):
    """POST /api/pull and /api/push."""

    insecure: bool = False
    stream: bool = True


class CopyRequest(Wire):
    """POST /api/copy."""

    source: str = ""
    destination: str = ""


class DeleteRequest(_Named):
    """DELETE /api/delete."""


class CreateMessage(Wire):
    """An example message of a model."""

    role: str = ""
    content: str = ""


class CreateRequest(_Named):
    """POST /api/create. Paths in `files` are labels; the digests name uploaded blobs."""

    from_: str = Field("", alias="from")
    files: dict[str, str] | None = None
    adapters: dict[str, str] = Field(default_factory=dict)
    draft_files: dict[str, str] = Field(default_factory=dict)
    template: str = ""
    license: str | list[str] = ""
    system: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    messages: list[CreateMessage] = Field(default_factory=list)
    quantize: str = ""
    quantization: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    draft_quantize: str = ""
    remote_host: str = ""
    info: dict[str, Any] = Field(default_factory=dict)
    stream: bool = True
