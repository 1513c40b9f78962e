"""Runners that die in the middle of something: one clear error for each request, and on it goes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support.gguf import tiny_llama
from support.models import source_of
from support.tinyvision import png, tiny_projector, tiny_qwen2vl

from pannier.pkgmgr import gguf
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.modelspec import ModelFiles
from pannier.runtime.errors import RunnerDied
from pannier.runtime.interface import ModelSource
from pannier.runtime.machine import RunnerLimits
from pannier.runtime.memory import plan_memory
from pannier.runtime.process import RunnerProcess
from pannier.runtime.request import GenerationRequest, LoadOptions, SamplingParams, Segment
from pannier.runtime.supervisor import Supervisor

pytestmark = pytest.mark.engine


def endless(*parts: str | bytes) -> GenerationRequest:
    images = tuple(part for part in parts if isinstance(part, bytes))
    numbers = iter(range(len(images)))
    prompt = tuple(
        Segment(part) if isinstance(part, str) else Segment("[img]", image=next(numbers))
        for part in parts
    )
    sampling = SamplingParams(temperature=1, seed=3, logit_bias={2: -100.0})
    return GenerationRequest(prompt, images=images, sampling=sampling)


def tiny(folder: Path) -> ModelSource:
    return source_of(tiny_llama(folder / "tiny.gguf"), "tiny")


def seeing(folder: Path) -> ModelSource:
    files = ModelFiles(
        (tiny_qwen2vl(folder / "text.gguf"),),
        projector=tiny_projector(folder / "eyes.gguf", 64, kind="qwen2vl_merger"),
    )
    return ModelSource(Digest.of(b"seeing"), "seeing", files)


def test_a_runner_killed_while_it_looks_at_images_ends_their_requests(tmp_path: Path) -> None:
    source = seeing(tmp_path)
    # A look takes some 200 ms, and killing a process nothing beside it.
    images = [png(160, 160, seed=seed) for seed in range(3)]
    with Supervisor(defaults=LoadOptions(num_ctx=2048, num_thread=1)) as supervisor:
        looking = supervisor.generate(source, endless("Look: ", images[0], "What?"))
        waiting = supervisor.generate(source, endless("Look: ", images[1], "What?"))
        os.kill(looking.model.pid, signal.SIGKILL)
        for stream in (looking, waiting):
            with pytest.raises(RunnerDied, match=r"the process running seeing died: .*SIGKILL"):
                list(stream)
        again = supervisor.generate(source, endless("Look: ", images[2], "What?"))
        assert next(iter(again)).tokens
        assert again.model.pid != looking.model.pid
        again.cancel()


def test_what_a_runner_dies_of_is_not_what_it_warned_of_before(tmp_path: Path) -> None:
    # The library warns of contexts that are longer in all than the model was trained for.
    with Supervisor(defaults=LoadOptions(num_parallel=4)) as supervisor:
        stream = supervisor.generate(tiny(tmp_path), endless("hello"))
        next(iter(stream))
        os.kill(stream.model.pid, signal.SIGSEGV)
        with pytest.raises(RunnerDied, match=r"died: killed by SIGSEGV$"):
            list(stream)


def test_a_thread_that_fails_ends_its_runner_with_the_reason(tmp_path: Path) -> None:
    source = tiny(tmp_path)
    path = source.files.weights[0]
    with path.open("rb") as stream:
        header = gguf.read_header(stream, size=path.stat().st_size, name=path.name)
    plan = plan_memory([header], LoadOptions(), free=1 << 40)
    runner = RunnerProcess(
        "tiny", source.files, LoadOptions(), plan=plan, limits=RunnerLimits(), threads=1
    )
    try:
        with pytest.raises(RunnerDied, match=r"died: exit status 1 \(KeyError: 'texts'\)"):
            runner.call("embed", truncate=True)
        assert not runner.is_alive
    finally:
        runner.close()
