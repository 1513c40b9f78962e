from __future__ import annotations

from support.schedules import WORDS

from pannier.runtime.answer import Piece
from pannier.runtime.engine import Engine
from pannier.runtime.hoststates import HostStates
from pannier.runtime.plan import Tuning
from pannier.runtime.prefix import CellTree
from pannier.runtime.request import FinishReason, GenerationRequest, SamplingParams
from pannier.runtime.scripted import ScriptedBackend
from pannier.runtime.sequence import Sequence
from pannier.runtime.waiting import AGEING_STEPS, WaitingRoom


def backend_of(
    num_cells: int, *, batch_size: int = 512, num_sequences: int = 32
) -> ScriptedBackend:
    return ScriptedBackend(num_cells=num_cells, num_sequences=num_sequences, batch_size=batch_size)


def engine_of(
    backend: ScriptedBackend, *, context: int = 1000, running: int = 8, states: int = 0
) -> Engine:
    return Engine(
        backend,
        WORDS,
        context_length=context,
        max_running=running,
        states=HostStates(states),
        tuning=Tuning(growth_reserve=0, min_saved=1),
        clock_ns=iter(range(10**9)).__next__,
    )


def request_of(**fields: object) -> GenerationRequest:
    values = {"prompt": (), "sampling": SamplingParams(seed=1), "max_tokens": 1, **fields}
    return GenerationRequest(**values)  # type: ignore[arg-type]  # values of mixed types by name


def run(engine: Engine) -> dict[int, Piece]:
    ends: dict[int, Piece] = {}
    while not engine.is_idle:
        ends |= {p.key: p for p in engine.step() if p.finish is not None or p.error is not None}
    return ends


