"""The engine: steps of one backend, from requests to pieces of answers. One thread calls it.

Each step waits for nothing: whoever calls it hands requests in between steps (`add`, `cancel`) and
gets the pieces of all answers of a step back in one list. What runs when is the scheduler's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence as Sequenced

from .answer import Answer, Piece, Vocabulary
from .backend import Backend, DecodeStatus, TokenGate, TokenSampler
from .checkpoints import Checkpoints, marks
from .guesses import Drafter, Guesses
from .hoststates import HostStates
from .pace import Pace
from .pictures import Span
from .plan import Plan, Tuning
from .request import LATE, FinishReason, GenerationRequest
from .scheduler import Scheduler
from .sequence import Sequence
from .stats import EngineStats

# A sequence whose decoding fails this often in a row is given up.
MAX_FAILURES = 3


class Engine:
    """Answers many requests at a time over one backend."""

    def __init__(
        self,
        backend: Backend,
        vocabulary: Vocabulary,
        *,
        context_length: int,
        max_running: int,
        states: HostStates | None = None,
        checkpoints: Checkpoints | None = None,
        tuning: Tuning | None = None,
        max_draft: int = 0,
        drafter: Drafter | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`max_draft` tokens are guessed ahead at most, also by `drafter`; 0 turns that off."""
        self._backend = backend
        self._vocabulary = vocabulary
        self._context_length = min(context_length, backend.num_cells)
        self._clock_ns = clock_ns
        self._pace = Pace(backend.batch_size)
        self.guesses: Guesses | None = None
        if max_draft and backend.can_share:
            self.guesses = Guesses(
                self._pace,
                most=max_draft,
                drafter=drafter,
                context_length=self._context_length,
                clock_ns=clock_ns,
            )
        self._sequences: dict[int, Sequence] = {}
        self._has_deadlines = False
        self._mean_request_s = 1.0
        self._answer_tokens = 0
        self._tuning = tuning or Tuning()
        self.scheduler = Scheduler(
            backend,
            max_running=max_running,
            pace=self._pace,
            states=states,
            checkpoints=checkpoints,
            tuning=self._tuning,
        )

    @property
    def is_idle(self) -> bool:
        """Whether a step would do nothing."""
        return self.scheduler.is_idle

    @property
    def spare_ns(self) -> float | None:
        """How long other work may take before the next step; None where no stream waits for it."""
        if all(sequence.is_prefilling for sequence in self.scheduler.running):
            return None
        return self._pace.spare_ns

    def stats(self) -> EngineStats:
        """What it has done, and what it has at hand."""
        scheduler = self.scheduler
        return EngineStats(
            prompt_tokens_computed=scheduler.prompt_computed,
            prompt_tokens_shared=scheduler.prompt_shared,
            answer_tokens=self._answer_tokens,
            tokens_drafted=0 if self.guesses is None else self.guesses.drafted,
            tokens_accepted=0 if self.guesses is None else self.guesses.accepted,
            preemptions=scheduler.preemptions,
            running=len(scheduler.running),
            waiting=len(scheduler.waiting),
            cells=self._backend.num_cells,
            cells_used=scheduler.tree.used,
        )

    def expected_wait_s(self, waiting: int) -> float:
        """About how long a request would wait behind so many others. Any thread may ask."""
        running = max(1, len(self.scheduler.running))
        return max(1.0, self._mean_request_s * waiting / running)

    def add(
        self,
        key: int,
        request: GenerationRequest,
        prompt: Sequenced[int],
        *,
        truncated: int = 0,
        gate: TokenGate | None = None,
        spans: tuple[Span, ...] = (),
    ) -> None:
        """Queue a request whose prompt is not empty and shorter than the context.

        `gate` says which tokens may come, for a request with a constraint; `spans` are where
        images stand in the prompt. They cannot be cut: a full context then ends the answer.
        """
        assert 0 < len(prompt) < self._context_length or len(prompt) == self._context_length == 1
        answer = Answer(
            request,
            self._vocabulary,
            num_prompt=len(prompt),
            context_length=self._context_length,
            truncated=truncated,
            can_shift=not spans and (self._backend.can_shift or self._backend.can_share),
            now_ns=self._clock_ns(),
            gate=gate,
        )
        sequence = Sequence(
            key=key,
            tokens=list(prompt),
            num_prompt=len(prompt),
            sampling=request.sampling,
            priority=request.priority,
            client=request.client,
            group=adapter_group(request),
            is_exclusive=request.deterministic,
            spans=spans,
            work=answer,
        )
        if self._backend.has_points:
            least = self._tuning.min_point
            sequence.marks = marks(prompt, self._vocabulary.control_tokens, least=least)
        self._has_deadlines |= request.deadline_s is not None
        self._sequences[key] = sequence
        self.scheduler.add(sequence)

    def cancel(self, key: int) -> Piece | None:
        """End a request now; its cells are free when this returns. None where it was over."""
        sequence = self._sequences.get(key)
        return None if sequence is None else self._finish(sequence, FinishReason.CANCELLED)

    def step(self) -> list[Piece]:
        """Compute one batch and return what it adds to the answers."""
        scheduler = self.scheduler
        started = self._clock_ns()
        late = self._end_late(started) if self._has_deadlines else []
        if self.guesses is not None:
            self.guesses.guess(scheduler.running)
        planned = self._clock_ns()
        plan = scheduler.plan()
        if not plan.rows and plan.image is None:
            return late
        for sequence, _ in plan.advanced:
            sequence.work.note_start(started)
        self._backend.use_adapters(plan.advanced[0][0].work.request.adapters)
        if plan.image is None:
            status = self._backend.decode(plan.rows)
        else:
            status = self._backend.decode_image(plan.image)
        if status is not DecodeStatus.DONE:
            return late + self._recover(plan, status)
        scheduler.applied(plan)
        if plan.image is not None:
            return late
        took = self._clock_ns() - planned
        if not plan.num_drafted:
            self._pace.note(took, streams=plan.num_streams, rows=len(plan.rows))
        elif self.guesses is not None and len(plan.rows) == plan.num_streams + plan.num_drafted:
            self.guesses.note_step(plan, took)
        return late + self._draw(plan)

    def _draw(self, plan: Plan) -> list[Piece]:
        plain = [(sequence, row) for sequence, row in plan.draws if not sequence.draft]
        draws = [(self._sampler_of(sequence), row) for sequence, row in plain]
        tokens = self._backend.sample(draws)
        now = self._clock_ns()
        pieces = [
            self._piece(sequence, self._take(sequence, row, token, now))
            for (sequence, row), token in zip(plain, tokens, strict=True)
        ]
        if plan.num_drafted:
            drafted = [(sequence, row) for sequence, row in plan.draws if sequence.draft]
            pieces += [self._check_draft(sequence, row, now) for sequence, row in drafted]
        return pieces

    def _check_draft(self, sequence: Sequence, row: int, now: int) -> Piece:
        """Draw at each row of a draft, as long as what is drawn is what was guessed."""
        draft, sequence.draft = sequence.draft, ()
        sampler = self._sampler_of(sequence)
        length = len(sequence.tokens)
        reason, accepted = None, 0
        for number in range(len(draft) + 1):
            (token,) = self._backend.sample([(sampler, row + number)])
            reason = self._take(sequence, row + number, token, now)
            if reason is not None or number == len(draft) or token != draft[number]:
                break
            accepted += 1
        if self.guesses is not None:
            self.guesses.note(sequence, accepted, len(draft))
        if length + accepted < sequence.computed:
            self.scheduler.cut(sequence, length + accepted)
        return self._piece(sequence, reason)

    def _take(self, sequence: Sequence, row: int, token: int, now: int) -> FinishReason | None:
        """A token was drawn from a row; why the answer ends with it, None where it goes on."""
        answer: Answer = sequence.work
        answer.failures = 0
        if answer.wants_logprobs:
            answer.note_logprobs(*self._backend.logprobs(row, token, answer.num_top))
        reason = answer.take(token, now)
        if answer.has_taken:
            sequence.tokens.append(token)
            self._answer_tokens += 1
        return reason

    def _piece(self, sequence: Sequence, reason: FinishReason | None) -> Piece:
        """What a step adds to an answer that ends for a reason, or goes on."""
        if reason is None and len(sequence.tokens) > self._context_length:
            reason = self._shift(sequence)
        if reason is not None:
            return self._finish(sequence, reason)
        answer: Answer = sequence.work
        return answer.piece(sequence.key, cached=sequence.cached)

    def _shift(self, sequence: Sequence) -> FinishReason | None:
        """Make room in a full context, or say that the answer ends here."""
        request: GenerationRequest = sequence.work.request
        keep = max(0, min(request.num_keep, self._context_length // 2))
        discard = (self._context_length - keep) // 2
        if not (request.shift and sequence.work.can_shift and discard):
            return FinishReason.LENGTH
        self.scheduler.shift(sequence, keep, discard)
        return None

    def _sampler_of(self, sequence: Sequence) -> TokenSampler:
        answer: Answer = sequence.work
        if answer.sampler is None:
            history = sequence.tokens
            if sequence.spans:
                history = [token for token in history if token >= 0]
            answer.sampler = self._backend.sampler(
                sequence.sampling, history, gate=answer.gate, intact=answer.wants_logprobs
            )
        return answer.sampler

    def _finish(self, sequence: Sequence, reason: FinishReason) -> Piece:
        answer: Answer = sequence.work
        piece = answer.last_piece(
            sequence.key,
            reason,
            now_ns=self._clock_ns(),
            cached=sequence.cached,
            tokens=sequence.tokens,
        )
        assert piece.usage is not None
        took_s = (piece.usage.prompt_ns + piece.usage.decode_ns) / 1e9
        self._mean_request_s += (took_s - self._mean_request_s) / 8
        self._drop(sequence)
        return piece

    def _drop(self, sequence: Sequence) -> None:
        sequence.work.close()
        if self.guesses is not None:
            self.guesses.forget(sequence.key)
        del self._sequences[sequence.key]
        self.scheduler.remove(sequence)

    def _fail(self, sequence: Sequence, error: str) -> Piece:
        self._drop(sequence)
        return Piece(sequence.key, error=error)

    def _end_late(self, now: int) -> list[Piece]:
        late = [sequence for sequence in self._sequences.values() if sequence.work.is_late(now)]
        return [self._fail(sequence, LATE) for sequence in late]

    def _recover(self, plan: Plan, status: DecodeStatus) -> list[Piece]:
        """Nothing was computed: make room and try again, or give up those that keep failing."""
        if status is DecodeStatus.NO_ROOM and self.scheduler.preempt_youngest():
            return []
        self.scheduler.restart_all()
        pieces = []
        for sequence, _ in plan.advanced:
            sequence.work.failures += 1
            if sequence.work.failures >= MAX_FAILURES:
                pieces.append(self._fail(sequence, "the engine cannot decode it"))
        return pieces


def adapter_group(request: GenerationRequest) -> str:
    """What distinguishes the cells of a request's adapters from those of others."""
    if request.adapters is None:
        return ""
    return ",".join(f"{number}:{scale}" for number, scale in sorted(request.adapters)) or "none"
