from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.ending import wait_for_end
from support.gguf import tiny_llama
from support.models import source_of

from pannier.pkgmgr import gguf
from pannier.pkgmgr.digest import Digest
from pannier.runtime.crashes import FIRST_DELAY_S, MAX_CRASHES, WINDOW_S, CrashLog
from pannier.runtime.devices import Device, DeviceKind
from pannier.runtime.draftplan import plan_draft
from pannier.runtime.errors import LoadError, OutOfMemory, Quarantined, RunnerDied
from pannier.runtime.interface import ModelSource
from pannier.runtime.machine import Machine, Room, RunnerLimits
from pannier.runtime.memory import (
    CHECKPOINTS_BUDGET,
    STATES_BUDGET,
    available_memory,
    cells_by_block,
    plan_memory,
)
from pannier.runtime.process import RunnerProcess
from pannier.runtime.request import GenerationRequest, LoadOptions, SamplingParams, Segment
from pannier.runtime.speculate import MAX_STREAMS
from pannier.runtime.supervisor import Supervisor

DIGEST = Digest.of(b"a model")


def header_of(path: Path) -> gguf.Header:
    with path.open("rb") as stream:
        return gguf.read_header(stream, size=path.stat().st_size, name=path.name)


@pytest.fixture
def sources(tmp_path: Path) -> list[ModelSource]:
    paths = [tiny_llama(tmp_path / f"{seed}.gguf", seed=seed) for seed in range(3)]
    return [source_of(path, f"model{seed}") for seed, path in enumerate(paths)]


def endless() -> GenerationRequest:
    sampling = SamplingParams(temperature=1, seed=3, logit_bias={2: -100.0})
    return GenerationRequest((Segment("hello"),), sampling=sampling)


def test_what_is_left_open_is_made_to_fit(tmp_path: Path) -> None:
    header = header_of(tiny_llama(tmp_path / "m.gguf", context=4096))
    roomy = plan_memory([header], LoadOptions(), free=1 << 40)
    assert (roomy.num_ctx, roomy.num_contexts) == (4096, 4)
    tight = plan_memory([header], LoadOptions(), free=roomy.total - 1)
    assert (tight.num_ctx, tight.num_contexts) == (4096, 2)
    hopeless = plan_memory([header], LoadOptions(), free=0)
    assert (hopeless.num_ctx, hopeless.num_contexts) == (512, 1)
    fixed = plan_memory([header], LoadOptions(num_ctx=1024, num_parallel=2), free=0)
    assert (fixed.num_ctx, fixed.num_contexts) == (1024, 2)


def test_copies_of_states_take_no_more_than_a_part_of_what_a_plan_leaves(tmp_path: Path) -> None:
    header = header_of(tiny_llama(tmp_path / "m.gguf"))
    plan = plan_memory([header], LoadOptions(), free=1 << 40)
    some = plan.with_copies(plan.total + (600 << 20))
    assert (some.states_budget, some.checkpoints_budget) == (100 << 20, 50 << 20)
    much = plan.with_copies(1 << 40)
    assert (much.states_budget, much.checkpoints_budget) == (STATES_BUDGET, CHECKPOINTS_BUDGET)
    none = plan.with_copies(plan.total)
    assert (none.states_budget, none.checkpoints_budget) == (0, 0)


@pytest.mark.engine
def test_a_model_that_fits_exactly_runs_without_copies_of_states(
    sources: list[ModelSource],
) -> None:
    plan = plan_memory([header_of(sources[0].files.weights[0])], LoadOptions(), free=1 << 40)
    with Supervisor(machine=Machine(free_memory=lambda pinned: plan.total)) as supervisor:
        stream = supervisor.generate(sources[0], endless())
        assert next(iter(stream)).tokens
        stream.cancel()


def test_a_draft_model_is_counted_and_left_out_where_there_is_no_room(tmp_path: Path) -> None:
    header = header_of(tiny_llama(tmp_path / "m.gguf", context=4096))
    options = LoadOptions(num_ctx=2048, num_parallel=1)
    alone = plan_memory([header], options, free=1 << 40)
    draft = plan_draft([header], options, alone, Room(1 << 40))
    assert draft is not None
    assert draft.cells == sum(cells_by_block(header)) * MAX_STREAMS * 2048
    both = replace(alone, draft=draft)
    assert both.total == both.in_main_memory == alone.total + draft.total
    assert plan_draft([header], options, alone, Room(both.total)) == draft
    assert plan_draft([header], options, alone, Room(both.total - 1)) is None


