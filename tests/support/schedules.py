"""Random schedules of an engine over a scripted decoder, with everything checked at every step."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pannier.runtime.answer import Piece, Vocabulary
from pannier.runtime.checkpoints import Checkpoints
from pannier.runtime.engine import Engine
from pannier.runtime.hoststates import HostStates
from pannier.runtime.pictures import Picture, Slice, Span, lay_out, row_tokens
from pannier.runtime.plan import Tuning
from pannier.runtime.request import FinishReason, GenerationRequest, SamplingParams
from pannier.runtime.scripted import END, VOCABULARY, ScriptedBackend, script, seen_of
from pannier.runtime.sequence import Phase

WORDS = Vocabulary(
    pieces=tuple(bytes([ord("a") + token]) for token in range(VOCABULARY)),
    end_tokens=frozenset({END}),
    control_tokens=frozenset(),
)
# No schedule of this size takes as many steps unless something starves.
MAX_STEPS = 5000


@dataclass
class Asked:
    """A request and what came of it."""

    prompt: list[int]
    spans: tuple[Span, ...]
    seed: int
    max_tokens: int
    text: str = ""
    tokens: int = 0
    end: Piece | None = None
    is_cancelled: bool = False


class RandomDrafter:
    """Implements `guesses.Drafter`; its guesses are those of a seed, which may be the right one."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self.known: set[int] = set()

    def follow(self, key: int, tokens: Sequence[int]) -> bool:
        self.known.add(key)
        return self._dice.random() < 0.9

    def draft(self, tokens: Sequence[int], most: int) -> tuple[int, ...]:
        return tuple(script(tokens, self._dice.randint(0, 3), self._dice.randint(0, most)))

    def forget(self, key: int) -> None:
        self.known.discard(key)


