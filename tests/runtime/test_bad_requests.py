"""Requests that ask for absurd things of a real engine: defined answers, and the engine goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.gguf import tiny_llama
from support.models import source_of

from pannier.runtime.interface import ModelSource
from pannier.runtime.options import split_options
from pannier.runtime.request import Delta, FinishReason, GenerationRequest, LoadOptions, Segment
from pannier.runtime.supervisor import Supervisor

pytestmark = pytest.mark.engine

HUGE = 10**30
ABSURD: list[dict[str, Any]] = [
    {"temperature": 3e38},
    {"temperature": 1e-40},
    {"temperature": -HUGE},
    {"top_k": HUGE, "top_p": HUGE, "min_p": HUGE, "typical_p": -1e30},
    {"top_k": -HUGE, "top_p": -1e30, "min_p": -1e30},
    {"min_p": 1, "top_p": 0, "typical_p": 0},
    {"repeat_penalty": 3e38, "repeat_last_n": HUGE},
    {"presence_penalty": 3e38, "frequency_penalty": -3e38, "repeat_last_n": -1},
    {"seed": HUGE},
    {"seed": -HUGE},
    {"mirostat": 1, "mirostat_tau": 3e38, "mirostat_eta": -3e38},
    {"mirostat": 2, "mirostat_tau": -3e38},
    {"xtc_probability": HUGE, "xtc_threshold": -1e30},
    {"dry_multiplier": 3e38, "dry_base": 3e38, "dry_allowed_length": -HUGE},
    {"dry_multiplier": 1, "dry_penalty_last_n": HUGE},
    {"top_n_sigma": 3e38},
    {"num_keep": HUGE},
    {"num_keep": -HUGE},
    {"num_predict": HUGE, "stop": ["", "\ud83d", "é", "a" * 100_000]},
]


@pytest.fixture(scope="module")
def supervisor() -> Iterator[Supervisor]:
    with Supervisor(defaults=LoadOptions(num_ctx=64, num_thread=1)) as supervisor:
        yield supervisor


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    return source_of(tiny_llama(tmp_path_factory.mktemp("models") / "tiny.gguf"), "tiny")


def ask(
    supervisor: Supervisor,
    source: ModelSource,
    text: str,
    options: dict[str, Any],
    load: LoadOptions | None = None,
) -> Delta:
    """The end of an answer of a few tokens to a prompt."""
    found = split_options(options)
    request = GenerationRequest(
        (Segment(text),),
        sampling=found.sampling,
        max_tokens=min(5, 5 if found.max_tokens is None else found.max_tokens),
        num_keep=found.num_keep,
        stop=found.stop,
    )
    *_, end = supervisor.generate(source, request, options=load)
    return end


@pytest.mark.parametrize("options", ABSURD, ids=lambda options: " ".join(options))
def test_absurd_numbers_are_answered(
    supervisor: Supervisor, source: ModelSource, options: dict[str, Any]
) -> None:
    pid = supervisor.load(source).pid
    assert ask(supervisor, source, "hello world", options).finish is not None
    assert supervisor.load(source).pid == pid


@pytest.mark.parametrize("text", ["", "\0", "\ufffd", "</s>" * 200, "x" * 5000])
def test_odd_prompts_are_answered(supervisor: Supervisor, source: ModelSource, text: str) -> None:
    end = ask(supervisor, source, text, {})
    assert end.usage is not None
    assert end.usage.prompt_tokens >= 1
    assert end.finish is not None


@pytest.mark.parametrize("num_ctx", [1, 2, 4])
def test_the_smallest_contexts_end_answers_and_nothing_else(
    supervisor: Supervisor, source: ModelSource, num_ctx: int
) -> None:
    load = split_options({"num_ctx": num_ctx, "num_thread": 1}).load
    end = ask(supervisor, source, "", {}, load)
    assert end.finish in (FinishReason.STOP, FinishReason.LENGTH)


@pytest.mark.parametrize("num_parallel", [256, HUGE])
def test_as_many_streams_as_may_be_asked_for_are_not_too_many_to_load(
    supervisor: Supervisor, source: ModelSource, num_parallel: int
) -> None:
    load = split_options({"num_ctx": 16, "num_thread": 1, "num_parallel": num_parallel}).load
    assert ask(supervisor, source, "hello", {}, load).finish is not None
