"""What Ollama's routes answer, for the OpenAPI document; a test checks real answers by it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class Details(BaseModel):
    """What a model is, in a few words."""

    parent_model: str
    format: str
    family: str
    families: list[str] | None
    parameter_size: str
    quantization_level: str


class Version(BaseModel):
    """The version whose API this is, and pannier's own."""

    version: str
    pannier: str


class Cloud(BaseModel):
    """That there is none."""

    disabled: bool
    source: str


class Status(BaseModel):
    """What is behind this server."""

    cloud: Cloud


class TopLogprob(BaseModel):
    """How likely a token was in a place."""

    token: str
    logprob: float
    bytes: list[int]


class Logprob(TopLogprob):
    """How likely a token was, and which were likeliest in its place."""

    top_logprobs: list[TopLogprob] = Field(default_factory=list)


class CalledFunction(BaseModel):
    """The function of a tool call; the arguments are an object."""

    index: int
    name: str
    arguments: dict[str, Any]


class ToolCall(BaseModel):
    """A tool that the model calls."""

    id: str = ""
    function: CalledFunction


class Truncated(BaseModel):
    """What the context had no room for."""

    messages: int
    tokens: int


class _Chunk(BaseModel):
    model: str
    created_at: str
    done: bool
    done_reason: str = ""
    logprobs: list[Logprob] = Field(default_factory=list)
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0
    prompt_eval_duration: int = 0
    eval_count: int = 0
    eval_duration: int = 0
    truncated: Truncated | None = None


class GenerateReply(_Chunk):
    """A part of an answer, or the whole; durations are in nanoseconds."""

    response: str
    thinking: str = ""
    context: list[int] = Field(default_factory=list)
    tool_calls: list[ToolCall] = Field(default_factory=list)


class ChatReplyMessage(BaseModel):
    """What the model says."""

    role: str
    content: str
    thinking: str = ""
    tool_calls: list[ToolCall] = Field(default_factory=list)


class ChatReply(_Chunk):
    """A part of an answer, or the whole; durations are in nanoseconds."""

    message: ChatReplyMessage


class DebugInfo(BaseModel):
    """A prompt as the model would get it."""

    rendered_template: str
    image_count: int


class Rendered(BaseModel):
    """The answer to `_debug_render_only`."""

    model: str
    created_at: str
    debug_info: DebugInfo = Field(alias="_debug_info")


class EmbedReply(BaseModel):
    """Vectors of length 1, in the order of the texts."""

    model: str
    embeddings: list[list[float]]
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0


class EmbeddingsReply(BaseModel):
    """One vector; empty for an empty prompt."""

    embedding: list[float]


class Tag(BaseModel):
    """A stored model. `digest` is bare hex, `size` in bytes."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: Details


class Tags(BaseModel):
    """The stored models, newest first."""

    models: list[Tag]


class Loaded(BaseModel):
    """A model in memory."""

    name: str
    model: str
    size: int
    digest: str
    details: Details
    expires_at: str
    size_vram: int
    context_length: int
    stats: dict[str, Any]
    advice: str = ""


class Ps(BaseModel):
    """The models in memory, longest remaining first."""

    models: list[Loaded]


class ExampleMessage(BaseModel):
    """A message that a model's conversations begin with."""

    role: str
    content: str


class TensorLine(BaseModel):
    """A tensor of the weights."""

    name: str
    type: str
    shape: list[int]


class ShowReply(BaseModel):
    """What a model is."""

    license: str = ""
    modelfile: str
    parameters: str = ""
    template: str = ""
    system: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    details: Details
    messages: list[ExampleMessage] = Field(default_factory=list)
    model_info: dict[str, Any]
    projector_info: dict[str, Any] = Field(default_factory=dict)
    tensors: list[TensorLine] = Field(default_factory=list)
    capabilities: list[str]
    modified_at: str


class Progress(BaseModel):
    """How far a transfer has come, in bytes; the last one is `success`."""

    status: str
    digest: str = ""
    total: int = 0
    completed: int = 0
