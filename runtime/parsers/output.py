"""What parsers of model output take and give, and how their stages are joined. Pure.

The law that all of them keep: however a text is cut into pieces, the outputs add up to the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from ..messages import ToolCall


@dataclass(frozen=True, slots=True)
class Output:
    """A piece of an answer, sorted."""

    content: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.content or self.thinking or self.tool_calls)


class OutputParser(Protocol):
    """Sorts one answer. For one request and one thread."""

    def feed(self, text: str) -> list[Output]:
        """What the next piece of text makes certain."""

    def finish(self) -> list[Output]:
        """What was held back; nothing may be fed after it."""


def join(outputs: Iterable[Output]) -> Output:
    """All of them in one."""
    content: list[str] = []
    thinking: list[str] = []
    calls: list[ToolCall] = []
    for output in outputs:
        content.append(output.content)
        thinking.append(output.thinking)
        calls += output.tool_calls
    return Output("".join(content), "".join(thinking), tuple(calls))


class PlainParser:
    """For models that mark nothing: all is content."""

    def feed(self, text: str) -> list[Output]:
        """See `OutputParser.feed`."""
        return [Output(text)] if text else []

    def finish(self) -> list[Output]:
        """See `OutputParser.finish`."""
        return []


class MarkDropper:
    """Leaves out marks around an answer that mean nothing to who reads it; all else is content."""

    def __init__(self, marks: tuple[str, ...]) -> None:
        self._marks = marks
        self._buffer = ""

    def feed(self, text: str) -> list[Output]:
        """See `OutputParser.feed`."""
        text = self._buffer + text
        kept: list[str] = []
        while found := first_of(text, self._marks):
            place, mark = found
            kept.append(text[:place])
            text = text[place + len(mark) :]
        held = overlap(text, self._marks)
        kept.append(text[: len(text) - held])
        self._buffer = text[len(text) - held :]
        content = "".join(kept)
        return [Output(content)] if content else []

    def finish(self) -> list[Output]:
        """See `OutputParser.finish`."""
        rest, self._buffer = self._buffer, ""
        return [Output(rest)] if rest else []


class Chain:
    """A parser whose content goes through another one: thinking first, then tool calls."""

    def __init__(self, first: OutputParser, second: OutputParser) -> None:
        self._first = first
        self._second = second

    def feed(self, text: str) -> list[Output]:
        """See `OutputParser.feed`."""
        return self._through(self._first.feed(text))

    def finish(self) -> list[Output]:
        """See `OutputParser.finish`."""
        return self._through(self._first.finish()) + self._second.finish()

    def _through(self, outputs: list[Output]) -> list[Output]:
        result: list[Output] = []
        for output in outputs:
            if output.thinking:
                result.append(Output(thinking=output.thinking))
            if output.content:
                result += self._second.feed(output.content)
        return result


def overlap(text: str, tags: Iterable[str]) -> int:
    """How many characters at the end of `text` could be the beginning of one of the tags."""
    longest = 0
    for tag in tags:
        for length in range(min(len(tag) - 1, len(text)), longest, -1):
            if text.endswith(tag[:length]):
                longest = length
                break
    return longest


def first_of(text: str, tags: Iterable[str], start: int = 0) -> tuple[int, str] | None:
    """The earliest place of one of the tags, the longest where two begin there; None if none."""
    best: tuple[int, str] | None = None
    for tag in tags:
        place = text.find(tag, start)
        if place >= 0 and (best is None or (place, -len(tag)) < (best[0], -len(best[1]))):
            best = (place, tag)
    return best
