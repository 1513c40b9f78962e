"""What a request demands of its answer, as a constraint for one prompt's format.

A constraint begins after the reasoning where the model reasons. Calls are held to the form in which
the model writes them, else, where one is forced, to bare JSON, which the parser of that prompt
expects.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pannier.pkgmgr.errors import InvalidOption

from . import constrain
from .callgrammar import calls_or_form, forced_call, harmony_form, lazy_calls, tools_of
from .constraint import Constraint
from .errors import EngineMissing
from .prompt import ChatPrompt

_LOG = logging.getLogger(__name__)

# Choices that leave the calling of tools to the model.
FREE_CHOICES = ("auto", "none")
# Characters of JSON; the grammar of larger sets of tools takes longer to build than it is worth.
_LARGE_TOOLS = 16_384


def constraint_for(
    prompt: ChatPrompt,
    *,
    form: str | Mapping[str, Any] | None = None,
    tool_choice: str = "auto",
    tools: Sequence[Mapping[str, Any]] = (),
    many_calls: bool = True,
    budget: int | None = None,
) -> Constraint | None:
    """The constraint, None where everything may be answered.

    Args:
        prompt: what is answered.
        form: `json` for any object, a JSON schema, or `{"type": T, "grammar": text}` where T is
            `regex`, `gbnf` or `lark`.
        tool_choice: `auto`, `none`, `required`, or the name of a tool.
        tools: those that may be called.
        many_calls: whether several may be called in one answer.
        budget: tokens of reasoning at most.

    Raises:
        InvalidOption: a schema is not supported, or there is no such tool.
    """
    constraint = Constraint()
    if tool_choice not in FREE_CHOICES:
        constraint = _forced_call(prompt, tool_choice, tools, many_calls)
    elif tools and tool_choice == "auto" and form is None:
        constraint = _lazy_calls(prompt, tools, many_calls)
    elif form is not None:
        constraint = _of_form(form)
        callable_tools = tools if tool_choice == "auto" else ()
        constraint = _beside_calls(prompt, constraint, callable_tools, many_calls)
    if not constraint.grammar and budget is None:
        return None
    thinking = prompt.output.reasoning if prompt.thinks else None
    if thinking is None:
        return constraint if constraint.grammar else None
    is_open = prompt.output.is_opened_by(prompt.text)
    return replace(constraint, thinking=thinking, is_open=is_open, budget=budget)


def _of_form(form: str | Mapping[str, Any]) -> Constraint:
    """A JSON schema; or a grammar, named by a `type` that no schema has."""
    if not isinstance(form, Mapping):
        return constrain.json_object()
    makers = {"regex": constrain.regex, "gbnf": constrain.gbnf, "lark": constrain.lark}
    kind, source = form.get("type"), form.get("grammar")
    if isinstance(kind, str) and kind in makers:
        if not isinstance(source, str):
            raise InvalidOption(f"a format of type {kind} has its text in `grammar`")
        return makers[kind](source)
    return constrain.json_schema(form)


def _beside_calls(
    prompt: ChatPrompt, constraint: Constraint, tools: Sequence[Mapping[str, Any]], many: bool
) -> Constraint:
    """A form in the prompt's format, beside calls of tools where there are any."""
    if tools and prompt.output.can_hold_calls and len(json.dumps(tools)) <= _LARGE_TOOLS:
        try:
            return calls_or_form(prompt.output, tools_of(tools), constraint, many=many)
        except InvalidOption as error:
            _LOG.info("with a format no tool can be called: %s", error)
    return harmony_form(constraint) if prompt.output.is_harmony else constraint


def _lazy_calls(prompt: ChatPrompt, tools: Sequence[Mapping[str, Any]], many: bool) -> Constraint:
    """All text is free, but a call that the model begins will be one of a tool that exists."""
    if not prompt.output.can_hold_calls or len(json.dumps(tools)) > _LARGE_TOOLS:
        return Constraint()
    try:
        return lazy_calls(prompt.output, tools_of(tools), many=many)
    except (InvalidOption, EngineMissing) as error:
        # A model can call tools without a grammar, too.
        _LOG.info("calls are not held to their schemas: %s", error)
        return Constraint()


def _forced_call(
    prompt: ChatPrompt, choice: str, tools: Sequence[Mapping[str, Any]], many: bool
) -> Constraint:
    name = None if choice == "required" else choice
    return forced_call(prompt.output, tools_of(tools, name=name), many=many and name is None)
