"""Printing an answer while it comes: thinking apart, words wrapped, figures at the end."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from pannier.pkgmgr.cli.output import plain

_THINKING_BEGINS = "Thinking...\n"
_THINKING_ENDS = "\n...done thinking.\n\n"


class Writer(Protocol):
    """What an answer is written to."""

    def write(self, text: str) -> object:
        """Take in text."""

    def flush(self) -> object:
        """Show all that was taken in."""


@dataclass(slots=True)
class Answer:
    """What came so far; `final` is the last object of the stream, with its figures."""

    content: str = ""
    thinking: str = ""
    final: dict[str, Any] | None = None


def print_answer(
    chunks: Iterable[dict[str, Any]], out: Writer, answer: Answer, *, hide_thinking: bool = False
) -> None:
    """Print the chunks of /api/chat or /api/generate as they come, and collect them."""
    is_thinking = False
    for chunk in chunks:
        message = chunk.get("message", {})
        thinking = chunk.get("thinking") or message.get("thinking") or ""
        content = chunk.get("response") or message.get("content") or ""
        if thinking:
            answer.thinking += thinking
            if not hide_thinking:
                out.write(thinking if is_thinking else _THINKING_BEGINS + thinking)
                is_thinking = True
        if content:
            if is_thinking:
                out.write(_THINKING_ENDS)
                is_thinking = False
            answer.content += content
            out.write(content)
        out.flush()
        if chunk.get("done"):
            answer.final = chunk


class Plain:
    """Standard output as it is, for pipes and files."""

    def write(self, text: str) -> None:
        """Write at once."""
        sys.stdout.write(text)

    def flush(self) -> None:
        """Pass it on."""
        sys.stdout.flush()


class Wrapped:
    """A terminal of `width` columns; breaks lines between words, drops control characters."""

    def __init__(self, out: Writer, width: int) -> None:
        self._out = out
        self._width = width
        self._column = 0
        self._word = ""

    def write(self, text: str) -> None:
        """Write the words that are complete; the last one waits for what follows it."""
        for char in plain(text):
            if char.isspace():
                self._end_word()
                self._space(char)
            elif unicodedata.east_asian_width(char) in "WF":
                # Scripts without blanks between words may break anywhere.
                self._end_word()
                self._word = char
                self._end_word()
            else:
                self._word += char

    def flush(self) -> None:
        """Show what is complete."""
        self._out.flush()

    def finish(self) -> None:
        """Write what waits, and flush."""
        self._end_word()
        self._out.flush()

    def _end_word(self) -> None:
        if not self._word:
            return
        columns = text_width(self._word)
        if self._column and self._column + columns > self._width:
            self._out.write("\n")
            self._column = 0
        self._out.write(self._word)
        self._column += columns
        self._word = ""

    def _space(self, char: str) -> None:
        if char == "\n":
            self._out.write(char)
            self._column = 0
        elif self._column < self._width:
            self._out.write(char)
            self._column += 1


def text_width(text: str) -> int:
    """Columns that a terminal gives to a text (UAX #11: wide characters take two)."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def figures(final: dict[str, Any]) -> list[str]:
    """The lines that `--verbose` adds to an answer."""
    lines = []
    for label, name in (("total", "total_duration"), ("load", "load_duration")):
        if final.get(name):
            lines.append(_line(f"{label} duration", duration(final[name])))
    for label, name in (("prompt eval", "prompt_eval"), ("eval", "eval")):
        count, nanoseconds = final.get(f"{name}_count", 0), final.get(f"{name}_duration", 0)
        if count:
            lines.append(_line(f"{label} count", f"{count} token(s)"))
        if nanoseconds:
            lines.append(_line(f"{label} duration", duration(nanoseconds)))
            lines.append(_line(f"{label} rate", f"{count / (nanoseconds / 1e9):.2f} tokens/s"))
    return lines


def _line(label: str, value: str) -> str:
    return f"{label + ':':<22}{value}"


def duration(nanoseconds: int) -> str:
    """Nanoseconds for people.

    >>> duration(1_234_000_000), duration(5_600_000), duration(90_500_000_000)
    ('1.23s', '5.6ms', '1m30.5s')
    """
    seconds = nanoseconds / 1e9
    if seconds < 1:
        return f"{seconds * 1000:.1f}ms"
    if seconds < 60:
        return f"{seconds:.2f}s"
    return f"{int(seconds // 60)}m{seconds % 60:.1f}s"
