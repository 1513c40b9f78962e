"""Texts that bring a string to where its pattern matches. Pure, by the compiler itself.

Where a pattern may match anywhere, any character may come, and nothing tells which one leads to the
end. With a bound on the length something does: the last characters are those that it needs. They
are found once for a pattern, and any end of them may be what lacks in the middle of a string.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from .closing import Closer, Ends
from .jsontext import JsonText
from .schema import subschemas

# Bounds that are tried, the second one where the first is too short.
_LENGTHS = (8, 64)
# Patterns of one grammar that are looked at, and their characters; others are walked as they are.
_MAX_PATTERNS = 32
_MAX_PATTERN = 1_000
_MAX_STEMS = 512
_BYTES = tuple(bytes([byte]) for byte in range(256))


def of_schemas(schemas: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The stems of all patterns in schemas, shortest first."""
    found: dict[str, None] = {}
    for schema in schemas:
        for _, part in subschemas(schema):
            named = part.get("patternProperties")
            keys = (part.get("pattern"), *(named if isinstance(named, Mapping) else ()))
            found.update({key: None for key in keys if isinstance(key, str)})
    return of_patterns(found)


def of_patterns(patterns: Iterable[str]) -> tuple[str, ...]:
    """The stems of patterns in JSON strings, shortest first."""
    short = [pattern for pattern in patterns if len(pattern) <= _MAX_PATTERN]
    stems = {stem: None for pattern in short[:_MAX_PATTERNS] for stem in _of_pattern(pattern)}
    return tuple(sorted(stems, key=len)[:_MAX_STEMS])


@lru_cache(maxsize=256)
def _of_pattern(pattern: str) -> tuple[str, ...]:
    for length in _LENGTHS:
        text = _shortest(pattern, length)
        if text is not None:
            return tuple(text[start:] for start in range(len(text)))
    return ()


def _shortest(pattern: str, length: int) -> str | None:
    """What a JSON string of at most `length` characters may hold to match; None for nothing."""
    from llguidance import LLMatcher, LLTokenizer

    schema = {"type": "string", "pattern": pattern, "maxLength": length}
    try:
        grammar = LLMatcher.grammar_from_json_schema(schema)
    except ValueError:  # what is no pattern is refused where the whole is compiled
        return None
    matcher = LLMatcher(LLTokenizer("byte"), grammar, log_level=0)
    if matcher.is_error():
        return None
    closer = Closer(_BYTES, frozenset(), lambda text, _: list(text.encode()))
    way = closer.way_out(matcher, JsonText(), Ends(), limit=16 * length)
    return None if way is None else bytes(way).decode("utf-8", "replace")[1:-1]
