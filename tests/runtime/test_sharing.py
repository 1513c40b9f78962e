"""Shared prefixes and preemption on real models, against bare decoding of one sequence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engines import Bench, bare, fill, regret
from support.models import gemma3, smollm2

from pannier.runtime import context
from pannier.runtime.answer import Piece
from pannier.runtime.backend import Row
from pannier.runtime.model import Model
from pannier.runtime.native import native
from pannier.runtime.request import LoadOptions

pytestmark = pytest.mark.engine

STORY = "The quick brown fox jumps over the lazy dog while the old miller sleeps by the river. "


@pytest.fixture(scope="module", params=[smollm2, gemma3], ids=["smollm2", "gemma3"])
def model(request: pytest.FixtureRequest) -> Iterator[Model]:
    path: Path = request.param()
    native().start()
    model = Model.load([path], LoadOptions())
    yield model
    model.close()


def prompts_of(model: Model, count: int, repeats: int) -> list[list[int]]:
    stem = model.tokenize(STORY * repeats, special=False)
    ends = ["One", "Two apples", "Once upon a time", "The capital of France is", "2 + 2 =", "Dear"]
    if model.adds_bos:
        stem = [model.bos, *stem]
    return [stem + model.tokenize(end, special=False) for end in ends[:count]]


def test_a_lone_prompt_is_answered_as_by_bare_decoding(model: Model) -> None:
    (prompt,) = prompts_of(model, 1, 2)
    with Bench(model) as bench:
        bench.add(1, prompt)
        end = bench.run()[1]
    assert list(end.context) == bare(model, prompt, 12)


def test_shared_prefixes_answer_as_unshared_ones(model: Model) -> None:
    prompts = prompts_of(model, 3, 8)
    with Bench(model) as bench:
        for key, prompt in enumerate(prompts):
            bench.add(key, prompt)
        ends = bench.run()
    cached = [end.usage.cached_tokens for end in ends.values() if end.usage is not None]
    assert len([tokens for tokens in cached if tokens > 100]) == 2
    for key, prompt in enumerate(prompts):
        assert regret(model, list(ends[key].context), len(prompt)) < 0.5


def test_shared_cells_give_the_same_logits_as_own_ones(model: Model) -> None:
    first, second = prompts_of(model, 2, 8)
    stem = next(
        at for at, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]
    )
    results = []
    for shared in (True, False):
        with Bench(model) as bench:
            backend = bench.backend
            fill(backend, first[:stem], 0)
            # As many cells in both cases, since attention is summed in pieces of all cells.
            fill(backend, first[:stem], 2 if shared else 1)
            if shared:
                backend.copy(0, 1, stem)
            backend.decode([Row(first[stem], stem, 0, True), Row(second[stem], stem, 1, True)])
            results.append(backend.logprobs(1, 0, 10)[1])
    shared_best, own_best = (dict(result) for result in results)
    assert results[0][0][0] == results[1][0][0]
    common = shared_best.keys() & own_best.keys()
    assert len(common) >= 8
    # Other cells in other places are summed in another order: up to 0.5 with flash attention.
    assert max(abs(shared_best[token] - own_best[token]) for token in common) < 0.5


def test_a_sequence_that_lost_its_cells_goes_on_identically(model: Model) -> None:
    prompts = [prompt[-150:] for prompt in prompts_of(model, 3, 10)]
    with Bench(model, cells=512, states=1 << 28) as bench:
        for key, prompt in enumerate(prompts):
            # One by one: in a batch of 450 rows Gemma's logits differ by up to 1.1.
            bench.add(key, prompt, max_tokens=50)
            bench.engine.step()
        ends = bench.run()
        assert bench.engine.scheduler.preemptions > 0
    for end in ends.values():
        assert regret(model, list(end.context), 150) < 0.5


def test_guessed_tokens_change_nothing_but_the_steps_it_takes(model: Model) -> None:
    prompt = model.tokenize("one two three four five six seven eight nine ten " * 6, special=False)
    with Bench(model, max_draft=4) as bench:
        bench.add(1, prompt, max_tokens=40)
        ends: dict[int, Piece] = {}
        steps = 0
        while not bench.engine.is_idle:
            steps += 1
            ends |= {piece.key: piece for piece in bench.engine.step() if piece.finish}
    assert steps < 35
    assert regret(model, list(ends[1].context), len(prompt)) < 0.5


def test_threads_draw_the_same_tokens(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = prompts_of(model, 4, 1)
    results = []
    for least in (1, 1 << 30):
        monkeypatch.setattr(context, "PARALLEL_VOCABULARY", least)
        with Bench(model, samplers=2) as bench:
            for key, prompt in enumerate(prompts):
                bench.add(key, prompt, max_tokens=6, temperature=1.0)
            ends = bench.run()
            results.append([ends[key].context for key in range(len(prompts))])
    assert results[0] == results[1]


def test_a_saved_state_continues_with_the_same_logits(model: Model) -> None:
    (prompt,) = prompts_of(model, 1, 4)
    results = []
    with Bench(model) as bench:
        backend = bench.backend
        fill(backend, prompt[:-1], 0)
        state = backend.save(0)
        assert state is not None
        for _ in range(2):
            backend.decode([Row(prompt[-1], len(prompt) - 1, 0, True)])
            results.append(backend.logprobs(0, 0, 10)[1])
            backend.clear()
            assert backend.restore(0, state)
    assert results[0] == results[1]
