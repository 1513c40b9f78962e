from __future__ import annotations

from support.schedules import WORDS

from pannier.runtime.answer import Piece
from pannier.runtime.checkpoints import MOST_PLACES, Checkpoints, places
from pannier.runtime.engine import Engine
from pannier.runtime.hoststates import HostStates
from pannier.runtime.plan import Tuning
from pannier.runtime.request import GenerationRequest, SamplingParams
from pannier.runtime.scripted import ScriptedBackend

STEM = [1 + number % 5 for number in range(300)]


def engine_of(backend: ScriptedBackend, *, budget: int = 1 << 20) -> Engine:
    return Engine(
        backend,
        WORDS,
        context_length=1000,
        max_running=8,
        states=HostStates(0),
        checkpoints=Checkpoints(budget),
        tuning=Tuning(growth_reserve=0, min_saved=1),
        clock_ns=iter(range(10**9)).__next__,
    )


def backend_of(num_cells: int = 8000, *, window: int = 0) -> ScriptedBackend:
    return ScriptedBackend(
        num_cells=num_cells,
        num_sequences=16,
        batch_size=512,
        can_share=bool(window),
        can_shift=False,
        has_points=not window,
        window=window,
        loses=lambda most: most,
    )


def run(engine: Engine, *prompts: list[int]) -> list[int]:
    """How many tokens of each prompt were computed before."""
    for key, prompt in enumerate(prompts):
        request = GenerationRequest((), sampling=SamplingParams(seed=1), max_tokens=1)
        engine.add(key, request, prompt)
    ends: dict[int, Piece] = {}
    while not engine.is_idle:
        ends |= {piece.key: piece for piece in engine.step() if piece.finish is not None}
    return [end.usage.cached_tokens for _, end in sorted(ends.items()) if end.usage is not None]


def test_the_least_recently_used_copy_goes_first() -> None:
    checkpoints = Checkpoints(3 * (100 + 4 * 10))
    texts = [[number] * 10 for number in range(4)]
    for text in texts[:3]:
        checkpoints.add(text, bytes(100), "")
    checkpoints.longest([*texts[0], 9], limit=10, group="")
    checkpoints.add(texts[3], bytes(100), "")
    assert [checkpoints.has(text, "") for text in texts] == [True, False, True, True]
    assert checkpoints.size == 3 * 140


def test_a_copy_larger_than_the_budget_is_not_kept() -> None:
    checkpoints = Checkpoints(100)
    checkpoints.add([1, 2], bytes(200), "")
    assert checkpoints.size == 0
    assert checkpoints.longest([1, 2, 3], limit=2, group="") is None


def test_copies_of_other_adapters_are_not_found() -> None:
    checkpoints = Checkpoints(1000)
    checkpoints.add([1, 2], b"state", "0:1")
    assert checkpoints.longest([1, 2, 3], limit=3, group="") is None


def test_a_prompt_leaves_no_more_copies_than_the_most() -> None:
    assert len(places(range(1000), start=0, end=1000, least=10)) == MOST_PLACES


def test_a_common_beginning_of_states_is_computed_once() -> None:
    backend = backend_of()
    prompts = [[*STEM, 6, 1 + number, *STEM[:40]] for number in range(5)]
    assert sorted(run(engine_of(backend), *prompts)) == [0, *[len(STEM) + 1] * 4]
    assert backend.decoded_rows < len(STEM) + 5 * 50


def test_without_a_budget_states_are_computed_again() -> None:
    prompts = [[*STEM, 6, 1 + number] for number in range(3)]
    assert run(engine_of(backend_of(), budget=0), *prompts) == [0, 0, 0]


def test_a_window_is_shared_only_where_its_end_is_whole() -> None:
    engine = engine_of(backend_of(window=20))
    assert run(engine, STEM) == [0]
    # Somebody else's step, for which cells are taken that nobody sees.
    assert run(engine, [6, 6, 6]) == [0]
    assert run(engine, [*STEM[:200], 6, 6]) == [0]
    assert run(engine, [*STEM, 6, 6]) == [len(STEM)]