@dataclass
class Schedule:
    """One random run; `play` raises AssertionError where anything is wrong."""

    seed: int
    asked: dict[int, Asked] = field(default_factory=dict)

    def play(self) -> None:
        dice = random.Random(self.seed)
        context = dice.randint(8, 40)
        can_share = dice.random() < 0.7
        self.backend = ScriptedBackend(
            num_cells=context + dice.choice([0, 0, 5, 40, 200]),
            num_sequences=dice.randint(1, 6),
            batch_size=dice.randint(1, 24),
            can_share=can_share,
            can_shift=can_share and dice.random() < 0.7,
            has_points=not can_share and dice.random() < 0.7,
            window=dice.choice([0, 0, 2, 8]) if can_share else 0,
            loses=lambda most: dice.randint(0, most) if dice.random() < 0.3 else 0,
            fails=lambda: dice.random() < fail_rate,
        )
        fail_rate = dice.choice([0, 0, 0, 0.05])
        self.engine = Engine(
            self.backend,
            replace(WORDS, control_tokens=frozenset({6})),
            context_length=context,
            max_running=dice.randint(1, 8),
            states=HostStates(dice.choice([0, 2000, 100_000])),
            checkpoints=Checkpoints(dice.choice([0, 1500, 100_000])),
            tuning=Tuning(
                min_point=dice.choice([1, 4, 16]),
                max_points=dice.choice([1, 8]),
                growth_reserve=dice.choice([0, 1, 3, 32]),
                min_common=dice.choice([1, 4, 16]),
                min_saved=dice.choice([1, 4, 64]),
                min_swept=dice.choice([1, 8, 512]),
                group_patience=dice.choice([0, 5, 100]),
            ),
            max_draft=dice.choice([0, 0, 2, 6]),
            drafter=dice.choice([None, RandomDrafter(dice)]),
            clock_ns=iter(range(10**9)).__next__,
        )
        self.pictures = [self._picture(number, dice) for number in range(3)]
        stems = [[dice.randint(1, 6) for _ in range(context)] for _ in range(3)]
        pending = dice.randint(1, 8)
        for _ in range(MAX_STEPS):
            if pending and dice.random() < 0.4:
                pending -= 1
                self._ask(dice, stems, context)
            if self.asked and dice.random() < 0.05:
                self._cancel(dice.choice(list(self.asked)))
            if not pending and self.engine.is_idle:
                break
            self._collect(self.engine.step())
            self._check_cells()
        else:
            raise AssertionError("a request starves")
        for key, asked in self.asked.items():
            self._check_answer(key, asked, failing=fail_rate > 0)
        self._check_stats(failing=fail_rate > 0)

    def _ask(self, dice: random.Random, stems: list[list[int]], context: int) -> None:
        key = len(self.asked) + 1
        stem = dice.choice(stems)
        prompt = stem[: dice.randint(1, context - 1)]
        prompt[len(prompt) // 2 :] = (
            prompt[len(prompt) // 2 :]
            if dice.random() < 0.6
            else [dice.randint(1, 6) for _ in prompt[len(prompt) // 2 :]]
        )
        prompt, spans = self._show(prompt, dice, context)
        asked = Asked(prompt, spans, dice.randint(0, 3), dice.randint(0, context - len(prompt)))
        self.asked[key] = asked
        request = GenerationRequest(
            (),
            sampling=SamplingParams(seed=asked.seed),
            max_tokens=asked.max_tokens,
            priority=dice.randint(0, 2),
            client=dice.choice("ab"),
            shift=False,
            control_tokens=True,
            deterministic=dice.random() < 0.05,
            adapters=dice.choice([None, None, None, ((0, 1.0),)]),
        )
        self.engine.add(key, request, prompt, spans=spans)

    def _picture(self, number: int, dice: random.Random) -> Picture:
        is_causal = dice.random() < 0.5
        cells = dice.randint(1, 9 if is_causal else min(9, self.backend.batch_size))
        # No model has both windows and rows that share positions.
        shared = cells if self.backend.cuttable < self.backend.num_cells else dice.randint(1, cells)
        image = Slice(row_tokens(str(number), 0, cells), shared, 1, None, is_causal=is_causal)
        return Picture(str(number), ((1,), image, (2,)))

    def _show(
        self, prompt: list[int], dice: random.Random, context: int
    ) -> tuple[list[int], tuple[Span, ...]]:
        """The prompt with images in it, in a third of all cases."""
        if dice.random() > 0.3:
            return prompt, ()
        cut = dice.randint(0, len(prompt))
        shown = dice.choices(self.pictures, k=dice.randint(1, 2))
        tokens, spans = lay_out([prompt[:cut], *shown, prompt[cut:]])
        return (tokens, spans) if len(tokens) < context else (prompt, ())

    def _cancel(self, key: int) -> None:
        piece = self.engine.cancel(key)
        if piece is not None:
            self.asked[key].is_cancelled = True
            self._collect([piece])

    def _collect(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            asked = self.asked[piece.key]
            assert asked.end is None, "a piece after the end"
            asked.text += piece.text
            asked.tokens += piece.tokens
            if piece.finish is not None or piece.error is not None:
                asked.end = piece

    def _check_cells(self) -> None:
        scheduler = self.engine.scheduler
        assert self.backend.used_cells == scheduler.tree.used
        assert 0 <= scheduler.tree.active <= scheduler.tree.used <= self.backend.num_cells
        slots = [sequence.slot for sequence in scheduler.running]
        assert len(set(slots)) == len(slots)
        for sequence in scheduler.running:
            assert sequence.phase is Phase.RUNNING
            seen = seen_of(sequence.tokens[: sequence.computed], sequence.spans)
            assert self.backend.seen(sequence.slot) == seen
        if not scheduler.running:
            assert scheduler.tree.active == 0

    def _check_stats(self, *, failing: bool) -> None:
        stats = self.engine.stats()
        asked = self.asked.values()
        assert (stats.running, stats.waiting) == (0, 0)
        assert stats.answer_tokens == sum(one.tokens for one in asked) or failing
        if any(one.is_cancelled for one in asked):
            return
        prompts = sum(len(one.prompt) for one in asked)
        known = stats.prompt_tokens_computed + stats.prompt_tokens_shared
        # Who had to leave computes some tokens again, or finds that others have computed them.
        assert known == prompts or failing or stats.preemptions

    def _check_answer(self, key: int, asked: Asked, *, failing: bool) -> None:
        assert asked.end is not None, f"request {key} got no end"
        if asked.end.error is not None:
            assert failing
            return
        expected = script(asked.prompt, asked.seed, asked.max_tokens, asked.spans)
        text = "".join(chr(ord("a") + token) for token in expected)
        if asked.is_cancelled:
            assert text.startswith(asked.text)
            return
        usage = asked.end.usage
        assert usage is not None
        assert asked.text == text
        assert asked.tokens == usage.completion_tokens == len(expected)
        assert 0 <= usage.cached_tokens < len(asked.prompt)
        ended_by_itself = len(expected) < asked.max_tokens
        assert asked.end.finish is (FinishReason.STOP if ended_by_itself else FinishReason.LENGTH)
