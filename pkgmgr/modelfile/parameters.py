"""The options that PARAMETER may set: Ollama's names and types (api.Options there)."""

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
        "draft_num_predict": int,
        "frequency_penalty": float,
        "main_gpu": int,
        "min_p": float,
        "num_batch": int,
        "num_ctx": int,
        "num_gpu": int,
        "num_keep": int,
        "num_predict": int,
        "num_thread": int,
        "presence_penalty": float,
        "repeat_last_n": int,
        "repeat_penalty": float,
        "seed": int,
        "stop": list,
        "temperature": float,
        "top_k": int,
        "top_p": float,
        "typical_p": float,
        "use_mmap": bool,
    }
)
DEPRECATED = frozenset(
    {"f16_kv", "logits_all", "low_vram", "mirostat", "mirostat_eta", "mirostat_tau", "numa"}
    | {"penalize_newline", "tfs_z", "use_mlock", "vocab_only"}
)
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
