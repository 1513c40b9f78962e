"""The forms in which models write a tool call, from its opening mark to its end. Pure.

A block is fed the text from its opening mark on, again and again as it grows, and says where it
ends. It decides at the earliest place that it can, so that the pieces in which the text comes make
no difference, and keeps its place, so that long arguments are read once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ..messages import ToolCall
from .calls import JsonScanner, Toolbox, calls_of, parse_json
from .loose import is_open, is_whole, read_loose, read_python_call
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
        self,
        mark: str,
        closing: str,
        tools: Toolbox,
        *,
        marks_count: bool = False,
        read: Callable[[str, Toolbox], list[ToolCall] | None] = read_loose,
    ) -> None:
        """`mark` is what the text begins with; `marks_count` where both marks are of the form."""
        self._read = read
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
        if self._read is read_loose and is_open(body):
            self._searched = end
            return self.advance(text)
        return End(end, self._read(body, self._tools))

    def finish(self, text: str) -> End | None:
        """A call whose closing mark was the end of generation, if it is whole without it."""
        begin = 0 if self._marks_count else len(self._mark)
        body = text[begin : len(text) - overlap(text, (self._closing,))]
        if self._read is read_loose and (is_open(body) or not is_whole(body)):
            return None
        calls = self._read(body, self._tools)
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
        call = read_python_call(text[len(self._mark) :], self._tools)
        return None if call is None else End(len(text), [call])


_BLANKS = re.compile(r"\s*")


def _after_blanks(text: str, start: int) -> int:
    match = _BLANKS.match(text, start)
    assert match is not None
    return match.end()
