"""Go's fmt: what `{{ value }}`, print and println write. Pure.

Everything that makes text from values is bounded while it is made: a template is a stranger's
program, and one call can name the same long text ten thousand times.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from .encoding import fixed, shortest, to_json
from .values import GoError, JsonList, JsonMap, NilMap, Struct, Words

MAX_TEXT = 4 * 1024 * 1024  # characters; what a template may write, and so the most worth making
_MAX_DEPTH = 100
_LARGE = 6  # the exponent from which %g writes one, as strconv decides for shortest digits


def show(value: Any) -> str:
    """What an action prints."""
    return value if type(value) is str else "<no value>" if value is None else to_text(value)


def to_text(value: Any, *, depth: int = 0) -> str:
    """`%v`."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return general(value)
    if isinstance(value, complex):
        imaginary = general(value.imag)
        sign = "" if imaginary[0] in "+-" else "+"
        return f"({general(value.real)}{sign}{imaginary}i)"
    if depth > _MAX_DEPTH:
        return "…"
    text = own_text(value)
    if text is not None:
        return text
    if isinstance(value, Struct):
        fields = (to_text(item, depth=depth + 1) for item in value.fields.values())
        return f"{{{' '.join(fields)}}}"
    if isinstance(value, dict):
        pairs = (f"{key}:{to_text(value[key], depth=depth + 1)}" for key in sorted(value))
        return f"map[{' '.join(pairs)}]"
    if isinstance(value, bytes):
        numbers = joined(f"{byte} " for byte in value)
        return f"[{numbers[:-1]}]"
    if isinstance(value, list):
        return f"[{' '.join(to_text(item, depth=depth + 1) for item in value)}]"
    return "<nil>"


def own_text(value: Any) -> str | None:
    """What the String method of a value's type gives, None where its type has none."""
    if isinstance(value, NilMap):
        return "{}"
    if isinstance(value, JsonMap | JsonList) or (isinstance(value, Struct) and value.prints_json):
        return to_json(value)
    if isinstance(value, Words):
        return "".join(value) if len(value) < 2 else f"[{' '.join(value)}]"
    return None


def sprint(values: list[Any]) -> str:
    """fmt.Sprint: blanks between neighbours of which neither is a string.

    Raises:
        GoError: where the text gets too long; so do all that make texts here.
    """
    return joined(_spaced(values))


def _spaced(values: list[Any]) -> Iterator[str]:
    for place, value in enumerate(values):
        if place and not isinstance(value, str) and not isinstance(values[place - 1], str):
            yield " "
        yield to_text(value)


def sprintln(values: list[Any]) -> str:
    """fmt.Sprintln: blanks between all, and a line's end."""
    return (
        joined(f"{' ' if place else ''}{to_text(value)}" for place, value in enumerate(values))
        + "\n"
    )


def joined(parts: Iterable[str]) -> str:
    """The parts as one text."""
    kept: list[str] = []
    room = MAX_TEXT
    for part in parts:
        room -= len(part)
        if room < 0:
            raise GoError(f"makes a text of more than {MAX_TEXT} characters")
        kept.append(part)
    return "".join(kept)


def general(value: float, *, precision: int = -1) -> str:
    """`%g`: the shortest form, or `precision` significant digits."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{'+' if value > 0 else '-'}Inf"
    if precision >= 0:
        return f"{value:.{precision or 1}g}"
    digits, exponent = shortest(value)
    if -4 <= exponent - 1 < _LARGE:
        return fixed(value)
    mantissa = digits[0] + (f".{digits[1:]}" if len(digits) > 1 else "")
    sign = "-" if value < 0 else ""
    return f"{sign}{mantissa}e{exponent - 1:+03d}"