def test_a_draft_model_goes_on_the_gpu_beside_its_model(tmp_path: Path) -> None:
    header = header_of(tiny_llama(tmp_path / "m.gguf", context=4096))
    options = LoadOptions(num_ctx=2048)
    gpu = Device("GPU0", "a card", DeviceKind.GPU, 1 << 34, 1 << 34, "")
    room = Room(1 << 40, gpus=(gpu,))
    draft = plan_draft([header], options, room.plan([header], options), room)
    assert draft is not None
    assert draft.is_on_gpus
    just_enough = room.plan([header], options).on_gpus + room.reserve + (1 << 16)
    full = replace(room, gpus=(replace(gpu, free=just_enough),))
    draft = plan_draft([header], options, full.plan([header], options), full)
    assert draft is not None
    assert not draft.placement.gpu_layers


def test_a_context_is_never_longer_than_the_model_was_trained_for(tmp_path: Path) -> None:
    header = header_of(tiny_llama(tmp_path / "m.gguf", context=512))
    assert plan_memory([header], LoadOptions(num_ctx=10**6), free=1 << 40).num_ctx == 512


def test_smaller_cells_take_less(tmp_path: Path) -> None:
    header = header_of(tiny_llama(tmp_path / "m.gguf"))
    sizes = [sum(cells_by_block(header, kind)) for kind in ("q4_0", "q8_0", "f16")]
    assert 0 < sizes[0] < sizes[1] < sizes[2]


def test_there_is_some_memory() -> None:
    assert available_memory() > 1 << 20


def test_crashes_slow_a_model_down_and_then_stop_it() -> None:
    now = 0.0
    log = CrashLog(lambda: now)
    for delay in (0.0, 0.0, FIRST_DELAY_S):
        assert log.delay_s(DIGEST) == delay
        log.check(DIGEST, "model")
        log.add(DIGEST)
    assert MAX_CRASHES == 3
    with pytest.raises(Quarantined, match="crashed the engine 3 times"):
        log.check(DIGEST, "model")
    log.check(Digest.of(b"another"), "other")
    now = WINDOW_S + 1
    log.check(DIGEST, "model")


@pytest.mark.engine
def test_an_idle_model_makes_room_for_another(sources: list[ModelSource]) -> None:
    with Supervisor(max_models=1) as supervisor:
        first = supervisor.load(sources[0])
        second = supervisor.load(sources[1])
        assert [model.source.name for model in supervisor.loaded()] == ["model1"]
        assert first.pid != second.pid
        with pytest.raises(ProcessLookupError):
            os.kill(first.pid, 0)


@pytest.mark.engine
def test_a_busy_model_does_not_make_room(sources: list[ModelSource]) -> None:
    with Supervisor(max_models=1) as supervisor:
        stream = supervisor.generate(sources[0], endless())
        with pytest.raises(OutOfMemory, match="in use: model0"):
            supervisor.load(sources[1])
        stream.cancel()


@pytest.mark.engine
def test_a_model_that_does_not_fit_is_refused_with_the_numbers(
    sources: list[ModelSource],
) -> None:
    with Supervisor(machine=Machine(free_memory=lambda pinned: 1000)) as supervisor:
        with pytest.raises(OutOfMemory, match="needs") as caught:
            supervisor.load(sources[0])
        assert caught.value.free == 1000
        assert caught.value.needed > 1000


@pytest.mark.engine
def test_two_busy_models_share_the_cores(sources: list[ModelSource]) -> None:
    with Supervisor() as supervisor:
        streams = [supervisor.generate(source, endless()) for source in sources[:2]]
        for stream in streams:
            assert next(iter(stream)).tokens
            stream.cancel()


@pytest.mark.engine
def test_a_model_that_keeps_crashing_is_quarantined_until_it_is_stopped(
    sources: list[ModelSource],
) -> None:
    with Supervisor() as supervisor:
        for _ in range(MAX_CRASHES):
            stream = supervisor.generate(sources[0], endless())
            next(iter(stream))
            os.kill(stream.model.pid, signal.SIGSEGV)
            with pytest.raises(RunnerDied, match="SIGSEGV"):
                list(stream)
        with pytest.raises(Quarantined):
            supervisor.load(sources[0])
        supervisor.unload(sources[0].digest)
        assert supervisor.load(sources[0]).pid


@pytest.mark.engine
def test_a_model_that_stays_for_centuries_leaves_the_others_their_turn(
    sources: list[ModelSource],
) -> None:
    with Supervisor() as supervisor:
        supervisor.load(sources[0], keep_alive_s=1e11)
        pid = supervisor.load(sources[1], keep_alive_s=0).pid
        wait_for_end(pid)
        expires = supervisor.loaded()[0].expires_at
        assert expires is not None
        assert expires > 1e11


