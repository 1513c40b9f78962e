"""JSON as Go's encoding/json writes it: compact, map keys sorted, HTML signs escaped. Pure."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from .values import GoError, JsonList, NilMap, Slice, Struct, Words

# Beyond what json.dumps escapes: HTML signs, the two line separators, and invalid UTF-8.
_ESCAPES = re.compile("[<>&\u2028\u2029\ud800-\udfff\x7f]")
_MAX_DEPTH = 100


def to_json(value: Any) -> str:
    """The JSON text.

    Raises:
        GoError: for a number that JSON has not, or nesting beyond 100.
    """
    return _encode(value, 0)


def _encode(value: Any, depth: int) -> str:
    if depth > _MAX_DEPTH:
        raise GoError("json: nested too deeply")
    if isinstance(value, str | bool | int | float | complex | bytes):
        return _scalar(value)
    if isinstance(value, Struct):
        return _object(value.json, depth, list(value.json))
    if isinstance(value, NilMap):
        return "null"
    if isinstance(value, dict):
        return _object(value, depth, sorted(value))
    if isinstance(value, Words) and len(value) == 1:
        return text(value[0])
    if isinstance(value, list):
        if isinstance(value, JsonList | Slice | Words) and not value:
            return "null"
        return f"[{','.join(_encode(item, depth + 1) for item in value)}]"
    return "null"


def _scalar(value: str | bool | float | complex | bytes) -> str:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, bytes):
        return text(base64.b64encode(value).decode("ascii"))
    raise GoError("json: unsupported type")


def _object(value: Mapping[str, Any], depth: int, keys: list[str]) -> str:
    members = (f"{text(key)}:{_encode(value[key], depth + 1)}" for key in keys)
    return f"{{{','.join(members)}}}"


def text(value: str) -> str:
    """A JSON string literal."""
    return _ESCAPES.sub(_escape, json.dumps(value, ensure_ascii=False))


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code == 0x7F:
        return "\x7f"
    return "\\ufffd" if 0xD800 <= code < 0xE000 else f"\\u{code:04x}"


def number(value: float) -> str:
    """A float64 as ES6 would write it, which is what encoding/json follows.

    Raises:
        GoError: for infinities and NaN.
    """
    if not math.isfinite(value):
        raise GoError("json: unsupported value")
    size = abs(value)
    if size and (size < 1e-6 or size >= 1e21):
        mantissa, exponent = f"{value!r}".split("e") if "e" in repr(value) else _scientific(value)
        return f"{mantissa.removesuffix('.0')}e{int(exponent):+d}".replace("e-0", "e-")
    return fixed(value)


def fixed(value: float) -> str:
    """The shortest digits that give the value back, without an exponent."""
    digits, exponent = shortest(value)
    sign = "-" if math.copysign(1, value) < 0 else ""
    if exponent <= 0:
        return f"{sign}0.{'0' * -exponent}{digits}" if digits != "0" else f"{sign}0"
    if len(digits) <= exponent:
        return f"{sign}{digits}{'0' * (exponent - len(digits))}"
    return f"{sign}{digits[:exponent]}.{digits[exponent:]}"


def shortest(value: float) -> tuple[str, int]:
    """Digits d and exponent e with |value| = 0.d × 10^e, d as short as gives the value back."""
    mantissa, _, power = repr(abs(value)).partition("e")
    whole, _, part = mantissa.partition(".")
    digits = (whole + part).lstrip("0")
    leading = len(whole + part) - len(digits)
    exponent = len(whole) - leading + int(power or 0)
    return (digits.rstrip("0") or "0", exponent if digits.strip("0") else 1)


def _scientific(value: float) -> tuple[str, str]:
    digits, exponent = shortest(value)
    sign = "-" if value < 0 else ""
    mantissa = digits[0] + (f".{digits[1:]}" if len(digits) > 1 else "")
    return sign + mantissa, str(exponent - 1)
