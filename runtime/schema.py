"""JSON schemas of strangers: checked in bounds, and made ready for the compiler. Pure.

Draft 2020-12, as far as llguidance implements it. What is asserted and cannot be held to is refused
with its place; nothing is half obeyed. Formats that the compiler leaves open, or takes too widely,
become patterns: a date is one of the calendar, and a fraction of a second has an end.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from pannier.pkgmgr.errors import InvalidOption

MAX_SOURCE = 256 * 1024  # characters of a schema as JSON
MAX_DEPTH = 64
MAX_ENUM = 5_000
# Digits of the least common multiple of all `multipleOf`: 9,973 compiles in 70 ms, 999,983 in 15 s.
MAX_MULTIPLE = 10_000
# Characters of subschemas that are compiled one by one to find the one to blame: about a second.
_MAX_BLAMED = 400_000

# Keywords that assert something which no mask of llguidance's can hold an answer to.
UNSUPPORTED = frozenset(
    {
        *("not", "if", "then", "else", "uniqueItems", "contains", "minContains", "maxContains"),
        *("propertyNames", "dependentRequired", "dependentSchemas", "dependencies"),
        *("unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef"),
    }
)
# Keywords that hold one schema, several, or several by name.
_ONE = ("items", "additionalProperties", "additionalItems", "not", "if", "then", "else", "contains")
_SOME = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")

_YEAR = "(?:[0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
_LEAP = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_DATE = (
    f"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
    f"|{_LEAP}-02-29)"
)
_CLOCK = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = rf"{_CLOCK}:[0-5][0-9](?:\.[0-9]{{1,6}})?(?:Z|[+-]{_CLOCK})"
_N = "[0-9]{1,4}"
_DAYS = f"(?:{_N}Y(?:{_N}M(?:{_N}D)?)?|{_N}M(?:{_N}D)?|{_N}D)"
_HOURS = f"T(?:{_N}H(?:{_N}M(?:{_N}S)?)?|{_N}M(?:{_N}S)?|{_N}S)"
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_POINTER = r"(?:/(?:[^~/]|~[01]){0,64}){0,16}"
FORMATS: Mapping[str, str] = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "duration": f"P(?:{_DAYS}(?:{_HOURS})?|{_HOURS}|{_N}W)",
    "email": rf"{_ATOM}{{1,32}}(?:\.{_ATOM}{{1,31}})?@(?:{_LABEL}\.){{1,3}}[A-Za-z]{{2,16}}",
    "hostname": rf"(?:{_LABEL}\.){{0,3}}{_LABEL}",
    "json-pointer": _POINTER,
    "relative-json-pointer": rf"(?:0|[1-9][0-9]{{0,4}})(?:#|{_POINTER})",
}
# Wider formats, of which these are a part.
_NARROWER = {
    "idn-email": "email",
    "idn-hostname": "hostname",
    "iri": "uri",
    "uri-reference": "uri",
    "iri-reference": "uri",
}
# What llguidance knows itself.
_NATIVE = frozenset({"ipv4", "ipv6", "uuid", "uri", "unknown"})
# Formats of the specification that cannot be held to; all other names are notes.
_REFUSED_FORMATS = frozenset({"regex", "uri-template"})
# Notes that the compiler need not see; the first could set its options.
_NOTES = frozenset({"x-guidance", "examples", "default", "$comment"})


def check(schema: Any, *, what: str = "JSON schema") -> Mapping[str, Any]:
    """A schema within bounds, True as the schema of everything.

    Raises:
        InvalidOption: it is no schema, too large, refers to elsewhere or asks for what is unknown.
    """
    schema = {} if schema is True else schema
    if not isinstance(schema, Mapping):
        raise InvalidOption(f"a {what} is an object")
    _check_depth(schema, what)
    _check_size(schema, what)
    multiples: list[int] = []
    for path, part in subschemas(schema):
        _check_part(part, path, what)
        multiples += _multiple(part, path, what)
    _check_multiples(multiples, is_joined='"allOf"' in json.dumps(schema), what=what)
    return schema


def _check_depth(schema: Mapping[str, Any], what: str) -> None:
    waiting: list[tuple[int, Any]] = [(0, schema)]
    while waiting:
        depth, value = waiting.pop()
        if depth > MAX_DEPTH:
            raise InvalidOption(f"the {what} is nested more than {MAX_DEPTH} levels deep")
        if isinstance(value, Mapping):
            waiting += ((depth + 1, item) for item in value.values())
        elif isinstance(value, list):
            waiting += ((depth + 1, item) for item in value)


def _check_size(schema: Mapping[str, Any], what: str) -> None:
    size = len(json.dumps(schema))
    if size > MAX_SOURCE:
        raise InvalidOption(f"the {what} has {size} characters, more than {MAX_SOURCE}")


def subschemas(schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every schema in a schema, itself first, with its place as a JSON pointer."""
    waiting: list[tuple[str, Any]] = [("#", schema)]
    while waiting:
        path, part = waiting.pop()
        if not isinstance(part, Mapping):
            continue
        yield path, part
        inner = [(f"{path}/{key}", part[key]) for key in _ONE if isinstance(part.get(key), Mapping)]
        for key in _SOME:
            if isinstance(part.get(key), list):
                inner += ((f"{path}/{key}/{at}", item) for at, item in enumerate(part[key]))
        for key in _NAMED:
            if isinstance(part.get(key), Mapping):
                inner += ((f"{path}/{key}/{name}", item) for name, item in part[key].items())
        waiting += reversed(inner)


