"""Settings of the server that come from the environment."""

from __future__ import annotations

import pytest

from pannier.api.environment import (
    load_options,
    machine,
    open_runtime,
    origins,
    setting,
    with_flags,
)
from pannier.pkgmgr.errors import InvalidOption
from pannier.runtime.machine import RunnerLimits
from pannier.runtime.request import LoadOptions


def test_our_variables_go_before_ollamas() -> None:
    environ = {"PANNIER_X": "ours", "OLLAMA_X": "theirs", "OLLAMA_Y": " 'quoted' ", "PANNIER_Z": ""}
    assert setting(environ, "X") == "ours"
    assert setting(environ, "Y") == "quoted"
    assert setting(environ, "Z") is None


def test_origins_are_a_list() -> None:
    assert origins({"OLLAMA_ORIGINS": "http://a, https://b:*,"}) == ("http://a", "https://b:*")
    assert origins({}) == ()


@pytest.mark.parametrize("text", ["5m", "300", "-1", "1h30m", "0"])
def test_keep_alive_is_seconds_or_a_duration(text: str) -> None:
    open_runtime({"OLLAMA_KEEP_ALIVE": text, "OLLAMA_CONTEXT_LENGTH": "8192"}).close()


@pytest.mark.parametrize(
    "environ",
    [{"OLLAMA_KEEP_ALIVE": "soon"}, {"PANNIER_CONTEXT_LENGTH": "4k"}, {"OLLAMA_NUM_PARALLEL": "x"}],
    ids=str,
)
def test_wrong_values_are_errors(environ: dict[str, str]) -> None:
    with pytest.raises(InvalidOption):
        open_runtime(environ)


def test_settings_say_how_models_are_loaded() -> None:
    environ = {
        "PANNIER_SPLIT_MODE": "none",
        "PANNIER_TENSOR_SPLIT": "3,1",
        "PANNIER_MAIN_GPU": "1",
        "PANNIER_NUM_GPU": "-1",
        "OLLAMA_KV_CACHE_TYPE": "q8_0",
        "OLLAMA_CONTEXT_LENGTH": "8192",
        "PANNIER_TOP_P_PREFILTER": "0",
    }
    assert load_options(environ) == LoadOptions(
        num_ctx=8192,
        main_gpu=1,
        split_mode="none",
        tensor_split=(3.0, 1.0),
        cache_type="q8_0",
        top_p_prefilter=0.0,
    )
    assert load_options({}) == LoadOptions()


def test_settings_bound_what_models_take() -> None:
    environ = {
        "PANNIER_NUM_THREAD": "3",
        "OLLAMA_GPU_OVERHEAD": "1000000000",
        "PANNIER_RUNNER_MEMORY": "8GiB",
        "PANNIER_RUNNER_CPU_TIME": "1h",
    }
    found = machine(environ)
    assert found.cores == 3
    assert found.gpu_reserve == machine({}).gpu_reserve + 10**9
    assert found.limits == RunnerLimits(address_space=8 << 30, cpu_seconds=3600)
    assert machine({}).limits == RunnerLimits()


def test_a_flag_goes_before_the_environment() -> None:
    environ = with_flags({"PANNIER_SPLIT_MODE": "row"}, SPLIT_MODE="layer", RUNNER_MEMORY=None)
    assert load_options(environ).split_mode == "layer"
    assert machine(environ).limits.address_space == 0


@pytest.mark.parametrize(
    "environ",
    [
        {"PANNIER_SPLIT_MODE": "both"},
        {"PANNIER_TENSOR_SPLIT": "half"},
        {"PANNIER_KV_CACHE_TYPE": "f8"},
        {"PANNIER_MAIN_GPU": "-1"},
        {"PANNIER_TOP_P_PREFILTER": "1"},
        {"PANNIER_TOP_P_PREFILTER": "nan"},
        {"PANNIER_RUNNER_MEMORY": "much"},
        {"PANNIER_RUNNER_CPU_TIME": "long"},
        {"OLLAMA_GPU_OVERHEAD": "-1"},
    ],
    ids=str,
)
def test_wrong_settings_of_the_engine_are_errors(environ: dict[str, str]) -> None:
    (name,) = environ
    with pytest.raises(InvalidOption, match=name.partition("_")[2]):
        open_runtime(environ)
