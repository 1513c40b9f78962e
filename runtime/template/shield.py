"""Keeps client text from becoming control tokens, whatever a template does with it. Pure.

A template mixes its own text, where `<|im_start|>` is a control token, with a client's text, where
the same letters are only letters. Before rendering, `Shield.protect` replaces each control-token
spelling in client text by one private-use character that occurs nowhere else in the request; after
rendering, `Shield.split` puts the spellings back as segments of their own that are tokenised
without control tokens. Text without such spellings passes untouched, so that the prompt is
byte-identical to an unshielded rendering and is tokenised in one piece.

A text that ends like the beginning of a control token gets an invisible fence, so that two client
texts which a template puts side by side cannot make one together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pannier.pkgmgr.errors import InvalidInput

from ..request import Segment
from .collate import shown_mark

# GGUF v3, tokenizer.ggml.token_type: the types that llama.cpp matches in special mode only.
_UNKNOWN, _CONTROL = 2, 3
# Templates look for these in the text of earlier turns; neither begins nor ends a turn.
_HARMLESS = frozenset({"<think>", "</think>"})
# For models whose vocabulary is not at hand: every form of control token in common use.
_COMMON = (
    r"<\|[^\s<>|]{1,64}\|>|<｜[^\s<>｜]{1,64}｜>|</?s>|<(?:bos|eos|pad|unk|mask)>"
    r"|<(?:start|end)_of_(?:turn|image)>|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS)\]"
    r"|\[TOOL_(?:CALLS|CONTENT)\]|<\|(?:START|END)_OF_TURN_TOKEN\|>|<\|[A-Z_]+_TOKEN\|>"
)
_COMMON_BEGINNING = re.compile(r"(?:<[|｜/]?[^\s<>|｜]{0,64}[|｜]?|\[/?[A-Z_]{0,32})\Z")
# Below Python's own limit for nested groups, far above what a real vocabulary needs.
_MOST_NESTING = 40
_PRIVATE = (range(0xE000, 0xF900), range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE))


class ControlTokens:
    """The control-token spellings of one vocabulary, ready for searching. Immutable."""

    def __init__(self, spellings: Iterable[str] | None = None) -> None:
        """With `spellings` None, search for every form in common use."""
        self._beginnings: frozenset[str] | None = None
        self._longest = 0
        if spellings is None:
            self._pattern = re.compile(_COMMON)
            return
        known = {text for text in spellings if text} - _HARMLESS
        self._pattern = re.compile(_alternation(sorted(known)) if known else r"(?!)")
        self._beginnings = frozenset(text[:n] for text in known for n in range(1, len(text)))
        self._longest = max(map(len, known), default=0)

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> ControlTokens:
        """The control tokens that GGUF metadata names, the common ones if it holds no arrays."""
        tokens = metadata.get("tokenizer.ggml.tokens")
        types = metadata.get("tokenizer.ggml.token_type")
        if not isinstance(tokens, Sequence) or not isinstance(types, Sequence):
            return cls()
        pairs = zip(tokens, types, strict=False)
        return cls(text for text, kind in pairs if kind in (_UNKNOWN, _CONTROL))

    def __contains__(self, text: str) -> bool:
        """Whether the text is one control token."""
        return self._pattern.fullmatch(text) is not None

    def find(self, text: str) -> Iterator[re.Match[str]]:
        """Non-overlapping spellings in `text`, the longest at each place."""
        return self._pattern.finditer(text)

    def open_ended(self, text: str) -> bool:
        """Whether `text` ends like the beginning of a control token."""
        if self._beginnings is None:
            return _COMMON_BEGINNING.search(text[-80:]) is not None
        return any(
            text[-n:] in self._beginnings for n in range(1, min(self._longest, len(text)) + 1)
        )


class Shield:
    """The private marks of one request. Not shared between requests or threads."""

    def __init__(self, tokens: ControlTokens, texts: Iterable[str]) -> None:
        """`texts` are all the texts that will be rendered, the template's own source included."""
        self._tokens = tokens
        self._used: set[str] = set()
        for text in texts:
            if not text.isascii():
                self._used.update(text)
        self._free = (chr(code) for block in _PRIVATE for code in block)
        self._marks: dict[str, str] = {}
        self._images: dict[str, int] = {}
        self.fence = self._new_mark()

    def protect(self, text: str) -> str:
        """Client text that can be given to a template."""
        if not text:
            return text
        parts: list[str] = []
        end = 0
        for match in self._tokens.find(text):
            parts += (text[end : match.start()], self._mark(match.group()))
            end = match.end()
        parts.append(text[end:])
        if self._tokens.open_ended(parts[-1]):
            parts.append(self.fence)
        return "".join(parts)

    def protect_all(self, value: Any) -> Any:  # JSON-like: whatever a client sent
        """The same value with every text in it protected, keys too."""
        if isinstance(value, str):
            return self.protect(value)
        if isinstance(value, Mapping):
            return {self.protect(str(key)): self.protect_all(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.protect_all(item) for item in value]
        return value

    def image(self, number: int) -> str:
        """What stands for an image in a text; no client text can contain it."""
        mark = self._new_mark()
        self._images[mark] = number
        return mark

    def split(self, rendered: str) -> tuple[Segment, ...]:
        """The rendered prompt in pieces; the marks are texts again, and never control tokens."""
        if rendered.isascii():
            return (Segment(rendered),) if rendered else ()
        spellings = {mark: spelling for spelling, mark in self._marks.items()}
        pieces: list[Segment] = []
        plain: list[str] = []
        marks = "".join([self.fence, *spellings, *self._images])
        for part in re.split(f"([{marks}])", rendered):
            if part in spellings:
                plain.append(spellings[part])
            elif part and part != self.fence:
                if plain:
                    pieces.append(Segment("".join(plain), special=False))
                    plain = []
                number = self._images.get(part)
                text = part if number is None else shown_mark(number)
                pieces.append(Segment(text, image=number))
        if plain:
            pieces.append(Segment("".join(plain), special=False))
        return tuple(pieces)

    def _mark(self, spelling: str) -> str:
        if spelling not in self._marks:
            self._marks[spelling] = self._new_mark()
        return self._marks[spelling]

    def _new_mark(self) -> str:
        for mark in self._free:
            if mark not in self._used:
                return mark
        raise InvalidInput("the messages use every private-use character of Unicode")


def _alternation(texts: list[str], *, depth: int = 0) -> str:
    """A regular expression for any of the sorted, distinct texts that shares their beginnings.

    Longer texts go before their own beginnings. Vocabularies have thousands of control tokens, and
    a flat alternation would try them one by one at each `<`.
    """
    if len(texts) == 1:
        return re.escape(texts[0])
    if depth > _MOST_NESTING:
        return f"(?:{'|'.join(map(re.escape, reversed(texts)))})"
    if texts[0] == "":
        return f"(?:{_alternation(texts[1:], depth=depth + 1)})?"
    branches = []
    start = 0
    while start < len(texts):
        first = texts[start][0]
        end = start
        while end < len(texts) and texts[end][0] == first:
            end += 1
        shared = _shared_beginning(texts[start], texts[end - 1])
        rest = [text[len(shared) :] for text in texts[start:end]]
        more = _alternation(rest, depth=depth + 1) if end - start > 1 else ""
        branches.append(re.escape(shared) + more)
        start = end
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"


def _shared_beginning(first: str, last: str) -> str:
    """Of sorted texts, what all begin with."""
    length = 0
    while length < min(len(first), len(last)) and first[length] == last[length]:
        length += 1
    return first[:length]
