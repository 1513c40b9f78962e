"""Grammars of tool calls, in the form in which a model writes them.

Each dialect says what a block of calls looks like from its opening mark on, and what in free text
announces one. Names are those of the request's tools, arguments what their schemas describe.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pannier.pkgmgr.errors import InvalidOption

from . import schema as schemas
from . import stems
from .constrain import checked, reason_against
from .constraint import Constraint
from .lark import COMMON, json_of, regex_of, text, wrapped
from .parsers.choice import OutputFormat
from .parsers.dialects import BARE, Dialect

# Calls in one answer at most.
_MAX_CALLS = 8
_TEXT_TYPE = "string"


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool that may be called. `parameters` is a prepared schema of an object."""

    name: str
    parameters: Mapping[str, Any]


def tools_of(tools: Sequence[Mapping[str, Any]], *, name: str | None = None) -> list[Tool]:
    """The tools of a request that may be called: all, or the one of a name.

    Raises:
        InvalidOption: there is no such tool, or its parameters are no schema that is supported.
    """
    functions = [tool.get("function") for tool in tools]
    known = [f for f in functions if isinstance(f, Mapping) and isinstance(f.get("name"), str)]
    chosen = [f for f in known if name is None or f["name"] == name]
    if not chosen:
        wanted = "a tool call is required" if name is None else f"tool {name!r} is required"
        raise InvalidOption(f"{wanted}, but the request offers none")
    return [Tool(function["name"], _parameters(function)) for function in chosen]


def _parameters(function: Mapping[str, Any]) -> dict[str, Any]:
    what = f"schema of tool {function['name']!r}"
    parameters = function.get("parameters")
    given = schemas.check(parameters if isinstance(parameters, Mapping) else {}, what=what)
    if function.get("strict") is True:
        given = schemas.closed(given)
    schema = {"additionalProperties": False, **schemas.prepared(given), "type": "object"}
    reason = reason_against(Constraint(f"start: {json_of(schema)}"))
    if reason:
        place = schemas.blamed(
            schema, lambda part: reason_against(Constraint(f"start: {json_of(part)}"))
        )
        raise InvalidOption(f"the {what} cannot be used at {place}: {reason}")
    return schema


def forced_call(output: OutputFormat, tools: Sequence[Tool], *, many: bool) -> Constraint:
    """The answer is a call, or up to eight where `many`, and nothing else.

    Raises:
        InvalidOption: the grammar is beyond what the compiler supports.
    """
    writer = _Writer(output, tools)
    return checked(writer.constraint(writer.all_of(many=many)), "grammar of the tools")


def lazy_calls(output: OutputFormat, tools: Sequence[Tool], *, many: bool) -> Constraint:
    """All is free, but a call that the model begins is one of a tool that there is.

    Where not `many` one block holds one call; another block may still follow.

    Raises:
        InvalidOption: the grammar is beyond what the compiler supports.
    """
    writer = _Writer(output, tools)
    if output.is_harmony:
        # Room that runs out in a note is not a reason to make up a call.
        start = f"start: {_NOTES} (call | final | open_note)"
        return checked(writer.constraint(start), "grammar of the tools")
    dialect = output.dialect
    opening = "|".join(re.escape(mark) for mark in dialect.openings)
    bare = r"\s*(?:\[\s*)?\{\s*\"(?:name|type|function)\"" if dialect.may_be_bare else ""
    constraint = writer.constraint(writer.all_of(many=many, is_lazy=True))
    return checked(replace(constraint, trigger=opening, start_trigger=bare), "grammar of the tools")


