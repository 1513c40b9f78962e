"""Grammars for answers: JSON, JSON Schema, regular expressions, GBNF and Lark.

What a client sends is checked here, in bounds, before an engine sees it; the grammars themselves
are compiled by llguidance. What cannot be obeyed is refused with the reason, never half obeyed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pannier.pkgmgr.errors import InvalidOption

from . import schema as schemas
from . import stems
from .constraint import Constraint
from .errors import EngineMissing
from .lark import JSON_OPTIONS, with_marks

if TYPE_CHECKING:
    from llguidance import LLMatcher

MAX_SOURCE = schemas.MAX_SOURCE  # characters of a grammar


def json_object() -> Constraint:
    """Any JSON object."""
    return json_schema({"type": "object"})


def json_schema(schema: Any) -> Constraint:
    """JSON that a schema describes.

    Raises:
        InvalidOption: for what is no schema, or one beyond what is supported.
    """
    given = schemas.narrowed(schemas.check(schema))
    ready = schemas.prepared(given)
    reason = _reason_against(ready)
    if reason:
        place = schemas.blamed(ready, _reason_against)
        raise InvalidOption(f"the JSON schema cannot be used at {place}: {reason}")
    return Constraint(_from_schema(ready), is_json=True, stems=stems.of_schemas([given]))


def _from_schema(schema: Mapping[str, Any]) -> str:
    return _matcher().grammar_from_json_schema({**schema, "x-guidance": JSON_OPTIONS})


def _reason_against(schema: Mapping[str, Any]) -> str:
    """Why a prepared schema cannot be compiled; empty where it can."""
    try:
        return reason_against(Constraint(_from_schema(schema)))
    except ValueError as error:  # an integer beyond 64 bits
        return _first_line(error)


def regex(pattern: str) -> Constraint:
    """Text that a regular expression matches as a whole (syntax of Rust's regex crate)."""
    matcher = _matcher()
    _check_size(pattern, "regular expression")
    constraint = checked(Constraint(matcher.grammar_from_regex(pattern)), "regular expression")
    return replace(constraint, stems=stems.of_patterns([f"^(?:{pattern})$"]))


def lark(source: str) -> Constraint:
    """Text of a grammar in llguidance's variant of Lark."""
    matcher = _matcher()
    _check_size(source, "Lark grammar")
    return checked(Constraint(matcher.grammar_from_lark(source)), "Lark grammar")


def gbnf(source: str) -> Constraint:
    """Text of a grammar in llama.cpp's GBNF."""
    matcher = _matcher()
    from llguidance.gbnf_to_lark import gbnf_to_lark

    _check_size(source, "GBNF grammar")
    try:
        converted = gbnf_to_lark(source)
    except Exception as error:  # the converter raises plain ones for undefined rules
        raise InvalidOption(f"the GBNF grammar cannot be used: {_first_line(error)}") from error

    return checked(Constraint(matcher.grammar_from_lark(converted)), "GBNF grammar")


def _matcher() -> type[LLMatcher]:
    try:
        from llguidance import LLMatcher
    except ImportError as error:
        raise EngineMissing(
            "constrained answers need the llguidance package",
            hint="pip install 'pannier[runtime]'",
        ) from error
    return LLMatcher


def reason_against(constraint: Constraint) -> str:
    """Why a grammar cannot be compiled; empty where it can."""
    marks = [(mark, None) for mark in constraint.marks]
    grammar = with_marks(constraint.grammar, marks)
    is_error, messages = _matcher().validate_grammar_with_warnings(grammar)
    return _first_line(messages[0]) if is_error else ""


def checked(constraint: Constraint, what: str) -> Constraint:
    """The constraint.

    Raises:
        InvalidOption: its grammar cannot be compiled.
    """
    reason = reason_against(constraint)
    if reason:
        raise InvalidOption(f"the {what} cannot be used: {reason}")
    return constraint


def _check_size(source: str, what: str) -> None:
    if len(source) > MAX_SOURCE:
        raise InvalidOption(f"the {what} has {len(source)} characters, more than {MAX_SOURCE}")


def _first_line(error: object) -> str:
    """The reason; of a regular expression it stands below the expression."""
    # The library names a place that is not there without its `#`.
    first, *others = str(error).strip().replace("Pointer '/", "Pointer '#/").splitlines() or [""]
    reasons = [line for line in others if line.startswith("error: ")]
    if first.endswith("regex parse error:") and reasons:
        first = f"{first.removesuffix('regex parse error:')}{reasons[0].removeprefix('error: ')}"
    return first[:300]
