"""The engine's side of one request: from drawn tokens to pieces of text, and when to end. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .backend import TokenGate, TokenSampler
from .request import FinishReason, GenerationRequest, TokenLogprob, Usage
from .speculate import PromptLookup
from .stops import TextStream

# A generation that repeats one token more often never ends by itself (Ollama's limit too).
MAX_EQUAL_TOKENS = 30
# Contexts that an answer without a limit may fill, shift by shift (Ollama's limit too).
MAX_CONTEXTS = 10


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What the engine needs of a model's vocabulary, ready for the hot loop."""

    pieces: tuple[bytes, ...]
    end_tokens: frozenset[int]
    control_tokens: frozenset[int]


@dataclass(frozen=True, slots=True)
class Piece:
    """What one step adds to one answer.

    `finish` comes at its end, with `usage`; the first piece has the prompt's part of the usage.
    """

    key: int
    text: str = ""
    tokens: int = 0
    finish: FinishReason | None = None
    usage: Usage | None = None
    stop_text: str | None = None
    context: tuple[int, ...] = ()
    error: str | None = None
    logprobs: tuple[TokenLogprob, ...] = ()


class Answer:
    """One answer under way."""

    __slots__ = (
        "_arrived_ns",
        "_drawn",
        "_equal",
        "_first_ns",
        "_last",
        "_logprobs",
        "_num_prompt",
        "_started_ns",
        "_stream",
        "_text",
        "_tokens",
        "_told_prompt",
        "_truncated",
        "_vocabulary",
        "can_shift",
        "failures",
        "gate",
        "has_taken",
        "lookup",
        "max_tokens",
        "request",
        "sampler",
    )

    def __init__(
        self,
        request: GenerationRequest,
        vocabulary: Vocabulary,
        *,
        num_prompt: int,
        context_length: int,
        truncated: int,
        can_shift: bool,
        now_ns: int,
        gate: TokenGate | None = None,
    ) -> None:
        self.request = request
        self.gate = gate
        self.sampler: TokenSampler | None = None
        self.failures = 0
        self.lookup = PromptLookup()
        self.has_taken = False
        self.can_shift = can_shift
        most = MAX_CONTEXTS * context_length
        self.max_tokens = most if request.max_tokens is None else min(request.max_tokens, most)
        self._vocabulary = vocabulary
        self._stream = TextStream(request.stop)
        self._num_prompt = num_prompt
        self._truncated = truncated
        self._arrived_ns = now_ns
        self._started_ns = 0
        self._first_ns = 0
        self._drawn = 0
        self._last = -1
        self._equal = 0
        self._text = ""
        self._tokens = 0
        self._told_prompt = False
        self._logprobs: list[TokenLogprob] = []

    @property
    def wants_logprobs(self) -> bool:
        """Whether `note_logprobs` is to be called for each token."""
        return self.request.logprobs is not None

    @property
    def num_top(self) -> int:
        """How many likely tokens to name beside the drawn one."""
        return self.request.logprobs or 0

    @property
    def most_left(self) -> int:
        """How many more tokens may come."""
        return self.max_tokens - self._drawn

    def note_start(self, now_ns: int) -> None:
        """Its first row is about to be computed."""
        if not self._started_ns:
            self._started_ns = now_ns

    def is_late(self, now_ns: int) -> bool:
        """Whether its deadline has passed."""
        deadline = self.request.deadline_s
        return deadline is not None and now_ns - self._arrived_ns > deadline * 1e9

    def note_logprobs(self, chosen: tuple[int, float], top: list[tuple[int, float]]) -> None:
        """How likely the token was that `take` gets next, and which were likeliest."""
        pieces = self._vocabulary.pieces
        best = tuple(TokenLogprob(pieces[token], logprob) for token, logprob in top)
        token, logprob = chosen
        self._logprobs.append(TokenLogprob(pieces[token], logprob, best))

    def take(self, token: int, now_ns: int) -> FinishReason | None:
        """A token was drawn; returns why the answer ends with it, None where it goes on."""
        self.has_taken = False
        if not self._first_ns:
            self._first_ns = now_ns
        vocabulary = self._vocabulary
        if self.max_tokens <= 0:
            self._logprobs.clear()
            return FinishReason.LENGTH
        if token in vocabulary.end_tokens:
            self._logprobs.clear()
            is_broken = self.gate is not None and self.gate.is_broken
            return FinishReason.LENGTH if is_broken else FinishReason.STOP
        self.has_taken = True
        self._equal = self._equal + 1 if token == self._last else 0
        self._last = token
        self._drawn += 1
        self._tokens += 1
        if token not in vocabulary.control_tokens or self.request.control_tokens:
            self._text += self._stream.feed(vocabulary.pieces[token])
            if self._stream.stopped_by is not None:
                return FinishReason.STOP
        is_held = self.gate is not None and self.gate.is_held
        if self._drawn >= self.max_tokens or (self._equal >= MAX_EQUAL_TOKENS and not is_held):
            # The last token may have been the last of a document.
            is_whole = self.gate is not None and self.gate.is_over
            return FinishReason.STOP if is_whole else FinishReason.LENGTH
        return None

    def piece(self, key: int, *, cached: int) -> Piece:
        """What has come since the last piece."""
        piece = Piece(key, self._text, self._tokens)
        if self._logprobs:
            piece = replace(piece, logprobs=tuple(self._logprobs))
            self._logprobs.clear()
        if not self._told_prompt:
            self._told_prompt = True
            piece = replace(piece, usage=self._prompt_usage(cached))
        self._text = ""
        self._tokens = 0
        return piece

    def _prompt_usage(self, cached: int) -> Usage:
        return Usage(
            prompt_tokens=self._num_prompt,
            cached_tokens=cached,
            truncated_tokens=self._truncated,
        )

    def last_piece(
        self, key: int, reason: FinishReason, *, now_ns: int, cached: int, tokens: Sequence[int]
    ) -> Piece:
        """The end: what was held back, and the usage."""
        stopped_by = self._stream.stopped_by
        text = self._text + self._stream.finish()
        if stopped_by is not None and self.request.echo_stop:
            text += stopped_by
        started = self._started_ns or now_ns
        first = self._first_ns or now_ns
        usage = replace(
            self._prompt_usage(cached),
            completion_tokens=self._drawn,
            queue_ns=started - self._arrived_ns,
            prompt_ns=first - started,
            decode_ns=now_ns - first,
        )
        return Piece(
            key,
            text,
            self._tokens,
            finish=reason,
            usage=usage,
            stop_text=stopped_by,
            # Rows of images have no token that could be sent again.
            context=tuple(t for t in tokens if t >= 0) if self.request.want_context else (),
            logprobs=tuple(self._logprobs),
        )

    def close(self) -> None:
        """Free the sampler. Idempotent."""
        if self.sampler is not None:
            self.sampler.close()
            self.sampler = None