def calls_or_form(
    output: OutputFormat, tools: Sequence[Tool], form: Constraint, *, many: bool
) -> Constraint:
    """The answer is a call of the tools, or several where `many`, or what a form describes.

    Raises:
        InvalidOption: the grammar is beyond what the compiler supports.
    """
    writer = _Writer(output, tools)
    calls = writer.constraint(writer.all_of(many=many).replace("start:", "calls:", 1))
    if output.is_harmony:
        start = f"start: calls | {_NOTES} {_FINAL_FORM}"
    else:
        start = "start: calls | @body"
    both = wrapped(f"{start}\n{calls.grammar}", form.grammar)
    is_json = form.is_json and (calls.is_json or output.is_harmony)
    closing = _FINAL_CLOSING if output.is_harmony else calls.closing
    return checked(
        replace(
            calls, grammar=both, is_json=is_json, closing=closing, stems=(*calls.stems, *form.stems)
        ),
        "grammar of tools and format",
    )


HARMONY_MARKS = ("<|channel|>", "<|message|>", "<|end|>", "<|start|>", "<|constrain|>")
_NOTE_END = HARMONY_MARKS[2]
_FINAL_CLOSING = (_NOTE_END, "final")
_NOTES = f'(mark_3 "assistant")? note{{0,{_MAX_CALLS}}}'
_FINAL_FORM = 'mark_0 "final" (" "? mark_4 "json")? mark_1 @body'
_HARMONY = """
note: mark_0 ("analysis" | "commentary") mark_1 until_2 mark_3 "assistant"
open_note: mark_0 ("analysis" | "commentary") mark_1 any_text
final: mark_0 "final" mark_1 any_text
"""


def harmony_form(body: Constraint) -> Constraint:
    """A constraint for gpt-oss: notes in channels, then what `body` describes as the final one."""
    outer = f"start: {_NOTES} {_FINAL_FORM}{_HARMONY}{COMMON}"
    return replace(
        body,
        grammar=wrapped(outer, body.grammar),
        marks=HARMONY_MARKS,
        is_json=body.is_json,
        closing=_FINAL_CLOSING,
    )


