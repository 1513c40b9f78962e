"""Models that keep states or windows instead of all cells, against bare decoding of one sequence.

Their weights are random F32 values, so that near-ties do not happen and tokens can be compared.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.engines import Bench, bare, regret
from support.tinyarch import tiny

from pannier.runtime.answer import Piece
from pannier.runtime.model import Model
from pannier.runtime.native import native
from pannier.runtime.request import LoadOptions

pytestmark = pytest.mark.engine

ARCHITECTURES = ["mamba", "jamba", "lfm2", "falcon-h1", "granitehybrid", "qwen3next", "gemma3"]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Model]:
    path: Path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    native().start()
    model = Model.load([tiny(request.param, path)], LoadOptions())
    yield model
    model.close()


def text_of(seed: int, count: int) -> list[int]:
    """Tokens of random ASCII letters, which any two seeds have hardly any of in common."""
    dice = random.Random(seed)
    return [dice.randint(259, 352) for _ in range(count)]


def check(model: Model, end: Piece, prompt: list[int]) -> None:
    """That every token is as good as the best that bare decoding finds in its place.

    Batches of other shapes round differently, which decides ties; anything wrong costs far more.
    """
    assert regret(model, list(end.context), len(prompt)) < 0.01


def cached(end: Piece) -> int:
    assert end.usage is not None
    return end.usage.cached_tokens


def turns(bench: Bench, model: Model, prompts: list[list[int]]) -> list[int]:
    """Answer one prompt after the other; how many tokens of each were computed before."""
    known = []
    for key, prompt in enumerate(prompts):
        bench.add(key, prompt)
        (end,) = bench.run().values()
        check(model, end, prompt)
        known.append(cached(end))
    return known


def test_a_lone_prompt_is_answered_as_by_bare_decoding(model: Model) -> None:
    prompt = text_of(9, 60)
    with Bench(model) as bench:
        bench.add(1, prompt)
        end = bench.run()[1]
    assert list(end.context) == bare(model, prompt, 12)


def test_many_prompts_at_once_are_answered_as_by_bare_decoding(model: Model) -> None:
    prompts = [text_of(seed, 20 + 15 * seed) for seed in range(5)]
    with Bench(model) as bench:
        for key, prompt in enumerate(prompts):
            bench.add(key, prompt)
        ends = bench.run()
    for key, prompt in enumerate(prompts):
        check(model, ends[key], prompt)


def test_a_saved_state_is_continued_only_where_that_is_exact(model: Model) -> None:
    first, second = text_of(1, 200), text_of(2, 200)
    prompts = [first, second, first[:150] + text_of(3, 9), first[:120] + text_of(4, 90), first]
    with Bench(model, cells=256, context=256, states=1 << 28) as bench:
        turns(bench, model, prompts)


def test_a_sequence_that_lost_its_cells_goes_on_identically(model: Model) -> None:
    prompts = [text_of(seed, 90) for seed in range(5)]
    with Bench(model, cells=300, context=256, states=1 << 28, checkpoints=1 << 20) as bench:
        for key, prompt in enumerate(prompts):
            bench.add(key, prompt, max_tokens=60)
        ends = bench.run()
        assert bench.engine.scheduler.preemptions > 0
    for key, prompt in enumerate(prompts):
        check(model, ends[key], prompt)


def test_the_next_turn_of_a_chat_computes_only_what_is_new(model: Model) -> None:
    system, question, answer = text_of(1, 120), text_of(2, 60), text_of(3, 40)
    control = [model.eos]
    first = system + control + question + control
    # The template gives the answer back in other words, as those do that drop the thinking.
    second = first + answer + control + text_of(4, 60) + control
    other = system + control + text_of(5, 60) + control
    with Bench(model, checkpoints=1 << 20) as bench:
        known = turns(bench, model, [first, second, other, first])
    assert known[0] == 0
    assert known[1] >= len(first) - 1
    assert known[2] >= len(system)
    assert known[3] >= len(first) - 1


def test_what_two_prompts_have_in_common_is_kept_for_the_third(model: Model) -> None:
    stem = text_of(1, 150)
    with Bench(model, checkpoints=1 << 20) as bench:
        known = turns(bench, model, [stem + text_of(seed, 40) for seed in (2, 3, 4)])
    assert known[2] >= len(stem)


def test_requests_that_come_together_compute_their_system_prompt_once(model: Model) -> None:
    stem = text_of(1, 150)
    prompts = [stem + text_of(seed, 40) for seed in range(2, 8)]
    with Bench(model, checkpoints=1 << 20) as bench:
        for key, prompt in enumerate(prompts):
            bench.add(key, prompt)
        ends = bench.run()
    assert sorted(map(cached, ends.values())) == [0, *[len(stem)] * 5]
    for key, prompt in enumerate(prompts):
        check(model, ends[key], prompt)


def test_several_answers_compute_their_prompt_once(model: Model) -> None:
    prompt = text_of(1, 150)
    with Bench(model, checkpoints=1 << 20) as bench:
        for key in range(4):
            bench.add(key, prompt)
        ends = bench.run()
    assert sorted(map(cached, ends.values())) == [0, *[len(prompt) - 1] * 3]
    for end in ends.values():
        check(model, end, prompt)


def test_a_checkpoint_serves_a_sequence_that_had_left_the_cells(model: Model) -> None:
    first, second = text_of(1, 200), text_of(2, 200)
    with Bench(model, cells=256, context=256, states=1 << 28, checkpoints=1 << 20) as bench:
        known = turns(bench, model, [first, second, first])
        assert known[2] == (0 if bench.backend.can_share else len(first) - 1)


def test_a_full_context_shifts_also_where_its_beginning_is_shared(model: Model) -> None:
    prompt = text_of(1, 100)
    with Bench(model, context=128, checkpoints=1 << 20) as bench:
        for key in range(2):
            bench.add(key, prompt, max_tokens=60, never=model.eos)
            end = bench.run()[key]
            assert end.usage is not None
            assert end.usage.completion_tokens == 60


def test_cells_that_a_window_left_behind_are_not_shared(model: Model) -> None:
    long = text_of(1, 300)
    others = [text_of(seed, 200) for seed in range(2, 6)]
    with Bench(model, cells=768, context=512) as bench:
        prompts = [long, *others, long[:150] + text_of(7, 30), long[:250] + text_of(8, 30)]
        turns(bench, model, prompts)
