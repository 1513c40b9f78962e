"""Cuts a Go template into tokens, by the rules of Go's text/template/parse. Pure.

Trim markers are applied here, as in Go: the parser never sees trimmed blanks or comments.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from enum import Enum, auto
from typing import NamedTuple

from ...errors import TemplateError


class Kind(Enum):
    """What a token is. Keywords come as KEYWORD with their word as text."""

    TEXT = auto()
    LEFT = auto()
    RIGHT = auto()
    SPACE = auto()
    ASSIGN = auto()
    DECLARE = auto()
    PIPE = auto()
    OPEN = auto()
    CLOSE = auto()
    COMMA = auto()
    CHAR = auto()
    STRING = auto()
    RUNE = auto()
    NUMBER = auto()
    BOOL = auto()
    DOT = auto()
    FIELD = auto()
    VARIABLE = auto()
    IDENTIFIER = auto()
    KEYWORD = auto()
    END = auto()


class Token(NamedTuple):
    """A token; `position` counts characters from the start of the source."""

    kind: Kind
    text: str
    position: int


KEYWORDS = frozenset(
    {"block", "break", "continue", "define", "else", "end", "if", "nil", "range"}
    | {"template", "with"}
)
_BLANKS = " \t\r\n"
_SPACES = re.compile(r"[ \t\r\n]*")
_COMMENT_END = re.compile(r"[ \t\r\n]-\}\}[ \t\r\n]*|\}\}")
_LEFT_TRIM = re.compile(r"-[ \t\r\n]")
_NUMBER = r"""(?:0[xX][0-9a-fA-F_]*(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]*)?
        |0[oO][0-7_]*(?:\.[0-7_]*)?|0[bB][01_]*(?:\.[01_]*)?
        |(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9_]*)?)"""
_INSIDE = re.compile(
    rf"""
    (?P<RIGHT>[ \t\r\n]-\}}\}}|\}}\}})
    |(?P<SPACE>(?:[ \t\r\n](?!-\}}\}}))+)
    |(?P<DECLARE>:=)|(?P<ASSIGN>=)|(?P<PIPE>\|)|(?P<OPEN>\()|(?P<CLOSE>\))
    |(?P<STRING>"(?:[^"\\\n]|\\[^\n])*"|`[^`]*`)
    |(?P<RUNE>'(?:[^'\\\n]|\\[^\n])*')
    |(?P<NUMBER>[+-]?{_NUMBER}i?(?:[+-]{_NUMBER}i)?)
    |(?P<VARIABLE>\$\w*)
    |(?P<FIELD>\.\w+)|(?P<DOT>\.)
    |(?P<IDENTIFIER>\w+)
    |(?P<CHAR>[!-~])
    """,
    re.VERBOSE,
)
# What may follow a name directly: Go's atTerminator.
_AFTER_NAME = re.compile(r"[ \t\r\n.,|:)(]|\}\}|\Z")
_NAMES = frozenset({Kind.FIELD, Kind.DOT, Kind.VARIABLE, Kind.IDENTIFIER})


def tokens(source: str) -> Iterator[Token]:
    """All tokens of a template, an END last.

    Raises:
        TemplateError: with line and column.
    """
    position = 0
    while True:
        start = source.find("{{", position)
        if start < 0:
            break
        left = start + 2
        trim = _LEFT_TRIM.match(source, left)
        text = source[position:start]
        text = text.rstrip(_BLANKS) if trim else text
        if text:
            yield Token(Kind.TEXT, text, position)
        left = trim.end() if trim else left
        if source.startswith("/*", left):
            position = _after_comment(source, left)
        else:
            yield Token(Kind.LEFT, "{{", start)
            position = yield from _inside(source, left)
    if position < len(source):
        yield Token(Kind.TEXT, source[position:], position)
    yield Token(Kind.END, "", len(source))


def error_at(source: str, position: int, reason: str) -> TemplateError:
    """The error for a place in the source; lines and columns count from 1."""
    line = source.count("\n", 0, position) + 1
    column = position - (source.rfind("\n", 0, position) + 1) + 1
    return TemplateError(reason, line=line, column=column)


def _after_comment(source: str, start: int) -> int:
    end = source.find("*/", start + 2)
    if end < 0:
        raise error_at(source, start, "unclosed comment")
    right = _COMMENT_END.match(source, end + 2)
    if right is None:
        raise error_at(source, start, "comment ends before closing delimiter")
    return right.end()


def _inside(source: str, position: int) -> Generator[Token, None, int]:
    """The tokens of one action; returns the position after it."""
    depth = 0
    while True:
        match = _INSIDE.match(source, position)
        if match is None or match.lastgroup is None:
            raise error_at(source, position, _why_not(source, position))
        kind, text, end = Kind[match.lastgroup], match.group(), match.end()
        if kind is Kind.RIGHT:
            if depth:
                raise error_at(source, position, "unclosed left paren")
            yield Token(kind, "}}", position)
            if len(text) > 2:
                end = _SPACES.match(source, end).end()  # type: ignore[union-attr]  # matches always
            return end
        depth += (kind is Kind.OPEN) - (kind is Kind.CLOSE)
        if depth < 0:
            raise error_at(source, position, "unexpected right paren")
        yield Token(_refine(source, kind, text, end), text, position)
        position = end


def _refine(source: str, kind: Kind, text: str, end: int) -> Kind:
    """The final kind of a token, after what only its word or its neighbour tells."""
    if kind in _NAMES and not _AFTER_NAME.match(source, end):
        raise error_at(source, end, f"bad character {source[end]!r}")
    if kind is Kind.NUMBER and end < len(source) and re.match(r"[\w+-]", source[end]):
        raise error_at(source, end, f"bad number syntax: {text + source[end]!r}")
    if kind is Kind.IDENTIFIER:
        if text in KEYWORDS:
            return Kind.KEYWORD
        return Kind.BOOL if text in ("true", "false") else kind
    if kind is Kind.CHAR:
        if text in "\"'`":
            raise error_at(source, end - 1, "unterminated quoted text")
        if text == ":":
            raise error_at(source, end - 1, "expected :=")
        return Kind.COMMA if text == "," else kind
    return kind


def _why_not(source: str, position: int) -> str:
    if position >= len(source):
        return "unclosed action"
    return f"unrecognized character in action: {source[position]!r}"
