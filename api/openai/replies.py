"""What OpenAI's routes answer, for the OpenAPI document; a test checks real answers by it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from ..ollama.replies import Logprob


class CachedTokens(BaseModel):
    """Of the prompt's tokens, those whose state was in memory already."""

    cached_tokens: int


class TokenUsage(BaseModel):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int = 0
    total_tokens: int
    prompt_tokens_details: CachedTokens | None = None


class CalledFunctionText(BaseModel):
    """The function of a tool call; the arguments are JSON text."""

    name: str
    arguments: str


class ChosenToolCall(BaseModel):
    """A tool that the model calls; `index` in streams only."""

    index: int = 0
    id: str
    type: Literal["function"]
    function: CalledFunctionText


class ReplyMessage(BaseModel):
    """What the model says, or a part of it."""

    role: Literal["assistant"] = "assistant"
    content: str | None = None
    reasoning: str = ""
    tool_calls: list[ChosenToolCall] = Field(default_factory=list)


class ChatLogprobs(BaseModel):
    """How likely the tokens were."""

    content: list[Logprob]
    refusal: None


class Choice(BaseModel):
    """One answer."""

    index: int
    message: ReplyMessage
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"] | None


class ChunkChoice(BaseModel):
    """A part of one answer."""

    index: int
    delta: ReplyMessage
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"] | None


class _Framed(BaseModel):
    id: str
    created: int
    model: str
    system_fingerprint: str


class ChatCompletion(_Framed):
    """Whole answers."""

    object: Literal["chat.completion"]
    choices: list[Choice]
    usage: TokenUsage


class ChatCompletionChunk(_Framed):
    """One event; the last one of a stream is the text `[DONE]`."""

    object: Literal["chat.completion.chunk"]
    choices: list[ChunkChoice]
    usage: TokenUsage | None = None


class TextLogprobs(BaseModel):
    """How likely the tokens were, in four lists of one length."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(BaseModel):
    """One continued text, or a part of it."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Literal["stop", "length"] | None


class TextCompletion(_Framed):
    """Whole texts, or one event; the last one of a stream is the text `[DONE]`."""

    object: Literal["text_completion"]
    choices: list[TextChoice]
    usage: TokenUsage | None = None


class EmbeddingLine(BaseModel):
    """A vector, as numbers or as base64 of little-endian float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingList(BaseModel):
    """Vectors of length 1, in the order of the texts."""

    object: Literal["list"]
    data: list[EmbeddingLine]
    model: str
    usage: TokenUsage


class RankedDocument(BaseModel):
    """A document's text."""

    text: str


class Ranked(BaseModel):
    """How relevant a document is."""

    index: int
    relevance_score: float
    document: RankedDocument | None = None


class Ranking(BaseModel):
    """Documents, the most relevant first."""

    object: Literal["list"]
    model: str
    usage: TokenUsage
    results: list[Ranked]


class Tokens(BaseModel):
    """The token ids of a text."""

    tokens: list[int]
    count: int


class Detokenized(BaseModel):
    """The text of token ids, by both names that servers give it."""

    content: str
    prompt: str


class ModelLine(BaseModel):
    """A stored model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(BaseModel):
    """The stored models."""

    object: Literal["list"]
    data: list[ModelLine]


class ResponseReply(BaseModel):
    """An answer as items."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    background: bool
    error: dict[str, Any] | None
    incomplete_details: dict[str, Any] | None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, Any]
    model: str
    output: list[dict[str, Any]]
    parallel_tool_calls: bool
    previous_response_id: None
    reasoning: dict[str, Any]
    store: bool
    temperature: float | None
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_p: float | None
    truncation: str
    usage: dict[str, Any] | None


class ResponseEvent(BaseModel):
    """One event of a streamed response; the other fields depend on `type`."""

    type: str
    sequence_number: int