def test_eight_requests_compute_a_common_beginning_once() -> None:
    backend = backend_of(8000)
    engine = engine_of(backend)
    stem = [1 + number % 6 for number in range(600)]
    for key in range(8):
        engine.add(key, request_of(), [*stem, 1 + key % 6, 5, 1 + key // 6])
    ends = run(engine)
    cached = [end.usage.cached_tokens for end in ends.values() if end.usage is not None]
    assert sorted(cached)[:2] == [0, 600]
    assert backend.decoded_rows < 600 + 8 * 4
    stats = engine.stats()
    assert stats.prompt_tokens_computed == backend.decoded_rows
    assert stats.prompt_tokens_computed + stats.prompt_tokens_shared == 8 * 603


def test_a_common_beginning_is_shared_while_its_owner_runs() -> None:
    backend = backend_of(8000)
    engine = engine_of(backend)
    stem = [1 + number % 6 for number in range(100)]
    engine.add(1, request_of(max_tokens=900), stem)
    engine.step()
    engine.add(2, request_of(), [*stem, 3])
    engine.step()
    assert backend.decoded_rows <= 100 + 1 + 2


def test_a_conversation_goes_on_without_computing_it_again() -> None:
    backend = backend_of(8000)
    engine = engine_of(backend)
    engine.add(1, request_of(), [1, 2, 3, 4] * 30)
    run(engine)
    before = backend.decoded_rows
    engine.add(2, request_of(), [*([1, 2, 3, 4] * 30), 5, 6])
    ends = run(engine)
    assert backend.decoded_rows - before == 2
    assert ends[2].usage is not None
    assert ends[2].usage.cached_tokens == 120


def test_more_demand_than_cells_fails_nobody() -> None:
    backend = backend_of(200)
    engine = engine_of(backend, context=150, states=10**6)
    for key in range(8):
        prompt = [1 + (key + number) % 6 for number in range(40 + key)]
        engine.add(key, request_of(max_tokens=60, sampling=SamplingParams(seed=key)), prompt)
    ends = run(engine)
    assert len(ends) == 8
    assert all(end.error is None for end in ends.values())


def test_a_full_context_shifts_and_goes_on() -> None:
    backend = backend_of(64)
    engine = engine_of(backend, context=32)
    engine.add(1, request_of(max_tokens=100, sampling=SamplingParams(seed=12)), [1, 2, 3])
    end = run(engine)[1]
    assert end.usage is not None
    assert backend.used_cells <= 32
    assert end.finish is FinishReason.STOP or end.usage.completion_tokens == 100


def test_a_full_context_ends_the_answer_where_it_may_not_shift() -> None:
    engine = engine_of(backend_of(64), context=8)
    engine.add(1, request_of(max_tokens=None, shift=False, sampling=SamplingParams(seed=5)), [1])
    end = run(engine)[1]
    assert end.usage is not None
    assert end.usage.completion_tokens <= 8


def test_a_deadline_ends_a_request_with_an_error() -> None:
    engine = engine_of(backend_of(64))
    engine.add(1, request_of(max_tokens=1000, deadline_s=1e-9), [1, 2, 3])
    assert run(engine)[1].error == "its deadline has passed"


def test_a_deterministic_request_runs_alone() -> None:
    backend = backend_of(1000)
    engine = engine_of(backend)
    engine.add(1, request_of(max_tokens=3), [1, 2, 3])
    engine.add(2, request_of(max_tokens=3, deterministic=True), [1, 2, 3])
    engine.add(3, request_of(max_tokens=3), [1, 2, 3])
    while not engine.is_idle:
        engine.step()
        running = engine.scheduler.running
        assert len(running) <= 1 or not any(sequence.is_exclusive for sequence in running)
    usage = run(engine)
    assert usage == {}


def test_a_long_prompt_is_computed_in_small_pieces_beside_streams() -> None:
    backend = backend_of(4000)
    engine = engine_of(backend)
    engine.add(1, request_of(max_tokens=400, sampling=SamplingParams(seed=3)), [1, 2, 3])
    engine.step()
    engine.add(2, request_of(), [2] * 900)
    before = backend.decoded_rows
    engine.step()
    assert backend.decoded_rows - before <= 65


def sequence_of(key: int, *, client: str = "", priority: int = 0, size: int = 10) -> Sequence:
    return Sequence(key, [1] * size, size, client=client, priority=priority)


def order(room: WaitingRoom, step: int = 0) -> list[int]:
    return [sequence.key for sequence in room.in_order(step=step)]


def test_many_short_prompts_beside_one_stream_start_together() -> None:
    backend = backend_of(4000)
    engine = engine_of(backend)
    engine.add(0, request_of(max_tokens=50), [1, 2])
    engine.step()
    for key in range(1, 8):
        engine.add(key, request_of(max_tokens=50), [1 + key % 6, *[1 + key // 6] * 40])
    engine.step()
    assert not any(sequence.is_prefilling for sequence in engine.scheduler.running)
    assert not engine.scheduler.waiting
    assert engine.stats().prompt_tokens_computed > 7 * 38


def test_as_many_prompts_as_streams_start_together_where_they_are_short() -> None:
    for length, together in ((40, True), (100, False)):
        engine = engine_of(backend_of(4000))
        for key in range(8):
            engine.add(key, request_of(max_tokens=50), [1 + key % 6, *[2 + key // 6] * length])
            if key == 3:
                engine.step()
        engine.step()
        left = any(sequence.is_prefilling for sequence in engine.scheduler.running)
        assert left is not together


def test_one_client_does_not_keep_another_waiting() -> None:
    room = WaitingRoom()
    for key in range(5):
        room.add(sequence_of(key, client="greedy"), step=0)
    room.add(sequence_of(9, client="modest"), step=0)
    assert order(room)[:2] == [0, 9]


def test_priority_goes_before_arrival_until_age_makes_up_for_it() -> None:
    room = WaitingRoom()
    room.add(sequence_of(1, priority=1), step=0)
    room.add(sequence_of(2, priority=0), step=1)
    assert order(room, step=10) == [2, 1]
    room.add(sequence_of(3, priority=0), step=2 * AGEING_STEPS)
    assert order(room, step=2 * AGEING_STEPS)[0] == 1


def test_a_cut_gives_back_own_cells_only() -> None:
    tree = CellTree()
    tree.attach(0, tree.match([1], limit=0))
    tree.extend(0, [1, 2, 3, 4])
    tree.attach(1, tree.match([1, 2, 3, 9], limit=3))
    tree.extend(1, [9, 9])
    assert (tree.used, tree.length(1)) == (6, 5)
    tree.cut(1, 2)
    assert (tree.used, tree.tokens(1)) == (4, [1, 2])
    tree.release(0)
    assert tree.used == 2


def test_equal_tokens_of_other_adapters_are_not_shared() -> None:
    tree = CellTree()
    tree.attach(0, tree.match([1], limit=0, group="a"))
    tree.extend(0, [1, 2, 3])
    assert tree.match([1, 2, 3, 4], limit=3, group="b").length == 0
    assert tree.match([1, 2, 3, 4], limit=3, group="a").length == 3


def sweeping(states: int, *, cells: int = 8000) -> tuple[ScriptedBackend, Engine]:
    """An engine with three finished requests of 400 tokens in its cells."""
    backend = backend_of(cells)
    engine = engine_of(backend, context=2000, states=states)
    for key in range(3):
        engine.add(key, request_of(), [key + 1, *(1 + at % 5 for at in range(400))])
        run(engine)
    return backend, engine


def test_a_long_prompt_finds_no_stale_cells_and_what_was_there_comes_back() -> None:
    _, engine = sweeping(1 << 20)
    assert engine.scheduler.tree.used > 1200
    engine.add(10, request_of(), [6, *(1 + at % 5 for at in range(900))])
    run(engine)
    assert engine.scheduler.tree.used < 1000
    engine.add(11, request_of(), [2, *(1 + at % 5 for at in range(400)), 3])
    usage = run(engine)[11].usage
    assert usage is not None
    assert usage.cached_tokens >= 400


def test_cells_that_a_long_prompt_shares_are_not_swept() -> None:
    _, engine = sweeping(1 << 20)
    engine.add(10, request_of(), [2, *(1 + at % 5 for at in range(400)), *([6] * 700)])
    usage = run(engine)[10].usage
    assert usage is not None
    assert usage.cached_tokens >= 400


def test_nothing_is_swept_that_could_not_come_back() -> None:
    for states, used in ((0, 2100), (6_000, 1700)):
        _, engine = sweeping(states)
        engine.add(10, request_of(), [6, *(1 + at % 5 for at in range(900))])
        run(engine)
        assert engine.scheduler.tree.used >= used
