"""JSON as Go's encoding/json writes it, byte for byte: what Ollama hashes.

Compact, `<`, `>`, `&`, U+2028 and U+2029 escaped, floats in the shortest form that Go gives them.
Members keep their order unless `sort` asks for that of Go maps.
"""

from __future__ import annotations

import json
import math
from typing import Any

_ESCAPES = str.maketrans(
    {
        "<": "\\u003c",
        ">": "\\u003e",
        "&": "\\u0026",
        "\u2028": "\\u2028",
        "\u2029": "\\u2029",
    }
)


def dumps(value: Any, *, sort: bool = False) -> str:
    r"""The text of a JSON value.

    >>> dumps({"temperature": 0.7, "stop": ["<eot>"]}, sort=True)
    '{"stop":["\\u003ceot\\u003e"],"temperature":0.7}'

    Raises:
        ValueError: for infinities and not-a-number.
    """
    if isinstance(value, dict):
        items = sorted(value.items()) if sort else value.items()
        return "{" + ",".join(f"{_string(k)}:{dumps(v, sort=sort)}" for k, v in items) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(dumps(item, sort=sort) for item in value) + "]"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, float):
        return _float(value)
    return json.dumps(value)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).translate(_ESCAPES)


def _float(value: float) -> str:
    """Go prints plain digits between 1e-6 and 1e21 and exponents without padding elsewhere."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is no JSON value")
    if value == 0:
        return "-0" if math.copysign(1, value) < 0 else "0"
    if 1e-6 <= abs(value) < 1e21:
        return _plain(value)
    mantissa, _, exponent = repr(value).partition("e")
    sign = "-" if exponent.startswith("-") else "+"
    return f"{mantissa.removesuffix('.0')}e{sign}{exponent.lstrip('+-').lstrip('0')}"


def _plain(value: float) -> str:
    from decimal import Decimal

    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
