from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.pkgmgr.errors import InvalidOption
from pannier.runtime.options import split_options
from pannier.runtime.request import LoadOptions, SamplingParams


def test_no_options_are_the_defaults() -> None:
    options = split_options({})
    assert options.sampling == SamplingParams()
    assert options.load is None
    assert options.max_tokens is None
    assert options.num_keep == 4


def test_a_request_goes_before_the_model() -> None:
    options = split_options({"temperature": 0.1, "top_k": 5}, {"temperature": 1})
    assert options.sampling.temperature == 1.0
    assert options.sampling.top_k == 5


def test_load_options_build_on_the_settings() -> None:
    options = split_options({"num_ctx": 2048}, defaults=LoadOptions(num_thread=3))
    assert options.load == LoadOptions(num_ctx=2048, num_thread=3)


def test_integers_accept_json_floats() -> None:
    assert split_options({"num_predict": 12.9}).max_tokens == 12


def test_negative_num_predict_is_no_limit() -> None:
    assert split_options({"num_predict": -2}).max_tokens is None
    assert split_options({"num_predict": 0}).max_tokens == 0


def test_tiny_and_huge_contexts_are_bounded() -> None:
    for given_value, expected in ((1, 4), (0, 0), (10**30, 2**31 - 1)):
        options = split_options({"num_ctx": given_value})
        assert options.load is not None
        assert options.load.num_ctx == expected


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("num_ctx", "many", "integer"),
        ("seed", True, "integer"),
        ("temperature", "hot", "float32"),
        ("temperature", math.nan, "float32"),
        ("top_p", 1e300, "float32"),
        ("use_mmap", 1, "boolean"),
        ("stop", "x", "array"),
        ("top_k", None, "integer"),
        ("top_k", math.inf, "integer"),
    ],
)
def test_a_wrong_type_is_refused_in_the_usual_words(name: str, value: Any, kind: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        split_options({name: value})
    assert str(caught.value) == f'option "{name}" must be of type {kind}'


def test_unknown_options_are_ignored_and_named() -> None:
    assert split_options({"numa": True, "f16_kv": 1}).ignored == ("f16_kv", "numa")


def test_a_repeat_penalty_of_zero_is_refused() -> None:
    with pytest.raises(InvalidOption, match="at least"):
        split_options({"repeat_penalty": 0})


def test_mirostat_has_two_versions() -> None:
    assert split_options({"mirostat": 2}).sampling.mirostat == 2
    with pytest.raises(InvalidOption, match="at most 2"):
        split_options({"mirostat": 3})


@given(
    st.dictionaries(
        st.sampled_from(["num_ctx", "seed", "top_k", "temperature", "stop", "num_batch", "x"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text()
        | st.lists(st.text(), max_size=3),
    )
)
def test_any_values_give_options_or_a_clear_error(values: dict[str, Any]) -> None:
    try:
        seed = split_options(values).sampling.seed
    except InvalidOption:
        return
    assert -(2**31) < seed < 2**32


def test_how_gpus_share_a_model_can_be_said() -> None:
    options = split_options(
        {"split_mode": "row", "tensor_split": "3,1"}, {"tensor_split": [1, 2.5], "main_gpu": 1}
    )
    assert options.load == LoadOptions(split_mode="row", tensor_split=(1.0, 2.5), main_gpu=1)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("split_mode", "tensor", "must be one of none, layer, row"),
        ("split_mode", 1, "must be of type string"),
        ("tensor_split", "a,b", "must be of type array of numbers"),
        ("tensor_split", [1, None], "must be of type array of numbers"),
        ("tensor_split", 3, "must be of type array of numbers"),
        ("tensor_split", [0, 0], "not all of them 0"),
        ("tensor_split", [-1, 2], "not all of them 0"),
        ("tensor_split", [1] * 17, "more than 16"),
        ("kv_cache_type", "q5_1", "must be one of f16, q8_0, q4_0"),
        ("deterministic", 1, "must be of type boolean"),
    ],
)
def test_wrong_words_about_gpus_and_cells_are_refused(name: str, value: Any, words: str) -> None:
    with pytest.raises(InvalidOption, match=words):
        split_options({name: value})


def test_cells_and_determinism_are_options() -> None:
    options = split_options({"kv_cache_type": "q8_0"}, {"deterministic": True})
    assert options.load == LoadOptions(cache_type="q8_0")
    assert options.deterministic


def test_adapters_are_named_by_number_with_a_scale() -> None:
    assert split_options({"lora": [{"id": 1, "scale": 0.5}, {"id": 0}]}).adapters == (
        (0, 1.0),
        (1, 0.5),
    )
    assert split_options({"lora": []}).adapters == ()
    assert split_options({}).adapters is None


@pytest.mark.parametrize(
    "value", ["0", [0], [{"id": -1}], [{"id": True}], [{"id": 0, "scale": "x"}], [{}], {"id": 0}]
)
def test_adapters_named_otherwise_are_refused(value: Any) -> None:
    with pytest.raises(InvalidOption, match='"lora" must'):
        split_options({"lora": value})
