"""Calls in forms that are no plain JSON: tags around keys, marks between parts, Python. Pure.

Each reader takes what stands between the marks of a block and gives its calls, None where the text
is in another form, is cut, or calls a tool that there is not.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from typing import Any

from ..messages import ToolCall
from .calls import JsonScanner, Toolbox, calls_of, make_call, parse_json

# GLM: the name, then pairs of tags. Qwen3-coder: the name and each key in a tag. MiniMax and
# DeepSeek 3.2: the same with attributes. Other DeepSeeks: an optional kind, the name, and JSON,
# bare or in a fence. Kimi: an id with the name in it, and JSON.
_GLM_PAIR = re.compile(r"\s*<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL)
_FUNCTION = re.compile(r"\s*<function=([^>\n]+)>(.*?)(?:</function>\s*|\Z)", re.DOTALL)
_PARAMETER = re.compile(
    r"\s*<parameter=([^>\n]+)>\n?(.*?)\n?(?:</parameter>|(?=<parameter=)|\Z)", re.DOTALL
)
_SEPARATOR = "<｜tool▁sep｜>"
_FENCED = re.compile(r"\s*```(?:json)?\s*(.*?)\s*```\s*", re.DOTALL)


def read_loose(body: str, tools: Toolbox) -> list[ToolCall] | None:
    """The calls in a block's body; None where it is in none of the known forms."""
    if body.lstrip().startswith("<function="):
        return _read_functions(body, tools)
    if body.lstrip().startswith(_INVOKES):
        return _read_invokes(body, tools)
    for mark, read in _READERS:
        if mark in body:
            return read(body, tools)
    return _read_glm(body, tools) or calls_of(parse_json(body), tools)


_INVOKES = ("<invoke name=", "<｜DSML｜invoke name=")


def is_open(body: str) -> bool:
    """Whether a body stops within a value: a closing mark there is a part of the value."""
    text = body.strip()
    if text.startswith(("{", "[")):
        return JsonScanner(0).end(text) is None
    if text.startswith("<function="):
        begin, ends = "<parameter=", ["</parameter>", "</function>"]
    elif text.startswith(_INVOKES):
        begin, ends = "parameter name=", ["parameter>", "invoke>"]
    else:
        begin, ends = "<arg_value>", ["</arg_value>"]
    return text.rfind(begin) > max(map(text.rfind, ends))


def is_whole(body: str) -> bool:
    """Whether a body shows that it is whole where its closing mark has not come."""
    text = body.strip()
    if text.startswith("<function="):
        rest = text.rpartition("<function=")[2]
        return rest.endswith("</function>") or rest.partition(">")[2].lstrip().startswith("{")
    behind = (body.rpartition(mark)[2] for mark, _ in _READERS if mark in body)
    return text.startswith(("{", "[", *_INVOKES)) or any(rest.strip() for rest in behind)


def _read_functions(body: str, tools: Toolbox) -> list[ToolCall] | None:
    calls: list[ToolCall] = []
    place = 0
    while match := _FUNCTION.match(body, place):
        name, place = match[1].strip(), match.end()
        if name in tools and match[2].lstrip().startswith("{"):
            arguments = parse_json(match[2])
            if not isinstance(arguments, dict):
                return None
            calls.append(ToolCall(name, arguments))
            continue
        arguments, rest = {}, 0
        while pair := _PARAMETER.match(match[2], rest):
            key, rest = pair[1].strip(), pair.end()
            arguments[key] = tools.value(name, key, pair[2])
        if name not in tools or match[2][rest:].strip():
            return None
        calls.append(ToolCall(name, arguments))
    return calls if calls and not body[place:].strip() else None


def _read_glm(body: str, tools: Toolbox) -> list[ToolCall] | None:
    name, mark, _ = body.partition("<arg_key>")
    place = len(name) if mark else len(body)
    name = name.strip()
    arguments = {}
    while pair := _GLM_PAIR.match(body, place):
        key, place = pair[1].strip(), pair.end()
        arguments[key] = tools.value(name, key, pair[2])
    if not name or name not in tools or not _NAME.fullmatch(name) or body[place:].strip():
        return None
    return [ToolCall(name, arguments)]


_NAME = re.compile(r"[^\s<>{}\[\]\"']+")


