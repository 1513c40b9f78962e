"""Draft models: what they propose changes how many steps an answer takes, never what it is."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from support.schedules import WORDS

from pannier.runtime.answer import Piece
from pannier.runtime.draft import CATCH_UP, DraftModel
from pannier.runtime.engine import Engine
from pannier.runtime.guesses import Guesses, best_length
from pannier.runtime.hoststates import HostStates
from pannier.runtime.pace import Pace
from pannier.runtime.request import GenerationRequest, SamplingParams
from pannier.runtime.scripted import VOCABULARY, ScriptedBackend, predict, script

SEED = 12


class Foreseeing(ScriptedBackend):
    """A draft model's backend: it finds likeliest what the large one draws with a seed."""

    def logprobs(
        self, row: int, token: int, top: int
    ) -> tuple[tuple[int, float], list[tuple[int, float]]]:
        best = predict(self._predictions[row], SEED)
        return (best, 0.0), [(best, 0.0)]


def backend_of(cells: int = 4000) -> Foreseeing:
    return Foreseeing(num_cells=cells, num_sequences=2, batch_size=256)


def drafter_of(
    backend: Foreseeing, *, vocabulary: int = VOCABULARY, context: int = 1000
) -> DraftModel:
    return DraftModel(backend, vocabulary_size=vocabulary, context_length=context)


class Played:
    """An engine with or without a draft model, and the requests that it answered."""

    def __init__(
        self, *, drafter: DraftModel | None = None, max_draft: int = 4, cells: int = 4000
    ) -> None:
        self.steps = 0
        self.engine = Engine(
            ScriptedBackend(num_cells=cells, num_sequences=8, batch_size=512),
            WORDS,
            context_length=1000,
            max_running=8,
            states=HostStates(0),
            max_draft=max_draft,
            drafter=drafter,
            clock_ns=iter(range(0, 10**12, 1000)).__next__,
        )

    def ask(self, *prompts: Sequence[int], seed: int = SEED, tokens: int = 60) -> list[str]:
        for key, prompt in enumerate(prompts):
            sampling = SamplingParams(seed=seed)
            request = GenerationRequest((), sampling=sampling, max_tokens=tokens)
            self.engine.add(key, request, list(prompt))
        texts = [""] * len(prompts)
        ends: dict[int, Piece] = {}
        while not self.engine.is_idle:
            self.steps += 1
            for piece in self.engine.step():
                texts[piece.key] += piece.text
                if piece.finish is not None:
                    ends[piece.key] = piece
        assert len(ends) == len(prompts)
        return texts


def long_prompt() -> list[int]:
    """A prompt with a long answer."""
    return max(([1 + n % 6, 2, 3, n % 5 + 1] for n in range(60)), key=lambda p: len(text_of(p)))


def text_of(prompt: Sequence[int]) -> str:
    return "".join(chr(ord("a") + token) for token in script(prompt, SEED, 60))


def test_a_draft_model_saves_steps_and_changes_nothing() -> None:
    prompt = long_prompt()
    drafter = drafter_of(backend_of())
    played, plain = Played(drafter=drafter), Played(max_draft=0)
    assert played.ask(prompt) == plain.ask(prompt) == [text_of(prompt)]
    assert played.steps < 0.7 * plain.steps
    stats = played.engine.stats()
    assert 0 < stats.tokens_accepted <= stats.tokens_drafted


def test_wrong_guesses_stop_and_change_nothing() -> None:
    prompt = long_prompt()
    drafter = drafter_of(backend_of())
    texts = Played(drafter=drafter).ask(prompt, seed=3)
    assert texts == Played(max_draft=0).ask(prompt, seed=3)


def test_many_streams_go_without_drafts() -> None:
    drafter = drafter_of(backend_of())
    played = Played(drafter=drafter)
    prompts = [[1, 2, 3, 1 + number] for number in range(6)]
    played.ask(*prompts, tokens=8)
    assert played.engine.stats().tokens_drafted < 8


def test_a_long_text_is_taken_in_part_by_part() -> None:
    backend = backend_of()
    drafter = drafter_of(backend)
    text = [1 + number % 6 for number in range(3 * CATCH_UP)]
    ready = []
    for _ in range(4):
        before = backend.decoded_rows
        ready.append(drafter.follow(1, text))
        assert backend.decoded_rows - before <= CATCH_UP
    assert ready == [False, False, True, True]


def test_a_text_that_lost_its_middle_is_followed_from_there() -> None:
    backend = backend_of()
    drafter = drafter_of(backend)
    text = [1 + number % 6 for number in range(100)]
    drafter.follow(1, text)
    shifted = text[:10] + text[43:]
    while not drafter.follow(1, shifted):
        pass
    assert drafter.draft(shifted, 3) == tuple(script(shifted, SEED, 3))[:3]
    assert backend.seen(0)[:67] == list(enumerate(shifted))


def test_tokens_that_a_draft_model_does_not_know_end_its_guesses() -> None:
    drafter = drafter_of(backend_of(), vocabulary=VOCABULARY - 2)
    assert not drafter.follow(1, [1, 2, 6, *[1] * 20])
    assert drafter.follow(2, [1, 2, 6])
    assert drafter.draft([1, 2, 6], 3) == ()


def test_a_text_longer_than_the_draft_models_context_gets_no_drafts() -> None:
    backend = backend_of()
    assert not drafter_of(backend, context=20).follow(1, [1] * 21)
    assert backend.decoded_rows == 0


def test_a_full_draft_context_costs_nothing_but_drafts() -> None:
    prompt = long_prompt()
    drafter = drafter_of(backend_of(cells=8))
    assert Played(drafter=drafter).ask(prompt) == [text_of(prompt)]


@pytest.mark.parametrize(
    ("chance", "share", "length"), [(0.9, 0.9, 0), (0.1, 0.1, 0), (0.99, 0.05, 8), (0.6, 0.2, 2)]
)
def test_drafts_are_as_long_as_pays(chance: float, share: float, length: int) -> None:
    assert best_length(chance, share, 8) == length


def test_nothing_is_drafted_before_a_plain_step_was_measured() -> None:
    guesses = Guesses(
        Pace(512), most=4, drafter=None, context_length=100, clock_ns=iter(range(99)).__next__
    )
    assert guesses._length(0.99, 4) == 0
