"""LoRA adapters of a model, over the real library: at full scale, by request, beside others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from support.gguf import tiny_adapter, tiny_llama
from support.models import source_of

from pannier.pkgmgr.modelspec import ModelFiles
from pannier.runtime.interface import ModelSource
from pannier.runtime.request import GenerationRequest, LoadOptions, SamplingParams, Segment
from pannier.runtime.supervisor import Supervisor

pytestmark = pytest.mark.engine

Scales = tuple[tuple[int, float], ...] | None


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    folder = tmp_path_factory.mktemp("lora")
    adapters = tuple(tiny_adapter(folder / f"{seed}.gguf", seed=seed) for seed in (2, 3))
    plain = source_of(tiny_llama(folder / "m.gguf"), "tuned")
    return replace(plain, files=ModelFiles(plain.files.weights, adapters=adapters))


@pytest.fixture(scope="module")
def supervisor() -> Iterator[Supervisor]:
    with Supervisor(defaults=LoadOptions(num_ctx=256, num_thread=1)) as supervisor:
        yield supervisor


def ask(adapters: Scales) -> GenerationRequest:
    return GenerationRequest(
        (Segment("hello llama"),),
        sampling=SamplingParams(temperature=2.0, seed=3, top_k=0, top_p=1.0),
        max_tokens=16,
        logprobs=1,
        adapters=adapters,
    )


def probabilities(supervisor: Supervisor, source: ModelSource, adapters: Scales) -> list[float]:
    deltas = list(supervisor.generate(source, ask(adapters)))
    return [entry.logprob for delta in deltas for entry in delta.logprobs]


def test_adapters_and_scales_change_what_a_model_says(
    supervisor: Supervisor, source: ModelSource
) -> None:
    bare = probabilities(supervisor, source, ())
    both = probabilities(supervisor, source, None)
    assert both != bare
    assert probabilities(supervisor, source, ((0, 1.0), (1, 1.0))) == both
    assert probabilities(supervisor, source, ((0, 5.0),)) not in (bare, both)
    assert probabilities(supervisor, source, ((1, 5.0),)) not in (bare, both)
    assert probabilities(supervisor, source, ((0, 0.0), (1, 0.0))) == pytest.approx(bare, abs=1e-3)


def test_requests_with_other_adapters_do_not_disturb_each_other(
    supervisor: Supervisor, source: ModelSource
) -> None:
    sets: list[Scales] = [(), None, ((0, 9.0),), ((1, 9.0),), ()]
    alone = [probabilities(supervisor, source, adapters) for adapters in sets]
    streams = [supervisor.generate(source, ask(adapters)) for adapters in sets]
    beside = [[entry.logprob for d in list(s) for entry in d.logprobs] for s in streams]
    for one, other in zip(alone, beside, strict=True):
        assert one[0] == pytest.approx(other[0], abs=1e-2)
