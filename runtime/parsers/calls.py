"""Tool calls as values: which tools there are, and calls out of JSON and of loose texts. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..messages import ToolCall

_ARGUMENT_KEYS = ("arguments", "parameters", "args", "input")
_NAME_KEYS = ("name", "tool_name", "function", "type", "tool_call_id")
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_MARKS = re.compile(r'[{}\[\]"\\]')


class Toolbox:
    """The tools of one request: their names, and the type of each argument."""

    def __init__(self, tools: Sequence[Mapping[str, Any]] = ()) -> None:
        """`tools` as the wire gives them: `{"type": "function", "function": {…}}`."""
        self._properties: dict[str, Mapping[str, Any]] = {}
        for tool in tools:
            function = tool.get("function")
            if isinstance(function, Mapping) and isinstance(function.get("name"), str):
                parameters = function.get("parameters")
                found = parameters.get("properties") if isinstance(parameters, Mapping) else None
                self._properties[function["name"]] = found if isinstance(found, Mapping) else {}

    def __contains__(self, name: str) -> bool:
        """Whether there is such a tool; any name will do where no tools are known."""
        return not self._properties or name in self._properties

    def __bool__(self) -> bool:
        return bool(self._properties)

    def value(self, tool: str, argument: str, text: str) -> Any:
        """The value that a model meant by a bare text: a string where the tool wants one."""
        schema = self._properties.get(tool, {}).get(argument)
        kind = schema.get("type") if isinstance(schema, Mapping) else None
        kinds = [kind] if isinstance(kind, str) else kind if isinstance(kind, list) else []
        if "string" in kinds and not (text == "null" and "null" in kinds):
            return text
        try:
            return _loads(text, strict=True)
        except (ValueError, RecursionError):
            return text


def calls_of(value: Any, tools: Toolbox) -> list[ToolCall] | None:
    """The calls that a JSON value stands for; None where any of it is no call of a known tool."""
    items = value if isinstance(value, list) else [value]
    calls = [_call_of(item, tools) for item in items]
    found = [call for call in calls if call is not None]
    return found if found and len(found) == len(calls) else None


def _call_of(value: Any, tools: Toolbox) -> ToolCall | None:
    if not isinstance(value, dict):
        return None
    inner = value.get("function")
    if isinstance(inner, dict):
        return _call_of(inner, tools)
    name = value.get("name") or inner or value.get("tool_name")
    if not isinstance(name, str) or name not in tools:
        return None
    for key in _ARGUMENT_KEYS:
        if key in value:
            return make_call(name, value[key])
    rest = {key: item for key, item in value.items() if key not in _NAME_KEYS}
    return ToolCall(name, rest)


def make_call(name: str, arguments: Any) -> ToolCall | None:
    """A call whose arguments are an object, or an object as a JSON text; None for others."""
    if isinstance(arguments, str):
        arguments = parse_json(arguments) if arguments.strip() else {}
    if arguments is None:
        arguments = {}
    return ToolCall(name, arguments) if isinstance(arguments, dict) else None


def parse_json(text: str) -> Any:
    """The JSON value of a text; None where it is no JSON. `null` is None too.

    Halves of surrogate pairs, which no answer can carry, become U+FFFD.
    """
    try:
        return _loads(text, strict=False)
    except (ValueError, RecursionError):
        return None


def numbered(calls: Iterable[ToolCall], start: int) -> tuple[ToolCall, ...]:
    """The calls with their places in the answer."""
    return tuple(
        ToolCall(call.name, call.arguments, call.id, index)
        for index, call in enumerate(calls, start)
    )


def _loads(text: str, *, strict: bool) -> Any:
    value = json.loads(text, strict=strict, parse_constant=_refuse, parse_float=_finite)
    return _without_surrogates(value) if _ESCAPED_SURROGATE.search(text) else value


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"{digits} is beyond all numbers")
    return value


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return [_without_surrogates(item) for item in value] if isinstance(value, list) else value


class JsonScanner:
    """Finds the end of a JSON object or array in a growing text, looking at each sign once."""

    def __init__(self, start: int) -> None:
        """`start` is the place of the opening bracket."""
        self._position = start
        self._depth = 0
        self._in_string = False

    def end(self, text: str) -> int | None:
        """The place after the closing bracket, None where it has not come yet."""
        while match := _MARKS.search(text, self._position):
            mark, place = match.group(), match.end()
            if mark == "\\":
                if place >= len(text):
                    self._position = place - 1
                    return None
                self._position = place + 1 if self._in_string else place
                continue
            self._position = place
            if mark == '"':
                self._in_string = not self._in_string
            elif not self._in_string:
                self._depth += 1 if mark in "{[" else -1
                if self._depth <= 0:
                    return place
        self._position = len(text)
        return None