class _Writer:
    """Writes the grammar of one request's tools in one format."""

    def __init__(self, output: OutputFormat, tools: Sequence[Tool]) -> None:
        self._output = output
        self._dialect: Dialect = output.dialect if output.dialect.body else BARE
        self._tools = tools
        self._rules: list[str] = []
        kinds: Mapping[str, Callable[[], None]] = {
            "json": self._json_call,
            "named": self._named_call,
            "function": self._function_call,
            "fenced": self._fenced_call,
            "separated": self._separated_call,
            "xml": self._xml_call,
            "invoke": self._xml_call,
            "pairs": self._pairs_call,
            "kimi": self._kimi_call,
            "harmony": self._harmony_call,
        }
        kinds["harmony" if output.is_harmony else self._dialect.body]()

    def constraint(self, start: str) -> Constraint:
        """The whole grammar, from its first rule."""
        marks, closing = self._dialect.marks, _CLOSING.get(self._dialect.body, ())
        if self._output.is_harmony:
            marks = HARMONY_MARKS
            names = (f"commentary to=functions.{tool.name}" for tool in self._tools)
            closing = (_NOTE_END, *names)
        is_json = self._dialect.body in ("json", "named", "function", "fenced", "separated", "kimi")
        return Constraint(
            "\n".join((start, *self._rules)) + COMMON,
            marks=marks,
            is_json=is_json and not self._output.is_harmony,
            closing=closing,
            stems=stems.of_schemas(tool.parameters for tool in self._tools),
        )

    def all_of(self, *, many: bool, is_lazy: bool = False) -> str:
        """The first rule: a call, or `many`; what is lazy begins anew with each block."""
        if self._output.is_harmony:
            return f"start: {_NOTES} call"
        more = rf"(\1){{0,{_MAX_CALLS - 1}}}" if many else ""
        start = re.sub(r"\[\[(.*?)\]\]", more, self._dialect.block)
        if not many and self._dialect.may_be_bare:
            start = start.replace("list | ", "")
        if many and self._dialect.repeats and not is_lazy:
            start = f"({start}) (blanks ({start})){{0,{_MAX_CALLS - 1}}}"
        return f"start: {start}"

    def _rule(self, name: str, term: str) -> str:
        self._rules.append(f"{name}: {term}")
        return name

    def _any_of(self, each: Callable[[int, Tool], str], name: str = "call") -> None:
        terms = [
            self._rule(f"{name}_{number}", each(number, tool))
            for number, tool in enumerate(self._tools)
        ]
        self._rule(name, " | ".join(terms))

    def _arguments(self, number: int) -> str:
        return self._rule(f"arguments_{number}", json_of(self._tools[number].parameters))

    # Bodies, see `Dialect.body`

    def _json_call(self) -> None:
        wrapper, key = self._dialect.arguments, self._dialect.name

        def call(number: int, tool: Tool) -> str:
            first = _FIRST[key]
            name = f'{text(_quoted(key))} blanks ":" blanks {text(_quoted(tool.name))}'
            rest = f'{text(_quoted(wrapper))} blanks ":" blanks {self._arguments(number)}'
            return f'"{{" blanks {first} {name} blanks "," blanks {rest} blanks "}}"'

        self._any_of(call)
        self._rule(
            "list", f'"[" blanks call (blanks "," blanks call){{0,{_MAX_CALLS - 1}}} blanks "]"'
        )

    def _named_call(self) -> None:
        self._any_of(lambda n, tool: f"{text(tool.name)} mark_1 {self._arguments(n)}")

    def _function_call(self) -> None:
        end = text("</function>")
        self._any_of(
            lambda n, tool: f"{text(f'<function={tool.name}>')} {self._arguments(n)} {end}"
        )

    def _fenced_call(self) -> None:
        fence, end = text("\n```json\n"), text("\n```")
        self._any_of(
            lambda n, tool: (
                f'"function" mark_2 {text(tool.name)} {fence} {self._arguments(n)} {end}'
            )
        )

    def _separated_call(self) -> None:
        self._any_of(lambda n, tool: f"{text(tool.name)} mark_2 {self._arguments(n)}")

    def _kimi_call(self) -> None:
        self._any_of(
            lambda n, tool: (
                f'"functions." {text(tool.name)} ":" /[0-9]{{1,3}}/ mark_2 {self._arguments(n)}'
            )
        )

    def _harmony_call(self) -> None:
        self._rules.append(_HARMONY)
        # The name ends at a blank or a control token, else what follows is a part of it.
        json_mark = '(" json" | " "? mark_4 "json")? mark_1'

        def call(number: int, tool: Tool) -> str:
            to = text(f"to=functions.{tool.name}")
            head = f'mark_0 "commentary " {to} | " " {to} mark_0 "commentary"'
            return f"({head}) {json_mark} {self._arguments(number)}"

        self._any_of(call)

    def _xml_call(self) -> None:
        """Each key in a tag; strings stand there as they are."""
        function, parameter, end, ends = _TAGS[self._dialect.body]

        def call(number: int, tool: Tool) -> str:
            terms = [text(function.format(tool.name) + "\n")]
            for at, (key, value) in enumerate(_properties(tool)):
                tag = self._value(f"value_{number}_{at}", value, tool, end, until=2)
                term = f"({text(parameter.format(key))} {tag})"
                terms.append(term if key in _required(tool) else f"{term}?")
            return " ".join((*terms, text(ends)))

        self._any_of(call)

    def _pairs_call(self) -> None:
        """GLM: a name, then keys and values."""

        def call(number: int, tool: Tool) -> str:
            terms = [text(tool.name), text("\n") + "?"]
            for at, (key, value) in enumerate(_properties(tool)):
                tag = self._value(f"value_{number}_{at}", value, tool, "mark_5", until=5)
                newline = text("\n")
                term = f"(mark_2 {text(key)} mark_3 {newline}? mark_4 {tag} {newline}?)"
                terms.append(term if key in _required(tool) else f"{term}?")
            return " ".join(terms)

        self._any_of(call)

    def _value(self, name: str, schema: Any, tool: Tool, end: str, *, until: int) -> str:
        """A value with what ends it: JSON, but a string as it is."""
        closing = end if end.startswith("mark_") else text(end)
        whole = _resolved(schema, tool.parameters)
        bare = _bare_text(whole)
        if bare is None:
            shared = {
                k: tool.parameters[k] for k in ("$defs", "definitions") if k in tool.parameters
            }
            value = self._rule(name, json_of({**shared, **whole}))
            return f"{value} {closing}"
        # Terms that are joined by & have to be terminals, which Lark writes in capitals.
        if not bare:
            return f"until_{until}"
        term = self._rule(name.upper(), bare)
        # A term that may hold its end would never come to it, but for the library's `suffix`.
        return f"ended_{until}_{name}" if bare.startswith("/") else f"{term} {closing}"


