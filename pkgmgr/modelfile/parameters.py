"""The options that PARAMETER may set: Ollama's names and types (api.Options there), and ours.

Programs that do not know one of ours pass over it, as Ollama does.
"""

from __future__ import annotations

import logging
import math
import re
import struct
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ..errors import InvalidOption

_log = logging.getLogger(__name__)

# What takes an inherited parameter away.
UNSET = "unset"
PARAMETERS: Mapping[str, type] = MappingProxyType(
    {
        "deterministic": bool,
        "draft_num_predict": int,
        "dry_allowed_length": int,
        "dry_base": float,
        "dry_multiplier": float,
        "dry_penalty_last_n": int,
        "frequency_penalty": float,
        "kv_cache_type": str,
        "main_gpu": int,
        "min_p": float,
        "mirostat": int,
        "mirostat_eta": float,
        "mirostat_tau": float,
        "num_batch": int,
        "num_ctx": int,
        "num_gpu": int,
        "num_keep": int,
        "num_parallel": int,
        "num_predict": int,
        "num_thread": int,
        "presence_penalty": float,
        "repeat_last_n": int,
        "repeat_penalty": float,
        "seed": int,
        "split_mode": str,
        "stop": list,
        "temperature": float,
        "tensor_split": str,
        "top_k": int,
        "top_n_sigma": float,
        "top_p": float,
        "typical_p": float,
        "use_mmap": bool,
        "xtc_probability": float,
        "xtc_threshold": float,
    }
)
# What a text may be; how GPUs share a model, and what cells are made of, the most exact first.
CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"split_mode": ("none", "layer", "row"), "kv_cache_type": ("f16", "q8_0", "q4_0")}
)
DEPRECATED = frozenset(
    {"f16_kv", "logits_all", "low_vram", "numa", "penalize_newline", "tfs_z", "use_mlock"}
    | {"vocab_only"}
)
_SHARES = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?(?:,[0-9]{1,9}(?:\.[0-9]{1,9})?){0,15}")
_INT = re.compile(r"[+-]?[0-9]{1,19}")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
# Go's strconv.ParseBool.
_BOOLS = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}


def parse_value(name: str, text: str) -> Any:
    """The value of a parameter as a Modelfile writes it; one text for `stop`.

    Raises:
        InvalidOption: for an unknown name or a text that is no value of its type.
    """
    kind = check_name(name)
    if kind is int and _INT.fullmatch(text) and -(1 << 63) <= int(text) < 1 << 63:
        return int(text)
    if kind is float and _FLOAT.fullmatch(text) and math.isfinite(float(text)):
        return _single(float(text), text)
    if kind is bool and text in _BOOLS:
        return _BOOLS[text]
    if kind is list:
        return text
    if kind is str:
        return _one_of(name, text)
    raise InvalidOption(f"invalid {kind.__name__} value {text[:60]!r} of parameter {name!r}")


def check_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that come as JSON values, in the form in which models store them.

    Texts are read as in a Modelfile. Deprecated names are left out with a warning.

    Raises:
        InvalidOption: for an unknown name or a value of a wrong type.
    """
    return {
        name: _check_value(name, value) for name, value in values.items() if not is_deprecated(name)
    }


def is_deprecated(name: str) -> bool:
    """Whether a parameter does nothing any more; warns if so."""
    if name in DEPRECATED:
        _log.warning("parameter %s is deprecated and has no effect", name)
    return name in DEPRECATED


def check_name(name: str) -> type:
    """The type of a parameter.

    Raises:
        InvalidOption: where there is none of that name.
    """
    try:
        return PARAMETERS[name]
    except KeyError:
        raise InvalidOption(
            f"unknown parameter {name!r}", hint=f"known are {', '.join(PARAMETERS)}"
        ) from None


def _check_value(name: str, value: Any) -> Any:
    kind = check_name(name)
    if kind is str and isinstance(value, list | tuple):
        value = ",".join(map(str, value))
    if kind is list:
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
            raise InvalidOption(f"parameter {name!r} must be a list of strings")
        return list(texts)
    if isinstance(value, str):
        return parse_value(name, value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is bool and isinstance(value, bool):
        return value
    if kind is float and number and math.isfinite(value):
        return float(value)
    if kind is int and number and math.isfinite(value) and abs(value) < 1 << 63:
        return int(value)
    raise InvalidOption(f"invalid {kind.__name__} value {value!r:.60} of parameter {name!r}")


def _one_of(name: str, text: str) -> str:
    """A text that is one of those that there are, or shares such as `3,1`."""
    known = CHOICES.get(name)
    if known is not None and text not in known:
        raise InvalidOption(f"parameter {name!r} must be one of {', '.join(known)}")
    if known is None and not _SHARES.fullmatch(text):
        raise InvalidOption(f"parameter {name!r} must hold shares such as 3,1")
    return text


def _single(value: float, text: str) -> float:
    """The value that Ollama would store: it keeps floats in 32 bits and prints them shortest."""
    try:
        single = struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        raise InvalidOption(f"{text[:60]} is too large for a parameter") from None
    for digits in range(1, 10):
        shortest = float(f"{single:.{digits}g}")
        if struct.pack("f", shortest) == struct.pack("f", single):
            return shortest
    return value
