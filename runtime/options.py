"""Ollama's `options`: names, types, coercions and error texts, split by who needs them. Pure.

Options of a request go before those of the model, which go before the defaults. Unknown names are
ignored, as Ollama does, and reported in `Options.ignored`; wrong types are errors in its words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pannier.pkgmgr.errors import InvalidOption
from pannier.pkgmgr.modelfile.parameters import CHOICES

from .request import LoadOptions, SamplingParams
from .speculate import MAX_DRAFT

_INT32_MAX = 2**31 - 1
# Below this no prompt of any template fits (Ollama's floor).
_MIN_CONTEXT = 4
# More threads than any machine that we know has; the library allocates per thread.
_MAX_THREADS = 512
_MAX_STOPS = 64
_MAX_ADAPTERS = 64
# Devices that one library can hold (llama_max_devices).
MAX_GPUS = 16

_SAMPLING = {
    "seed": int,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "typical_p": float,
    "repeat_last_n": int,
    "temperature": float,
    "repeat_penalty": float,
    "presence_penalty": float,
    "frequency_penalty": float,
    "mirostat": int,
    "mirostat_tau": float,
    "mirostat_eta": float,
    "xtc_probability": float,
    "xtc_threshold": float,
    "dry_multiplier": float,
    "dry_base": float,
    "dry_allowed_length": int,
    "dry_penalty_last_n": int,
    "top_n_sigma": float,
}
# Beyond these a sampler in C divides by zero, loops or asks for absurd memory.
_LEAST: dict[str, float] = {"repeat_penalty": 1e-6, "dry_base": 1e-6, "mirostat": 0}
_MOST: dict[str, float] = {"mirostat": 2}
_INT32_OPTIONS = ("top_k", "repeat_last_n", "dry_allowed_length", "dry_penalty_last_n")
_LOAD = {
    "num_ctx": int,
    "num_batch": int,
    "num_gpu": int,
    "main_gpu": int,
    "use_mmap": bool,
    "num_thread": int,
    "num_parallel": int,
    "draft_num_predict": int,
    "split_mode": str,
    "tensor_split": tuple,
    "kv_cache_type": str,
}
_TYPES: dict[str, type] = {
    **_SAMPLING,
    **_LOAD,
    "num_keep": int,
    "num_predict": int,
    "deterministic": bool,
    "lora": dict,
    "stop": list,
}
_TYPE_NAMES = {
    **{int: "integer", float: "float32", bool: "boolean", list: "array", str: "string"},
    tuple: "array of numbers",
    dict: 'array of objects such as {"id": 0, "scale": 0.5}',
}


@dataclass(frozen=True, slots=True)
class Options:
    """A request's options by who needs them.

    Attributes:
        load: None where nobody asked for anything that a load decides, so that any load will do.
        max_tokens: None is until the context is full.
        deterministic: whether the request runs alone, so that its seed says all.
        adapters: LoRA adapters of the model by number, with scales; None is all at full scale.
        ignored: names that nobody knows, sorted.
    """

    sampling: SamplingParams
    load: LoadOptions | None
    max_tokens: int | None
    num_keep: int
    stop: tuple[str, ...]
    deterministic: bool
    adapters: tuple[tuple[int, float], ...] | None
    ignored: tuple[str, ...]


def split_options(*layers: Mapping[str, Any], defaults: LoadOptions | None = None) -> Options:
    """Merge layers of options, the last one going before the others, and split them.

    >>> split_options({"top_k": 10, "num_predict": 5}, {"top_k": 20.9}).sampling.top_k
    20

    Raises:
        InvalidOption: a value of a wrong type, or one that no sampler can work with.
    """
    values: dict[str, Any] = {}
    ignored: set[str] = set()
    for layer in layers:
        for name, value in layer.items():
            kind = _TYPES.get(name)
            if kind is None:
                ignored.add(name)
            else:
                values[name] = _coerce(name, value, kind)
    return Options(
        sampling=_sampling({name: values[name] for name in _SAMPLING if name in values}),
        load=_load({name: values[name] for name in _LOAD if name in values}, defaults),
        max_tokens=_max_tokens(values.get("num_predict", -1)),
        num_keep=values.get("num_keep", 4),
        stop=values.get("stop", ()),
        deterministic=values.get("deterministic", False),
        adapters=values.get("lora"),
        ignored=tuple(sorted(ignored)),
    )


def _coerce(name: str, value: Any, kind: type) -> Any:
    """A value as its option's type; JSON floats are cut to integers.

    >>> _coerce("seed", True, int)
    Traceback (most recent call last):
    pannier.pkgmgr.errors.InvalidOption: option "seed" must be of type integer
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind in (int, float) and is_number and math.isfinite(value):
        return _clamp(value) if kind is int else _as_float32(name, value)
    if kind is bool and isinstance(value, bool):
        return value
    if kind is list and isinstance(value, list | tuple):
        if not all(isinstance(item, str) for item in value):
            raise InvalidOption(f'option "{name}" must be of an array of strings')
        if len(value) > _MAX_STOPS:
            raise InvalidOption(f'option "{name}" holds more than {_MAX_STOPS} texts')
        return tuple(value)
    if kind is str and isinstance(value, str):
        return _choose(name, value)
    if kind is tuple:
        return read_shares(name, value)
    if kind is dict and isinstance(value, list | tuple) and len(value) <= _MAX_ADAPTERS:
        return tuple(sorted(_scaled_adapter(name, item) for item in value))
    raise InvalidOption(f'option "{name}" must be of type {_TYPE_NAMES[kind]}')