def _check_part(part: Mapping[str, Any], path: str, what: str) -> None:
    for key in sorted(UNSUPPORTED & part.keys()):
        if key != "uniqueItems" or part[key] is not False:
            raise InvalidOption(f"the {what} uses {key!r} at {path}, which is not supported")
    target = part.get("$ref")
    if isinstance(target, str) and not target.startswith("#"):
        raise InvalidOption(f"the {what} refers to {target!r} at {path}: only # is supported")
    options = part.get("enum")
    if isinstance(options, list) and len(options) > MAX_ENUM:
        raise InvalidOption(
            f"an enum of the {what} has {len(options)} values at {path}, more than {MAX_ENUM}"
        )
    if part.get("format") in _REFUSED_FORMATS:
        raise InvalidOption(
            f"the {what} uses format {part['format']!r} at {path}, which is not supported"
        )


def _multiple(part: Mapping[str, Any], path: str, what: str) -> list[int]:
    """The digits of a `multipleOf`, without the zeros around them."""
    value = part.get("multipleOf")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        return []
    digits = "".join(map(str, Decimal(repr(value)).as_tuple().digits)).strip("0") or "1"
    if len(digits) > len(str(MAX_MULTIPLE)) or int(digits) > MAX_MULTIPLE:
        raise InvalidOption(
            f"the {what} uses 'multipleOf' {value} at {path}: its digits are too many, "
            f"at most {MAX_MULTIPLE} is supported"
        )
    return [int(digits)]


def _check_multiples(multiples: Sequence[int], *, is_joined: bool, what: str) -> None:
    if is_joined and multiples and math.lcm(*set(multiples)) > MAX_MULTIPLE:
        raise InvalidOption(
            f"the {what} joins 'multipleOf' {sorted(set(multiples))} by 'allOf': "
            f"their common multiple is more than {MAX_MULTIPLE}"
        )


def prepared(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A checked schema for the compiler."""

    def change(part: Mapping[str, Any]) -> dict[str, Any]:
        changed = {key: value for key, value in part.items() if key not in _NOTES}
        if changed.get("uniqueItems") is False:
            del changed["uniqueItems"]
        _change_format(changed)
        return changed

    return _mapped(schema, change)


def _change_format(part: dict[str, Any]) -> None:
    name = part.get("format")
    if not isinstance(name, str):
        return
    name = _NARROWER.get(name, name)
    part["format"] = name
    pattern = FORMATS.get(name)
    if pattern is None:
        if name not in _NATIVE:
            del part["format"]
        return
    del part["format"]
    both = part.get("allOf")
    part["allOf"] = [*(both if isinstance(both, list) else ()), {"pattern": f"^(?:{pattern})$"}]


def _mapped(
    part: Mapping[str, Any], change: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """A schema with every schema in it changed."""
    changed = change(part)
    for key in _ONE:
        if isinstance(changed.get(key), Mapping):
            changed[key] = _mapped(changed[key], change)
    for key in _SOME:
        if isinstance(changed.get(key), list):
            changed[key] = [
                _mapped(item, change) if isinstance(item, Mapping) else item
                for item in changed[key]
            ]
    for key in _NAMED:
        if isinstance(changed.get(key), Mapping):
            changed[key] = {
                name: _mapped(item, change) if isinstance(item, Mapping) else item
                for name, item in changed[key].items()
            }
    return changed


# Beside these an object's properties are not all that it may hold.
_COMPOSING = frozenset({"allOf", "anyOf", "oneOf", "$ref"})


def narrowed(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema whose objects hold nothing but their properties, if it leaves that open throughout.

    Who describes an object wants what is described, and Ollama gives no more; what such a schema
    lets pass the wider one lets pass, too. Where objects are put together from several schemas
    the schema stays as it is: each would rule out the properties of the others.
    """
    parts = [part for _, part in subschemas(schema)]
    if any("properties" in part and _COMPOSING & part.keys() for part in parts):
        return schema
    if any(isinstance(part.get("allOf"), list) and len(part["allOf"]) > 1 for part in parts):
        return schema
    if any({*part.get("required", ())} - {*part.get("properties", ())} for part in parts):
        return schema
    return closed(schema)


def closed(schema: Any) -> dict[str, Any]:
    """A schema whose objects hold nothing but their properties, unless they say otherwise.

    That is what OpenAI's strict mode asks schemas to say themselves.

    Raises:
        InvalidOption: as for `check`.
    """

    def close(part: Mapping[str, Any]) -> dict[str, Any]:
        is_object = isinstance(part.get("properties"), Mapping) and "$ref" not in part
        return {**({"additionalProperties": False} if is_object else {}), **part}

    return _mapped(check(schema), close)


def blamed(schema: Mapping[str, Any], reason_of: Callable[[Mapping[str, Any]], str]) -> str:
    """The place of the innermost schema that fails for the reason for which the whole fails."""
    whole = reason_of(schema)
    shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    best = "#"
    spent = 0
    for path, part in subschemas(schema):
        if path == "#":
            continue
        spent += 100 + len(json.dumps(part)) + len(json.dumps(shared))
        if spent > _MAX_BLAMED:
            break
        if path.startswith(best) and reason_of({**shared, **part}) == whole:
            best = path
    return best
