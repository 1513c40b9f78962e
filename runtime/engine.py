"""The engine: steps of one backend, from requests to pieces of answers. One thread calls `step`.

Each step drains nothing and waits for nothing: whoever calls it hands requests in between steps
(`add`, `cancel`) and gets the pieces of all answers of a step back in one list.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence as Sequenced
from dataclasses import dataclass, field

from .backend import Backend, DecodeStatus, TokenSampler
from .request import FinishReason, GenerationRequest, Usage
from .scheduler import Plan, Scheduler
from .sequence import Phase, Sequence
from .stops import TextStream

# A generation that repeats one token this often never ends by itself (Ollama's limit is 30 too).
MAX_EQUAL_TOKENS = 30


@dataclass(frozen=True, slots=True)
class Piece:
    """What one step adds to one answer. `finish` and `usage` come together, at its end."""

    key: int
    text: str
    tokens: int
    finish: FinishReason | None = None
    usage: Usage | None = None
    stop_text: str | None = None
    context: tuple[int, ...] = ()
    error: str | None = None


@dataclass(slots=True)
class _Answer:
    """The engine's side of a sequence."""

    request: GenerationRequest
    stream: TextStream
    arrived_ns: int
    truncated: int
    max_tokens: int
    sampler: TokenSampler | None = None
    started_ns: int = 0
    first_token_ns: int = 0
    equal: int = 0
    failures: int = 0
    prompt_tokens: int = 0
    drawn: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What the engine needs of a model's vocabulary, ready for the hot loop."""

    pieces: tuple[bytes, ...]
    end_tokens: frozenset[int]
    control_tokens: frozenset[int]


class Engine:
    """Answers many requests at a time over one backend."""

    def __init__(
        self,
        backend: Backend,
        vocabulary: Vocabulary,
        *,
        context_length: int,
        max_running: int,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._backend = backend
        self._vocabulary = vocabulary
        self._context_length = min(context_length, backend.num_cells)
        self._clock_ns = clock_ns
        self._sequences: dict[int, Sequence] = {}
        self.scheduler = Scheduler(backend, max_running=max_running)

    @property
    def is_idle(self) -> bool:
        """Whether a step would do nothing."""
        return self.scheduler.is_idle

    def add(
        self, key: int, request: GenerationRequest, prompt: Sequenced[int], *, truncated: int = 0
    ) -> None:
        """Queue a request whose prompt is not empty and shorter than the context."""
        room = self._context_length - len(prompt)
        wanted = request.max_tokens
        answer = _Answer(
            request=request,
            stream=TextStream(request.stop),
            arrived_ns=self._clock_ns(),
            truncated=truncated,
            max_tokens=room if wanted is None else min(wanted, room),
            prompt_tokens=len(prompt),
        )
        sequence = Sequence(
            key=key,
            tokens=list(prompt),
            num_prompt=len(prompt),
            limit=self._context_length,
            sampling=request.sampling,
            work=answer,
        )
        self._sequences[key] = sequence
        self.scheduler.add(sequence)

    def cancel(self, key: int) -> Piece | None:
        """End a request now; its cells are free when this returns. None where it was over."""
        sequence = self._sequences.get(key)
        return None if sequence is None else self._finish(sequence, FinishReason.CANCELLED, 0)

    def step(self) -> list[Piece]:
        """Compute one batch and return what it adds to the answers."""
        scheduler = self.scheduler
        plan = scheduler.plan()
        now = self._clock_ns()
        for sequence, _ in plan.advanced:
            if not sequence.work.started_ns:
                sequence.work.started_ns = now
        status = self._backend.decode(plan.rows)
        if status is not DecodeStatus.DONE:
            return self._recover(plan, status)
        scheduler.applied(plan)
        drawn = self._backend.sample(
            [(self._sampler_of(sequence), row) for sequence, row in plan.draws]
        )
        now = self._clock_ns()
        return [
            self._extend(sequence, token, now)
            for (sequence, _), token in zip(plan.draws, drawn, strict=True)
        ]

    def _sampler_of(self, sequence: Sequence) -> TokenSampler:
        answer: _Answer = sequence.work
        if answer.sampler is None:
            answer.sampler = self._backend.sampler(sequence.sampling, sequence.tokens)
        return answer.sampler

    def _extend(self, sequence: Sequence, token: int, now: int) -> Piece:
        answer: _Answer = sequence.work
        vocabulary = self._vocabulary
        answer.failures = 0
        if not answer.first_token_ns:
            answer.first_token_ns = now
        if answer.max_tokens <= 0:
            return self._finish(sequence, FinishReason.LENGTH, 0)
        if token in vocabulary.end_tokens:
            return self._finish(sequence, FinishReason.STOP, 0)
        drawn = answer.drawn
        answer.equal = answer.equal + 1 if drawn and drawn[-1] == token else 0
        drawn.append(token)
        sequence.tokens.append(token)
        hidden = token in vocabulary.control_tokens and not answer.request.control_tokens
        stream = answer.stream
        text = "" if hidden else stream.feed(vocabulary.pieces[token])
        if stream.stopped_by is not None:
            return self._finish(sequence, FinishReason.STOP, 1, text)
        if len(drawn) >= answer.max_tokens or answer.equal >= MAX_EQUAL_TOKENS:
            return self._finish(sequence, FinishReason.LENGTH, 1, text)
        return Piece(sequence.key, text, 1)

    def _finish(
        self, sequence: Sequence, reason: FinishReason, tokens: int, text: str = ""
    ) -> Piece:
        answer: _Answer = sequence.work
        stopped_by = answer.stream.stopped_by
        text += answer.stream.finish()
        if stopped_by is not None and answer.request.echo_stop:
            text += stopped_by
        now = self._clock_ns()
        started = answer.started_ns or now
        first = answer.first_token_ns or now
        usage = Usage(
            prompt_tokens=answer.prompt_tokens,
            cached_tokens=sequence.cached,
            truncated_tokens=answer.truncated,
            completion_tokens=len(answer.drawn),
            queue_ns=started - answer.arrived_ns,
            prompt_ns=first - started,
            decode_ns=now - first,
        )
        context = tuple(sequence.tokens) if answer.request.want_context else ()
        self._drop(sequence)
        return Piece(sequence.key, text, tokens, reason, usage, stopped_by, context)

    def _drop(self, sequence: Sequence) -> None:
        answer: _Answer = sequence.work
        if answer.sampler is not None:
            answer.sampler.close()
            answer.sampler = None
        del self._sequences[sequence.key]
        self.scheduler.remove(sequence)

    def _recover(self, plan: Plan, status: DecodeStatus) -> list[Piece]:
        """Nothing was computed: make room and try again, or give up those that keep failing."""
        if status is DecodeStatus.NO_ROOM and self.scheduler.preempt_youngest():
            return []
        self.scheduler.restart_all()
        pieces = []
        for sequence, _ in plan.advanced:
            answer: _Answer = sequence.work
            answer.failures += 1
            if answer.failures > 1 and sequence.phase is not Phase.OVER:
                self._drop(sequence)
                pieces.append(Piece(sequence.key, "", 0, error="the engine cannot decode this"))
        return pieces