def _choose(name: str, value: str) -> str:
    if value not in CHOICES[name]:
        known = ", ".join(CHOICES[name])
        raise InvalidOption(f'option "{name}" must be one of {known}')
    return value


def _scaled_adapter(name: str, item: Any) -> tuple[int, float]:
    said = item if isinstance(item, Mapping) else {}
    number, scale = said.get("id"), said.get("scale", 1.0)
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise InvalidOption(f'option "{name}" must name each adapter by its number, "id"')
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not abs(scale) <= 1e6:
        raise InvalidOption(f'option "{name}" must give each adapter a number as "scale"')
    return number, float(scale)


def read_shares(name: str, value: Any) -> tuple[float, ...]:
    """What each GPU gets: a list of numbers, or a text such as `3,1`; none is by their memory.

    Raises:
        InvalidOption: it is none, or gives nobody anything.
    """
    items = [item for item in value.split(",") if item] if isinstance(value, str) else value
    try:
        shares = tuple(float(item) for item in items)
    except (TypeError, ValueError):
        raise InvalidOption(f'option "{name}" must be of type array of numbers') from None
    if not all(0 <= share <= 1e9 for share in shares) or (shares and not sum(shares)):
        raise InvalidOption(f'option "{name}" must hold shares, not all of them 0')
    if len(shares) > MAX_GPUS:
        raise InvalidOption(f'option "{name}" holds more than {MAX_GPUS} shares')
    return shares


def _clamp(value: float) -> int:
    return max(-_INT32_MAX, min(int(value), 2**32 - 1))


def _as_float32(name: str, value: float) -> float:
    if abs(value) > 3.4e38:
        raise InvalidOption(f'option "{name}" must be of type float32')
    return float(value)


def _sampling(values: dict[str, Any]) -> SamplingParams:
    for name, least in _LEAST.items():
        if values.get(name, 1) < least:
            raise InvalidOption(f'option "{name}" must be at least {least:g}')
    for name, most in _MOST.items():
        if values.get(name, 0) > most:
            raise InvalidOption(f'option "{name}" must be at most {most:g}')
    for name in _INT32_OPTIONS:
        if name in values:
            values[name] = min(values[name], _INT32_MAX)
    return SamplingParams(**values)


def _load(values: dict[str, Any], defaults: LoadOptions | None) -> LoadOptions | None:
    if not values:
        return None
    if values.get("num_ctx"):
        values["num_ctx"] = min(max(values["num_ctx"], _MIN_CONTEXT), _INT32_MAX)
    if "num_batch" in values:
        values["num_batch"] = min(max(values["num_batch"], 1), 1 << 16)
    if "num_thread" in values:
        values["num_thread"] = min(max(values["num_thread"], 0), _MAX_THREADS)
    if "num_gpu" in values:
        values["num_gpu"] = min(max(values["num_gpu"], -1), _INT32_MAX)
    if "main_gpu" in values:
        values["main_gpu"] = min(max(values["main_gpu"], 0), 255)
    if "draft_num_predict" in values:
        values["draft_num_predict"] = min(max(values["draft_num_predict"], -1), MAX_DRAFT)
    if "num_parallel" in values:
        values["num_parallel"] = min(max(values["num_parallel"], 0), 256)
    if "kv_cache_type" in values:
        values["cache_type"] = values.pop("kv_cache_type")
    return replace(defaults or LoadOptions(), **values)


def _max_tokens(num_predict: int) -> int | None:
    """Ollama's num_predict: -1 and -2 are no limit of their own."""
    return None if num_predict < 0 else num_predict
