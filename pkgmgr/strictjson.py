"""JSON from strangers: size, depth, duplicate keys and not-a-number are refused before use.

CPython's parser alone accepts duplicate keys, NaN and lone surrogates silently. RFC 8259.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

MAX_DEPTH = 64
# The closing quote may be absent and nothing backtracks: a text of open quotes takes linear time.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def loads(raw: bytes, *, max_size: int) -> Any:  # noqa: D417 - raw is the JSON text
    """Parse UTF-8 JSON.

    Args:
        max_size: bytes; longer input is refused unread.

    Raises:
        ValueError: with a short reason; also for what `json` itself refuses.
    """
    if len(raw) > max_size:
        raise ValueError(f"JSON of {len(raw)} bytes is over the limit of {max_size}")
    _check_depth(raw)
    try:
        text = raw.decode("utf-8")
        value = json.loads(
            text,
            object_pairs_hook=_no_duplicates,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
        if "\\u" in text:
            _refuse_surrogates(value)
    except UnicodeDecodeError as error:
        raise ValueError("JSON is not valid UTF-8") from error
    except RecursionError as error:
        raise ValueError("JSON is nested too deeply") from error
    return value


def _check_depth(raw: bytes) -> None:
    depth = 0
    for bracket in _STRING.sub(b"", raw).translate(None, _NOT_BRACKETS):
        if bracket in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"JSON is nested deeper than {MAX_DEPTH}")
        else:
            depth -= 1


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("JSON object has a duplicate key")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"JSON holds {name}, which is no JSON value")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"JSON holds a number beyond all bounds: {text[:20]}")
    return value


def _refuse_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("JSON holds half of a surrogate pair") from error
