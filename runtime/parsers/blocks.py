"""The forms in which models write a tool call, from its opening mark to its end. Pure.

A block is fed the text from its opening mark on, again and again as it grows, and says where it
ends. It decides at the earliest place that it can, so that the pieces in which the text comes make
no difference, and keeps its place, so that long arguments are read once.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Protocol

from ..messages import ToolCall
from .calls import JsonScanner, Toolbox, calls_of, make_call, parse_json
from .output import overlap


@dataclass(frozen=True, slots=True)
class End:
    """The end of a block: the place after it, and its calls, None where it is no call."""

    place: int
    calls: list[ToolCall] | None


class Block(Protocol):
    """One block of one answer."""

    def advance(self, text: str) -> End | None:
        """The end, once it is certain; None while more text is needed."""

    def finish(self, text: str) -> End | None:
        """The end where no more text comes; None where the text is no call."""


class JsonBlock:
    """Blanks, then one JSON object or array of them: Hermes, Llama 3, Mistral before 2025."""

    def __init__(self, mark: str, tools: Toolbox) -> None:
        """`mark` is what the text begins with; empty for bare JSON."""
        self._start = len(mark)
        self._tools = tools
        self._scanner: JsonScanner | None = None

    def advance(self, text: str) -> End | None:
        """See `Block.advance`."""
        if self._scanner is None:
            place = _after_blanks(text, self._start)
            if place == len(text):
                return None
            if text[place] not in "{[":
                return End(place, None)
            self._start = place
            self._scanner = JsonScanner(place)
        end = self._scanner.end(text)
        if end is None:
            return None
        return End(end, calls_of(parse_json(text[self._start : end]), self._tools))

    def finish(self, text: str) -> End | None:
        """See `Block.finish`."""
        return None


class NamedJsonBlock:
    """Mistral since 2025: `[TOOL_CALLS]name[CALL_ID]id[ARGS]{…}`; older forms are plain JSON."""

    _HEAD = re.compile(
        r"\s*([^\s\[\]{}]+)\s*(?:\[CALL_ID\]\s*([^\s\[\]{}]+)\s*)?(?:\[ARGS\]\s*)?\{"
    )
    _LONGEST_HEAD = 512

    def __init__(self, mark: str, tools: Toolbox) -> None:
        """`mark` is what the text begins with."""
        self._mark = len(mark)
        self._tools = tools
        self._plain: JsonBlock | None = None
        self._name = self._id = ""
        self._json = 0
        self._scanner: JsonScanner | None = None

    def advance(self, text: str) -> End | None:
        """See `Block.advance`."""
        if self._plain is None and self._scanner is None:
            place = _after_blanks(text, self._mark)
            if place == len(text):
                return None
            if text[place] in "{[":
                self._plain = JsonBlock(text[: self._mark], self._tools)
            else:
                return self._read_head(text)
        if self._plain is not None:
            return self._plain.advance(text)
        return self._read_arguments(text)

    def finish(self, text: str) -> End | None:
        """See `Block.finish`."""
        return None

    def _read_head(self, text: str) -> End | None:
        brace = text.find("{", self._mark, self._mark + self._LONGEST_HEAD)
        if brace < 0:
            is_long = len(text) >= self._mark + self._LONGEST_HEAD
            return End(self._mark + self._LONGEST_HEAD, None) if is_long else None
        head = self._HEAD.fullmatch(text, self._mark, brace + 1)
        if head is None or head[1] not in self._tools:
            return End(brace, None)
        self._name, self._id, self._json = head[1], head[2] or "", brace
        self._scanner = JsonScanner(brace)
        return self._read_arguments(text)

    def _read_arguments(self, text: str) -> End | None:
        assert self._scanner is not None
        end = self._scanner.end(text)
        if end is None:
            return None
        arguments = parse_json(text[self._json : end])
        if not isinstance(arguments, dict):
            return End(end, None)
        return End(end, [ToolCall(self._name, arguments, self._id)])


class EnclosedBlock:
    """A block with a closing mark, in one of the forms that are known for its opening mark."""

    def __init__(
        self, mark: str, closing: str, tools: Toolbox, *, marks_count: bool = False
    ) -> None:
        """`mark` is what the text begins with; `marks_count` where both marks are of the form."""
        self._mark = mark
        self._closing = closing
        self._tools = tools
        self._searched = len(mark)
        self._marks_count = marks_count

    def advance(self, text: str) -> End | None:
        """See `Block.advance`."""
        place = text.find(self._closing, self._searched)
        if place < 0:
            self._searched = max(len(self._mark), len(text) - len(self._closing) + 1)
            return None
        end = place + len(self._closing)
        body = text[:end] if self._marks_count else text[len(self._mark) : place]
        return End(end, read_loose(body, self._tools))

    def finish(self, text: str) -> End | None:
        """A call whose closing mark was the end of generation, or was cut off whole."""
        begin = 0 if self._marks_count else len(self._mark)
        body = text[begin : len(text) - overlap(text, (self._closing,))]
        calls = read_loose(body, self._tools)
        return None if calls is None else End(len(text), calls)


class TaggedBlock:
    """What stands in `<tool_call>`: JSON where it begins like JSON, else a loose form."""

    def __init__(self, mark: str, closing: str, tools: Toolbox) -> None:
        """`mark` is what the text begins with; `closing` ends the loose forms."""
        self._mark = mark
        self._closing = closing
        self._tools = tools
        self._inner: Block | None = None

    def advance(self, text: str) -> End | None:
        """See `Block.advance`."""
        if self._inner is None:
            place = _after_blanks(text, len(self._mark))
            if place == len(text):
                return None
            if text[place] in "{[":
                self._inner = JsonBlock(self._mark, self._tools)
            else:
                self._inner = EnclosedBlock(self._mark, self._closing, self._tools)
        return self._inner.advance(text)

    def finish(self, text: str) -> End | None:
        """See `Block.finish`."""
        return None if self._inner is None else self._inner.finish(text)


class PythonBlock:
    """Llama 3's python tag: JSON, or `name.call(key="value")` up to the end of the answer."""

    _CALL = re.compile(r"\s*([\w.-]+?)(?:\.call)?\((.*)\)\s*", re.DOTALL)

    def __init__(self, mark: str, tools: Toolbox) -> None:
        """`mark` is what the text begins with."""
        self._mark = mark
        self._tools = tools
        self._json: JsonBlock | None = None
        self._is_code = False

    def advance(self, text: str) -> End | None:
        """See `Block.advance`."""
        if self._json is None and not self._is_code:
            place = _after_blanks(text, len(self._mark))
            if place == len(text):
                return None
            self._is_code = text[place] not in "{["
            self._json = None if self._is_code else JsonBlock(self._mark, self._tools)
        return None if self._json is None else self._json.advance(text)

    def finish(self, text: str) -> End | None:
        """See `Block.finish`."""
        match = self._CALL.fullmatch(text, len(self._mark))
        if match is None or match[1] not in self._tools:
            return None
        try:
            call = ast.parse(f"f({match[2]})", mode="eval").body
            assert isinstance(call, ast.Call)
            if call.args:
                return None
            arguments = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg}
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return None
        return End(len(text), [ToolCall(match[1], arguments)])


# Loose forms. GLM: the name, then pairs of tags. Qwen3-coder: the name and each key in a tag.
# DeepSeek: an optional kind, the name, and JSON, bare or in a fence.
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
    if _SEPARATOR in body:
        return _read_separated(body, tools)
    return _read_glm(body, tools) or calls_of(parse_json(body), tools)


def _read_functions(body: str, tools: Toolbox) -> list[ToolCall] | None:
    calls: list[ToolCall] = []
    place = 0
    while match := _FUNCTION.match(body, place):
        name, place = match[1].strip(), match.end()
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


_BLANKS = re.compile(r"\s*")


def _after_blanks(text: str, start: int) -> int:
    match = _BLANKS.match(text, start)
    assert match is not None
    return match.end()