@pytest.mark.engine
def test_closing_does_not_wait_for_a_model_that_waits_for_another(
    sources: list[ModelSource],
) -> None:
    refused: list[str] = []

    def reload() -> None:
        try:
            supervisor.load(sources[0], options=LoadOptions(num_ctx=256))
        except LoadError as error:
            refused.append(str(error))

    waiting = threading.Thread(target=reload)
    with Supervisor() as supervisor:
        next(iter(supervisor.generate(sources[0], endless())))
        waiting.start()
        while supervisor.loaded():  # until the other options have taken its place
            waiting.join(0.01)
    waiting.join()
    assert refused == ["the runtime is closed"]


class DiesWhenAsked:
    """A process that is found dead by whoever asks it first."""

    def __init__(self, runner: RunnerProcess) -> None:
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def call(self, op: str, **facts: Any) -> Any:
        os.kill(self._runner.pid, signal.SIGKILL)
        wait_for_end(self._runner.pid)
        return self._runner.call(op, **facts)


@pytest.mark.engine
def test_a_question_to_a_process_that_just_died_is_asked_again(sources: list[ModelSource]) -> None:
    source = sources[0]
    with Supervisor() as supervisor:
        for ask in (
            lambda: supervisor.tokenize(source, "hello"),
            lambda: supervisor.detokenize(source, [5, 6]),
            lambda: supervisor.embed(source, ["hello"]).rows,
        ):
            supervisor.load(source)
            resident = supervisor._residents[source.digest]
            assert resident.runner is not None
            resident.runner = DiesWhenAsked(resident.runner)  # type: ignore[assignment]  # stands in
            assert ask()


@pytest.mark.engine
def test_a_runner_that_takes_more_than_its_limits_is_refused_or_killed(
    sources: list[ModelSource],
) -> None:
    tight = Machine(limits=RunnerLimits(address_space=200 << 20))
    refused = pytest.raises(OutOfMemory, match=r"its process may take 0\.00 GB")
    with Supervisor(machine=tight) as supervisor, refused:
        supervisor.load(sources[0])


@pytest.mark.engine
def test_a_runner_without_address_space_says_so(sources: list[ModelSource]) -> None:
    plan = plan_memory([header_of(sources[0].files.weights[0])], LoadOptions(), free=1 << 40)
    # Enough for the interpreter and the library, too little for the tokenizer's stack.
    limits = RunnerLimits(address_space=600 << 20)
    with pytest.raises(LoadError, match=r"cannot load model0: .*(stack|memory)"):
        RunnerProcess(
            "model0", sources[0].files, LoadOptions(), plan=plan, limits=limits, threads=1
        )


@pytest.mark.engine
def test_a_runner_works_within_its_address_space(sources: list[ModelSource]) -> None:
    roomy = Machine(limits=RunnerLimits(address_space=1200 << 20), cores=2)
    with Supervisor(machine=roomy) as supervisor:
        stream = supervisor.generate(sources[0], endless())
        assert next(iter(stream)).tokens
        stream.cancel()


@pytest.mark.slow
@pytest.mark.engine
def test_a_runner_whose_cpu_time_is_used_up_says_so(sources: list[ModelSource]) -> None:
    brief = Machine(limits=RunnerLimits(cpu_seconds=1))
    with Supervisor(machine=brief) as supervisor:
        for _ in range(MAX_CRASHES + 1):
            stream = supervisor.generate(sources[0], endless())
            with pytest.raises(RunnerDied, match="SIGXCPU") as caught:
                list(stream)
            assert "CPU time" in (caught.value.hint or "")


@pytest.mark.engine
def test_a_wedged_runner_is_ended(sources: list[ModelSource]) -> None:
    with Supervisor(silence_s=0.5) as supervisor:
        stream = supervisor.generate(sources[0], endless())
        next(iter(stream))
        os.kill(stream.model.pid, signal.SIGSTOP)
        with pytest.raises(RunnerDied, match=r"made no step for 0\.5 s"):
            list(stream)
        assert supervisor.load(sources[0]).pid != stream.model.pid


@pytest.mark.engine
def test_a_runner_that_was_idle_for_long_is_not_taken_for_wedged(
    sources: list[ModelSource],
) -> None:
    plan = plan_memory([header_of(sources[0].files.weights[0])], LoadOptions(), free=1 << 40)
    runner = RunnerProcess(
        "model0", sources[0].files, LoadOptions(), plan=plan, limits=RunnerLimits(), threads=1
    )
    try:
        runner._alive_s -= 1000  # as if it had been idle since
        stream = runner.generate(endless(), on_end=lambda: None)
        runner.check_pulse(600)
        assert next(iter(stream)).tokens
    finally:
        runner.close()
