"""Planning of graphics memory over made-up GPUs, and asking this library for real ones."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.gguf import tiny_llama
from support.models import smollm2

from pannier.pkgmgr import gguf
from pannier.runtime.devices import (
    Device,
    DeviceKind,
    GpuProbe,
    has_drivers,
    probe_devices,
    usable_gpus,
)
from pannier.runtime.errors import EngineError, LoadError
from pannier.runtime.memory import MemoryPlan, model_sizes, plan_memory
from pannier.runtime.placement import ModelSizes, place
from pannier.runtime.request import LoadOptions

MB = 1 << 20
# 32 blocks of 100 MB, 1 kB of cells for each token in each, an output of 200 MB.
BIG = ModelSizes(
    blocks=(100 * MB,) * 32,
    cells=(1024,) * 32,
    states=(0,) * 32,
    input=200 * MB,
    output=200 * MB,
    tied=0,
    host_work=50 * MB,
    gpu_work=60 * MB,
    output_work=40 * MB,
)
CELLS = 4096


def gpus_of(*free_mb: int, kind: DeviceKind = DeviceKind.GPU) -> tuple[Device, ...]:
    return tuple(
        Device(f"CUDA{at}", "a card", kind, free * MB, free * MB, f"0000:0{at}:00.0")
        for at, free in enumerate(free_mb)
    )


def counts_of(gpus: Sequence[Device], **options: object) -> tuple[int, ...]:
    wanted = LoadOptions(**options)  # type: ignore[arg-type]  # values of mixed types by name
    return place(BIG, wanted, gpus, num_cells=CELLS, reserve=0).counts


def header_of(path: Path) -> gguf.Header:
    with path.open("rb") as stream:
        return gguf.read_header(stream, size=path.stat().st_size, name=path.name)


def test_a_large_gpu_gets_all_layers() -> None:
    placed = place(BIG, LoadOptions(), gpus_of(8000), num_cells=CELLS, reserve=0)
    assert placed.gpu_layers == 33
    whole = 32 * (100 * MB + 1024 * CELLS) + 200 * MB + 60 * MB + 40 * MB
    assert placed.on_gpus == (whole,)


def test_a_small_gpu_gets_as_many_as_fit() -> None:
    # Output and work take 300 MB, each block 104 MB with its cells: 6 blocks in 1,000 MB.
    assert counts_of(gpus_of(1000)) == (7,)
    assert counts_of(gpus_of(300)) == (1,)
    assert counts_of(gpus_of(299)) == ()


def test_two_gpus_share_by_their_free_memory() -> None:
    assert counts_of(gpus_of(8000, 8000)) == (17, 16)
    assert counts_of(gpus_of(9000, 3000)) == (25, 8)


def test_layers_are_packed_where_shares_would_leave_some_outside() -> None:
    # By shares the second card would get 13 layers with the output: 1,548 MB.
    assert counts_of(gpus_of(2250, 1480)) == (21, 12)


def test_the_reserve_of_each_gpu_is_left_alone() -> None:
    gpus = gpus_of(1000)
    assert place(BIG, LoadOptions(), gpus, num_cells=CELLS, reserve=800 * MB).counts == ()


def test_split_mode_none_uses_the_main_gpu_alone() -> None:
    gpus = gpus_of(8000, 1000)
    assert counts_of(gpus, split_mode="none") == (33, 0)
    assert counts_of(gpus, split_mode="none", main_gpu=1) == (0, 7)


def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(LoadError, match="main_gpu is 2, and there are 2 GPUs"):
        counts_of(gpus_of(8000, 8000), main_gpu=2)


def test_a_tensor_split_is_kept_to() -> None:
    gpus = gpus_of(8000, 8000)
    assert counts_of(gpus, tensor_split=(3.0, 1.0)) == (25, 8)
    assert counts_of(gpus, tensor_split=(0.0, 1.0)) == (0, 33)
    assert counts_of(gpus, tensor_split=(1.0,)) == (33, 0)


def test_a_number_of_layers_is_kept_to_whether_it_fits_or_not() -> None:
    assert counts_of(gpus_of(8000), num_gpu=5) == (5,)
    assert counts_of(gpus_of(8000), num_gpu=99) == (33,)
    assert counts_of(gpus_of(8000), num_gpu=0) == ()
    assert counts_of(gpus_of(100), num_gpu=5) == (5,)


def test_rows_of_all_matrices_are_cut_by_the_shares() -> None:
    gpus = gpus_of(8000, 8000)
    wanted = LoadOptions(split_mode="row", tensor_split=(3.0, 1.0))
    placed = place(BIG, wanted, gpus, num_cells=0, reserve=0)
    weights = 32 * 100 * MB + 200 * MB
    assert placed.on_gpus[0] == weights * 25 // 33 + 60 * MB
    assert placed.on_gpus[1] == weights * 8 // 33 + 60 * MB + 40 * MB


@given(
    free=st.lists(st.integers(0, 6000), min_size=1, max_size=8),
    seed=st.integers(0, 10**6),
    mode=st.sampled_from(["layer", "none"]),
)
def test_what_is_placed_fits_and_no_more_would(free: list[int], seed: int, mode: str) -> None:
    dice = random.Random(seed)
    blocks = tuple(dice.randint(1, 300) * MB for _ in range(dice.randint(1, 40)))
    sizes = ModelSizes(
        blocks, (0,) * len(blocks), (0,) * len(blocks), 0, dice.randint(0, 900) * MB, 0, 0, MB, MB
    )
    gpus, options = gpus_of(*free), LoadOptions(split_mode=mode)
    placed = place(sizes, options, gpus, num_cells=0, reserve=0)
    assert sum(placed.counts) == placed.gpu_layers
    assert all(n <= gpu.free for n, gpu in zip(placed.on_gpus, gpus, strict=False))
    if placed.gpu_layers < sizes.num_layers:
        more = sum(
            sizes.layer(number, 0)
            for number in range(len(blocks) - placed.gpu_layers, len(blocks) + 1)
        )
        assert more + 2 * MB > min(max(free), free[0] if mode == "none" else max(free)) * MB


def plan(gpus: Sequence[Device], *, free: int = 1 << 40, **options: object) -> MemoryPlan:
    wanted = LoadOptions(**options)  # type: ignore[arg-type]  # values of mixed types by name
    return plan_memory([header_of(smollm2())], wanted, free=free, gpus=gpus, reserve=0)


def test_a_model_on_a_gpu_takes_its_tied_table_twice() -> None:
    on_cpu, on_gpu = plan(()), plan(gpus_of(8000))
    assert not on_cpu.on_gpus
    table = model_sizes([header_of(smollm2())], LoadOptions(), num_cells=0).tied
    assert table > 10 * MB
    assert on_gpu.weights == on_cpu.weights + table
    assert on_gpu.is_on_gpus
    assert on_gpu.shown_on_gpus == on_gpu.total
    assert on_gpu.in_main_memory == on_gpu.total - on_gpu.on_gpus < on_cpu.in_main_memory


def test_fewer_full_contexts_are_better_than_layers_outside() -> None:
    tight = plan(gpus_of(500))
    assert (tight.num_ctx, tight.num_contexts, tight.is_whole) == (4096, 2, True)
    fixed = plan(gpus_of(500), num_parallel=4)
    assert (fixed.num_contexts, fixed.is_whole) == (4, False)
    assert 0 < fixed.placement.gpu_layers < 31


def test_where_no_number_of_contexts_helps_the_usual_one_stays() -> None:
    small = plan(gpus_of(60))
    assert (small.num_ctx, small.num_contexts) == (4096, 4)


def test_a_gpu_of_main_memory_takes_nothing_off_it() -> None:
    shared = plan(gpus_of(8000, kind=DeviceKind.IGPU))
    assert shared.is_on_gpus
    assert shared.in_main_memory == shared.total


def test_the_engine_is_told_the_plan() -> None:
    wanted = LoadOptions(num_thread=3)
    both = plan(gpus_of(8000, 8000)).options(wanted)
    assert (both.num_gpu, both.tensor_split, both.num_thread) == (31, (16.0, 15.0), 3)
    outside = plan(()).options(wanted)
    assert (outside.num_gpu, outside.split_mode, outside.main_gpu) == (0, "none", -1)
    alone = plan(gpus_of(8000, 8000), split_mode="none", main_gpu=1)
    assert alone.options(LoadOptions(split_mode="none", main_gpu=1)).tensor_split == ()


def test_what_somebody_wants_on_a_gpu_may_not_fit() -> None:
    assert not plan(gpus_of(20), num_gpu=31).fits_gpus
    assert plan(gpus_of(8000), num_gpu=5).is_whole


def test_a_card_that_two_drivers_see_counts_once() -> None:
    card, built_in = gpus_of(8000)[0], gpus_of(4000, kind=DeviceKind.IGPU)[0]
    twin = Device("Vulkan0", "the same", DeviceKind.GPU, card.free, card.total, card.id)
    cpu = Device("CPU", "cores", DeviceKind.CPU, 1, 1)
    assert usable_gpus([cpu, card, twin, built_in]) == (card,)
    assert usable_gpus([cpu, built_in]) == (built_in,)
    assert usable_gpus([cpu]) == ()


def test_drivers_are_parts_of_the_library(tmp_path: Path) -> None:
    environ = {"LLAMA_CPP_LIB_PATH": str(tmp_path)}
    for name in ("libggml-base.so.0", "libggml-cpu.so", "libggml.so", "libggml-cpu-haswell.so"):
        (tmp_path / name).touch()
    assert not has_drivers(environ)
    (tmp_path / "libggml-cuda.so").touch()
    assert has_drivers(environ)


def test_a_probe_asks_only_where_there_are_drivers(tmp_path: Path) -> None:
    asked = []

    def ask() -> list[Device]:
        asked.append(1)
        return [*gpus_of(1)]

    environ = {"LLAMA_CPP_LIB_PATH": str(tmp_path)}
    assert GpuProbe(ask, environ=environ)() == ()
    (tmp_path / "libggml-vulkan.so").touch()
    assert GpuProbe(ask, environ=environ)() == gpus_of(1)
    assert asked == [1]


def test_a_probe_that_fails_leaves_the_cpu(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def ask() -> list[Device]:
        raise EngineError("cannot ask for GPUs: killed by SIGSEGV")

    (tmp_path / "libggml-cuda.so").touch()
    assert GpuProbe(ask, environ={"LLAMA_CPP_LIB_PATH": str(tmp_path)})() == ()
    assert "models run on the CPU" in caplog.text


@pytest.mark.engine
def test_this_machines_devices_are_told_by_a_child_process() -> None:
    devices = probe_devices()
    (cpu,) = [device for device in devices if device.kind is DeviceKind.CPU]
    assert cpu.total >= cpu.free > 0
    assert has_drivers(os.environ) is bool(usable_gpus(devices))


def test_a_tiny_model_is_summed_up_by_block(tmp_path: Path) -> None:
    header = header_of(tiny_llama(tmp_path / "m.gguf", blocks=3))
    sizes = model_sizes([header], LoadOptions(), num_cells=512)
    assert len(sizes.blocks) == len(sizes.cells) == 3
    assert sizes.weights == sum(tensor.size for tensor in header.tensors)
