"""Grammars for answers: JSON, JSON Schema, regular expressions, GBNF, Lark, and calls of tools.

What a client sends is checked here, in bounds, before an engine sees it; the grammars themselves
are compiled by llguidance. Unsupported schemas are refused with the reason, never half obeyed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pannier.pkgmgr.errors import InvalidOption

from .constraint import Constraint
from .errors import EngineMissing

if TYPE_CHECKING:
    from llguidance import LLMatcher

MAX_SOURCE = 256 * 1024  # characters of a grammar or a schema as JSON
MAX_DEPTH = 64  # of a schema
MAX_ENUM = 5_000
# Blanks between JSON tokens: enough for an indented object, not enough for a small model to lose
# itself, or to run into the limit of equal tokens in a row.
_BLANKS = r"(?:\n[ ]{0,16}|[ ])?"


def json_object() -> Constraint:
    """Any JSON object."""
    return json_schema({"type": "object"})


def json_schema(schema: Any) -> Constraint:
    """JSON that a schema describes.

    Raises:
        InvalidOption: for what is no schema, or one beyond what is supported.
    """
    _check_schema(schema)
    matcher = _matcher()
    try:
        grammar = matcher.grammar_from_json_schema(
            _without_options(schema),
            overrides={
                "whitespace_flexible": True,
                "whitespace_pattern": _BLANKS,
                "lenient": False,
            },
        )
    except ValueError as error:
        raise InvalidOption(f"the JSON schema cannot be used: {_first_line(error)}") from error
    return _checked(grammar, "JSON schema")


def regex(pattern: str) -> Constraint:
    """Text that a regular expression matches as a whole (syntax of Rust's regex crate)."""
    matcher = _matcher()
    _check_size(pattern, "regular expression")
    return _checked(matcher.grammar_from_regex(pattern), "regular expression")


def lark(source: str) -> Constraint:
    """Text of a grammar in llguidance's variant of Lark."""
    matcher = _matcher()
    _check_size(source, "Lark grammar")
    return _checked(matcher.grammar_from_lark(source), "Lark grammar")


def gbnf(source: str) -> Constraint:
    """Text of a grammar in llama.cpp's GBNF."""
    matcher = _matcher()
    from llguidance.gbnf_to_lark import gbnf_to_lark

    _check_size(source, "GBNF grammar")
    try:
        converted = gbnf_to_lark(source)
    except Exception as error:  # the converter raises plain ones for undefined rules
        raise InvalidOption(f"the GBNF grammar cannot be used: {_first_line(error)}") from error

    return _checked(matcher.grammar_from_lark(converted), "GBNF grammar")


def tool_call(
    tools: Sequence[Mapping[str, Any]], *, name: str | None = None, wrapper: str = "arguments"
) -> Constraint:
    """One call, as a JSON object with `name` and `wrapper`, of any of the tools or of one.

    Raises:
        InvalidOption: there is no such tool, or its schema is not supported.
    """
    functions = [tool.get("function") for tool in tools]
    known = [f for f in functions if isinstance(f, Mapping) and isinstance(f.get("name"), str)]
    chosen = [f for f in known if name is None or f["name"] == name]
    if not chosen:
        wanted = "a tool call is required" if name is None else f"tool {name!r} is required"
        raise InvalidOption(f"{wanted}, but the request offers none")
    calls = [_call_schema(function, wrapper) for function in chosen]
    return json_schema(calls[0] if len(calls) == 1 else {"anyOf": calls})


def _call_schema(function: Mapping[str, Any], wrapper: str) -> dict[str, Any]:
    parameters = function.get("parameters")
    schema = dict(parameters) if isinstance(parameters, Mapping) else {}
    arguments = {"additionalProperties": False, **schema, "type": "object"}
    return {
        "type": "object",
        "properties": {"name": {"const": function["name"]}, wrapper: arguments},
        "required": ["name", wrapper],
        "additionalProperties": False,
    }


def _matcher() -> type[LLMatcher]:
    try:
        from llguidance import LLMatcher
    except ImportError as error:
        raise EngineMissing(
            "constrained answers need the llguidance package",
            hint="pip install 'pannier[runtime]'",
        ) from error
    return LLMatcher


def _checked(grammar: str, what: str) -> Constraint:
    matcher = _matcher()
    is_error, messages = matcher.validate_grammar_with_warnings(grammar)
    if is_error:
        raise InvalidOption(f"the {what} cannot be used: {_first_line(messages[0])}")
    return Constraint(grammar)


def _check_size(source: str, what: str) -> None:
    if len(source) > MAX_SOURCE:
        raise InvalidOption(f"the {what} has {len(source)} characters, more than {MAX_SOURCE}")


def _check_schema(schema: Any) -> None:
    if not isinstance(schema, Mapping):
        raise InvalidOption("a JSON schema is an object")
    for depth, value in _walk(schema):
        if depth > MAX_DEPTH:
            raise InvalidOption(f"the JSON schema is nested more than {MAX_DEPTH} levels deep")
        if not isinstance(value, Mapping):
            continue
        for key in ("$ref", "$dynamicRef"):
            target = value.get(key)
            if isinstance(target, str) and not target.startswith("#"):
                raise InvalidOption(f"the JSON schema refers to {target!r}: only # is supported")
        options = value.get("enum")
        if isinstance(options, list) and len(options) > MAX_ENUM:
            raise InvalidOption(f"an enum has {len(options)} values, more than {MAX_ENUM}")
    _check_size(json.dumps(schema), "JSON schema")


def _walk(schema: Any) -> Iterator[tuple[int, Any]]:
    """Every value in a schema with its depth, without recursion."""
    waiting: list[tuple[int, Any]] = [(0, schema)]
    while waiting:
        depth, value = waiting.pop()
        yield depth, value
        if depth > MAX_DEPTH:
            continue
        if isinstance(value, Mapping):
            waiting += ((depth + 1, item) for item in value.values())
        elif isinstance(value, list):
            waiting += ((depth + 1, item) for item in value)


def _without_options(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema without the key by which it could set compiler options."""
    return {key: value for key, value in schema.items() if key != "x-guidance"}


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0][:300]
