"""Durations as Ollama's clients write them: a JSON number of seconds, or a text in Go's form. Pure.

Go's form is that of its package `time`, function ParseDuration: `1h30m`, `-1.5s`, `300ms`.
"""

from __future__ import annotations

import re
from typing import Any

from .errors import RequestError

_PART = re.compile(r"(?=.)([0-9]*\.?[0-9]*)([^0-9.]*)", re.DOTALL)
_SECONDS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
# Go's durations end here: at 292 years. JSON has integers that no float can hold.
_MAX_S = 2**63 // 10**9
# Longer texts are no durations.
_MAX_TEXT = 80


def seconds_of(value: Any, param: str) -> float:
    """The seconds that a duration stands for; negative ones are as they are.

    >>> seconds_of("1h30m", "keep_alive"), seconds_of(-1, "keep_alive")
    (5400.0, -1.0)

    Args:
        value: any JSON value.
        param: the field that an error is about.

    Raises:
        RequestError: in Go's words, for anything that is neither a number nor a duration.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise RequestError(400, f"Unsupported type: '{_go_type(value)}'", param=param)
    if isinstance(value, str):
        return _parsed(value, param)
    return float(max(-_MAX_S, min(value, _MAX_S)))


def _parsed(text: str, param: str) -> float:
    sign, body = (text[0], text[1:]) if text[:1] in ("-", "+") else ("", text)
    if body == "0":
        return 0.0
    seconds = 0.0
    fault = "" if 0 < len(body) <= _MAX_TEXT else "invalid"
    for number, unit in _PART.findall(body) if not fault else ():
        fault = fault or _fault_of(number, unit)
        seconds += 0 if fault else float(number) * _SECONDS[unit]
    if fault or seconds > _MAX_S:
        message = f'time: {fault or "invalid"} duration "{text[:80]}"'
        raise RequestError(400, message, param=param)
    return -seconds if sign == "-" else seconds


def _fault_of(number: str, unit: str) -> str:
    """What Go says of a part of a duration, before the word; empty where it is right."""
    if not number.strip("."):
        return "invalid"
    if not unit:
        return "missing unit in"
    return "" if unit in _SECONDS else f'unknown unit "{unit}" in'


def _go_type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return "[]interface {}" if isinstance(value, list) else "map[string]interface {}"