def _read_separated(body: str, tools: Toolbox) -> list[ToolCall] | None:
    first, _, second = body.partition(_SEPARATOR)
    name, text = first.strip(), second
    if name == "function" and not second.lstrip().startswith(("{", "```")):
        name, _, text = second.strip().partition("\n")
    fenced = _FENCED.fullmatch(text)
    arguments = parse_json(fenced[1] if fenced else text)
    call = make_call(name.strip(), arguments) if isinstance(arguments, dict) else None
    return [call] if call and call.name in tools else None


_INVOKE = re.compile(
    r"\s*<(?:｜DSML｜)?invoke name=\"([^\"\n]+)\">(.*?)</(?:｜DSML｜)?invoke>", re.DOTALL
)
_NAMED_PARAMETER = re.compile(
    r"\s*<(?:｜DSML｜)?parameter name=\"([^\"\n]+)\"(?: string=\"(true|false)\")?>"
    r"(.*?)</(?:｜DSML｜)?parameter>",
    re.DOTALL,
)


def _read_invokes(body: str, tools: Toolbox) -> list[ToolCall] | None:
    calls: list[ToolCall] = []
    place = 0
    while match := _INVOKE.match(body, place):
        name, place = match[1], match.end()
        arguments: dict[str, Any] = {}
        rest = 0
        while pair := _NAMED_PARAMETER.match(match[2], rest):
            key, rest = pair[1], pair.end()
            arguments[key] = pair[3] if pair[2] == "true" else tools.value(name, key, pair[3])
        if name not in tools or match[2][rest:].strip():
            return None
        calls.append(ToolCall(name, arguments))
    return calls if calls and not body[place:].strip() else None


_KIMI_MARK = "<|tool_call_argument_begin|>"
_KIMI_ID = re.compile(r"(?:functions\.)?(.+?)(?::\d+)?")


def _read_kimi(body: str, tools: Toolbox) -> list[ToolCall] | None:
    head, _, text = body.partition(_KIMI_MARK)
    match = _KIMI_ID.fullmatch(head.strip())
    arguments = parse_json(text) if text.strip() else {}
    if match is None or match[1] not in tools or not isinstance(arguments, dict):
        return None
    return [ToolCall(match[1], arguments, head.strip())]


_READERS: tuple[tuple[str, Callable[[str, Toolbox], list[ToolCall] | None]], ...] = (
    (_SEPARATOR, _read_separated),
    (_KIMI_MARK, _read_kimi),
)


_CODE = re.compile(r"\s*([\w.-]+?)(?:\.call)?\((.*)\)\s*", re.DOTALL)
_WORDS = {"true": True, "false": False, "null": None}


def read_python_call(text: str, tools: Toolbox) -> ToolCall | None:
    """`name(key="value")` or `name.call(key="value")`; names need not be Python's."""
    match = _CODE.fullmatch(text)
    if match is None or match[1] not in tools:
        return None
    try:
        node = ast.parse(f"f({match[2]})", mode="eval").body
        if not isinstance(node, ast.Call) or node.args:
            return None
        found = {each.arg: _value(each.value) for each in node.keywords if each.arg}
        # What Python alone knows, as sets and bytes, is no JSON.
        arguments = parse_json(json.dumps(found, allow_nan=False))
    except (TypeError, ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    return ToolCall(match[1], arguments) if isinstance(arguments, dict) else None


def read_python(body: str, tools: Toolbox) -> list[ToolCall] | None:
    """Python calls: a list of them, or one a line."""
    single = read_python_call(body, tools)
    if single is not None:
        return [single]
    found = [read_python_call(source, tools) for source in _python_parts(body.strip())]
    calls = [call for call in found if call is not None]
    return calls if calls and len(calls) == len(found) else calls_of(parse_json(body), tools)


def _python_parts(source: str) -> list[str]:
    """The texts of the items of a list, or of the lines; empty for what is no Python."""
    try:
        statements = ast.parse(source).body
        lines = [node.value for node in statements if isinstance(node, ast.Expr)]
        if len(lines) < len(statements):
            return []
        nodes = lines[0].elts if len(lines) == 1 and isinstance(lines[0], ast.List) else lines
        return [ast.get_source_segment(source, node) or "" for node in nodes]
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return []


def _value(node: ast.expr) -> Any:
    """A literal, where JSON's words for it will do too."""
    if isinstance(node, ast.Name) and node.id in _WORDS:
        return _WORDS[node.id]
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {
            ast.literal_eval(key): _value(item)
            for key, item in zip(node.keys, node.values, strict=True)
            if key is not None
        }
    return ast.literal_eval(node)
