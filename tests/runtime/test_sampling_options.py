"""Every sampling option changes what a real model writes, and nothing where it is neutral."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from support.models import smollm2, source_of

from pannier.runtime.interface import ModelSource
from pannier.runtime.options import split_options
from pannier.runtime.request import GenerationRequest, LoadOptions, SamplingParams, Segment
from pannier.runtime.supervisor import Supervisor

pytestmark = [pytest.mark.engine, pytest.mark.slow]

# A flat distribution, so that whatever an option cuts off shows soon.
WILD = {"temperature": 1.5, "top_k": 0, "top_p": 1.0, "seed": 5}
GREEDY = {"temperature": 0.0}
RHYME = "one two three four one two three four one two three four one two"


@pytest.fixture(scope="module")
def supervisor() -> Iterator[Supervisor]:
    with Supervisor(defaults=LoadOptions(num_ctx=512, top_p_prefilter=0)) as supervisor:
        yield supervisor


@pytest.fixture(scope="module")
def source() -> ModelSource:
    return source_of(smollm2(), "smol")


def written(
    supervisor: Supervisor, source: ModelSource, options: dict[str, Any], prompt: str = "A story:"
) -> str:
    split = split_options(options)
    request = GenerationRequest(
        (Segment(prompt),), sampling=split.sampling, max_tokens=20, num_keep=split.num_keep
    )
    return "".join(delta.text for delta in supervisor.generate(source, request))


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 6},
        {"temperature": 0.2},
        {"top_k": 3},
        {"top_p": 0.1},
        {"min_p": 0.5},
        {"typical_p": 0.2},
        {"top_n_sigma": 0.3},
        {"repeat_penalty": 5.0},
        {"presence_penalty": 2.0},
        {"frequency_penalty": 2.0},
        {"mirostat": 1},
        {"mirostat": 2},
        {"xtc_probability": 1.0, "xtc_threshold": 0.001},
    ],
    ids=str,
)
def test_an_option_changes_what_is_drawn(
    supervisor: Supervisor, source: ModelSource, changed: dict[str, Any]
) -> None:
    # All but penalties on the prompt's own words need a few tokens to show.
    prompt = RHYME if "penalty" in str(changed) else "A story:"
    base = written(supervisor, source, WILD, prompt)
    assert written(supervisor, source, {**WILD, **changed}, prompt) != base


@pytest.mark.parametrize(
    "changed",
    [
        {"dry_multiplier": 5.0},
        {"repeat_penalty": 2.0},
        {"presence_penalty": 2.0, "frequency_penalty": 2.0},
    ],
    ids=str,
)
def test_penalties_end_a_repetition(
    supervisor: Supervisor, source: ModelSource, changed: dict[str, Any]
) -> None:
    assert " three four one two" in written(supervisor, source, GREEDY, RHYME)
    assert " three four one two" not in written(supervisor, source, {**GREEDY, **changed}, RHYME)


@pytest.mark.parametrize(
    ("base", "changed"),
    [
        ({"repeat_penalty": 5.0}, {"repeat_last_n": 0}),
        ({"mirostat": 2}, {"mirostat_tau": 0.5}),
        ({"mirostat": 2}, {"mirostat_eta": 0.9}),
        ({"xtc_probability": 1.0, "xtc_threshold": 0.001}, {"xtc_threshold": 0.4}),
        ({"dry_multiplier": 5.0}, {"dry_allowed_length": 40}),
        ({"dry_multiplier": 5.0}, {"dry_penalty_last_n": 2}),
        ({"dry_multiplier": 0.02, "dry_allowed_length": 1}, {"dry_base": 9.0}),
    ],
    ids=str,
)
def test_an_option_shapes_another(
    supervisor: Supervisor, source: ModelSource, base: dict[str, Any], changed: dict[str, Any]
) -> None:
    start = {**(GREEDY if "dry_multiplier" in base else WILD), **base}
    prompt = RHYME if "dry_multiplier" in base or "repeat_penalty" in base else "A story:"
    without = written(supervisor, source, start, prompt)
    assert written(supervisor, source, {**start, **changed}, prompt) != without


def test_neutral_values_change_nothing(supervisor: Supervisor, source: ModelSource) -> None:
    neutral = {
        **{"min_p": 0.0, "typical_p": 1.0, "top_n_sigma": -1.0, "mirostat": 0},
        **{"repeat_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0},
        **{"xtc_probability": 0.0, "dry_multiplier": 0.0},
    }
    base = written(supervisor, source, WILD)
    assert written(supervisor, source, {**WILD, **neutral}) == base


def test_a_bias_forces_a_token(supervisor: Supervisor, source: ModelSource) -> None:
    (token,) = supervisor.tokenize(source, " llama")[:1]
    sampling = replace(SamplingParams(temperature=0), logit_bias={token: 100.0})
    request = GenerationRequest((Segment("A story:"),), sampling=sampling, max_tokens=3)
    deltas = list(supervisor.generate(source, request))
    assert "".join(d.text for d in deltas) == supervisor.detokenize(source, [token]) * 3


def test_what_num_keep_keeps_stays_through_a_cut(
    supervisor: Supervisor, source: ModelSource
) -> None:
    cut = "Number 7. " + "word " * 2000
    used = []
    for keep in (0, 8):
        request = GenerationRequest(
            (Segment(cut),),
            sampling=SamplingParams(temperature=0),
            max_tokens=1,
            num_keep=keep,
            want_context=True,
        )
        used.append(list(supervisor.generate(source, request))[-1].context)
    assert supervisor.detokenize(source, list(used[1][:8])).startswith("Number 7.")
    assert "Number" not in supervisor.detokenize(source, list(used[0][:8]))


def test_the_prefilter_of_an_unbounded_top_p_is_a_setting(source: ModelSource) -> None:
    options = {**WILD, "temperature": 3.0, "top_p": 0.999}
    texts = []
    for share in (0.0, 0.9):
        with Supervisor(defaults=LoadOptions(num_ctx=256, top_p_prefilter=share)) as supervisor:
            texts.append(written(supervisor, source, options))
    assert texts[0] != texts[1]