# Marks of the tags by body: of the function, of a parameter, after a value, after all.
_TAGS = {
    "xml": ("<function={}>", "<parameter={}>\n", "\n</parameter>\n", "</function>"),
    "invoke": ('<invoke name="{}">', '<parameter name="{}">', "</parameter>\n", "</invoke>"),
}
_CLOSING = {
    "xml": ("\n</parameter>\n", "</function>"),
    "invoke": ("</parameter>\n", "</invoke>", "</minimax:tool_call>"),
    "pairs": ("</arg_value>", "</tool_call>"),
}


# What may stand before the name in a JSON call, by the key of the name.
_FIRST = {
    "name": r"""("\"type\"" blanks ":" blanks "\"function\"" blanks "," blanks)?""",
    "tool_name": r"""("\"tool_call_id\"" blanks ":" blanks /"[0-9]{1,3}"/ blanks "," blanks)?""",
}


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _properties(tool: Tool) -> list[tuple[str, Any]]:
    found = tool.parameters.get("properties")
    return list(found.items()) if isinstance(found, Mapping) else []


def _required(tool: Tool) -> Sequence[str]:
    found = tool.parameters.get("required")
    return found if isinstance(found, list) else ()


def _resolved(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """A property's schema, behind its references within the root."""
    for _ in range(8):
        target = schema.get("$ref") if isinstance(schema, Mapping) else None
        if not isinstance(target, str):
            break
        found: Any = root
        for key in target.removeprefix("#").strip("/").split("/"):
            found = found.get(key) if isinstance(found, Mapping) else None
        if found is None:
            break
        schema = found
    return schema if isinstance(schema, Mapping) else {}


def _bare_text(schema: Mapping[str, Any]) -> str | None:
    """The term of a string without quotes: empty for any text, None for what is no string."""
    kind = schema.get("type")
    options = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if isinstance(options, list) and all(isinstance(option, str) for option in options):
        return " | ".join(text(option) for option in options)
    if kind != _TEXT_TYPE and not (isinstance(kind, list) and _TEXT_TYPE in kind):
        return None
    terms = []
    for part in (schema, *(schema.get("allOf") or ())):
        if isinstance(part, Mapping) and isinstance(part.get("pattern"), str):
            terms.append(_whole(part["pattern"]))
    least, most = schema.get("minLength", 0), schema.get("maxLength", "")
    if least or most != "":
        terms.append(f"(?s:.{{{least},{most}}})")
    return "" if not terms or isinstance(kind, list) else " & ".join(map(regex_of, terms))


def _whole(pattern: str) -> str:
    """A pattern that may match anywhere, as one of the whole text."""
    begins = pattern.startswith("^")
    ends = pattern.endswith("$") and not pattern.endswith("\\$")
    inner = pattern[begins : len(pattern) - ends]
    return f"{'' if begins else '(?s:.*)'}(?:{inner}){'' if ends else '(?s:.*)'}"
