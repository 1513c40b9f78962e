"""The shortest way to the end of a grammar, or nearly: what to write where the room runs out.

A grammar cannot be asked for it. So it is walked, byte by byte, always taking what closes: the end
of a string, of an object, of a list; then what is cheap. Grammars that are no JSON are walked
several times, in different orders.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from .constraint import Constraint
from .jsontext import JsonText

if TYPE_CHECKING:
    from llguidance import LLMatcher

Tokenize = Callable[[str, bool], list[int]]

# Bytes of a way out at most; longer ones take too long to walk on each token near the end.
MAX_BYTES = 16_384
_WALKS = 4
# Bytes of a way that is looked for by chance.
_MAX_STRAY = 512
_QUOTE = ord('"')
_CLOSE = b"}],"
# A string that is too short is filled with blanks, of which a token holds many.
_FILL = b'" '
_CHEAP = b"@:/. 0123456789-tfnTZ" + bytes(range(ord("a"), ord("z") + 1))
_ORDER = tuple(dict.fromkeys((*_CLOSE, *_CHEAP, *range(32, 127), *b'\n\t{["\\', *range(256))))
_IN_STRING = tuple(dict.fromkeys((_QUOTE, *_CHEAP, *_ORDER)))
_BLANKS = frozenset(b" \n\t\r")
_COSTLY = frozenset(b"{[\\")
# Begins a control token in what the library says must come.
_CONTROL = b"\xff["


WayOut = tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Ends:
    """What closes parts of a grammar that is no JSON: control tokens, and texts, in order."""

    marks: tuple[int, ...] = ()
    texts: tuple[str, ...] = ()
    stems: tuple[str, ...] = ()
    """What may lack in a string for its pattern to match, see `stems`."""
    is_json: bool = False
    """Whether blanks between strings lead nowhere."""

    @classmethod
    def of(cls, constraint: Constraint, marks: Sequence[tuple[str, int | None]]) -> Ends:
        """Those of a constraint; `marks` with the control token that each is, if any."""
        marks = sorted(marks, key=lambda mark: not _is_end(mark[0]))
        tokens = tuple(token for _, token in marks if token is not None)
        texts = tuple(mark for mark, token in marks if token is None)
        closing = (*constraint.closing, *texts)
        return cls(tokens, closing, constraint.stems, constraint.is_json)


def _is_end(mark: str) -> bool:
    return mark.startswith("</") or "end" in mark.lower()


class _Way:
    """One walk: the first takes what closes and then what it took least, others go by chance."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.chance = random.Random(number)
        self.used = [0] * 256
        self.used_in_string = [0] * 256
        self.closed = ""


class Closer:
    """Finds ways out for one vocabulary. Any thread may call."""

    def __init__(
        self, pieces: Sequence[bytes], control_tokens: frozenset[int], tokenize: Tokenize
    ) -> None:
        """`tokenize` takes a text and whether control tokens are recognised in it."""
        self._pieces = pieces
        self._tokenize = tokenize
        self._tokens: dict[int, int] = {}
        for token, piece in enumerate(pieces):
            if len(piece) == 1 and token not in control_tokens:
                self._tokens.setdefault(piece[0], token)

    def way_out(self, matcher: LLMatcher, text: JsonText, ends: Ends, *, limit: int) -> WayOut:
        """Tokens that end the grammar from here, without the end token; None where none is found.

        Args:
            matcher: where it stands; it is left there.
            text: the lexical place of the same text.
            ends: what is to be tried first.
            limit: bytes at most.
        """
        for walk in range(_WALKS):
            most = min(limit, MAX_BYTES if walk == 0 else _MAX_STRAY)
            steps = self._walk(matcher.deep_copy(), text.copy(), ends, most, walk)
            if steps is not None:
                return self._as_tokens(matcher, steps)
        return None

    def _walk(
        self, matcher: LLMatcher, text: JsonText, ends: Ends, limit: int, walk: int
    ) -> list[bytes | int] | None:
        steps: list[bytes | int] = []
        size = 0
        way = _Way(walk)
        while not matcher.is_accepting():
            if size > limit or matcher.is_error():
                return None
            mark = next((each for each in ends.marks if matcher.validate_tokens([each])), None)
            if mark is not None:
                matcher.consume_token(mark)
                text.restart()
                steps.append(mark)
                size += 1
                continue
            step = self._next_bytes(matcher, text, ends, way)
            tokens = self._single(step)
            if not step or len(tokens) < len(step):
                return None
            if matcher.try_consume_tokens(tokens) < len(tokens):
                return None
            text.feed(step)
            steps.append(step)
            size += len(step)
        return steps

    def _next_bytes(self, matcher: LLMatcher, text: JsonText, ends: Ends, way: _Way) -> bytes:
        """What to write next; empty where nothing may come."""
        # Control tokens that are forced stand behind a mark in it; they have been tried.
        forced: bytes = matcher.compute_ff_bytes().partition(_CONTROL)[0]
        return (
            forced
            or self._closing_text(matcher, text, ends, way)
            or self._stem(matcher, text, ends)
            or self._next_byte(matcher, text, ends, way)
        )

    def _closing_text(self, matcher: LLMatcher, text: JsonText, ends: Ends, way: _Way) -> bytes:
        # Within quotes it is most likely a part of the string.
        if text.in_string and way.number == 0:
            return b""
        for closing in ends.texts:
            data = closing.encode()
            tokens = self._single(data)
            # Where it led nowhere it is a part of something.
            if way.closed != closing and matcher.validate_tokens(tokens) == len(data):
                way.closed = closing
                return data
        way.closed = ""
        return b""

    def _stem(self, matcher: LLMatcher, text: JsonText, ends: Ends) -> bytes:
        """What makes a string match its pattern, so that it may be closed; empty for nothing."""
        if not ends.stems or (text.in_string and self._may_come(matcher, _QUOTE)):
            return b""
        quote = ('"',) if text.in_string else ()
        closings = [self._single(closing.encode()) for closing in (*quote, *ends.texts)]
        closings += ([mark] for mark in ends.marks)
        for stem in ends.stems:
            tokens = self._single(stem.encode())
            if matcher.validate_tokens(tokens) < len(tokens):
                continue
            if self._is_end_behind(matcher, tokens, closings):
                return stem.encode()
        return b""

    def _is_end_behind(
        self, matcher: LLMatcher, tokens: list[int], closings: Sequence[list[int]]
    ) -> bool:
        for closing in closings:
            if matcher.validate_tokens(tokens + closing) == len(tokens) + len(closing):
                return True
        after = matcher.deep_copy()
        after.consume_tokens(tokens)
        return bool(after.is_accepting())

    def _single(self, data: bytes) -> list[int]:
        """Tokens of one byte each."""
        return [self._tokens[byte] for byte in data if byte in self._tokens]

    def _next_byte(self, matcher: LLMatcher, text: JsonText, ends: Ends, way: _Way) -> bytes:
        """The byte that likely leads out soonest; empty where none may come."""
        if not text.in_string:
            way.used_in_string = [0] * 256
        order, first = (_IN_STRING, _FILL) if text.in_string else (_ORDER, _CLOSE)
        if way.number:
            first = b'"' if text.in_string else b""
        for byte in first:
            if self._may_come(matcher, byte):
                return bytes([byte])
        allowed = [byte for byte in order if self._may_come(matcher, byte)]
        if not allowed:
            return b""
        if way.number:
            allowed = [byte for byte in allowed if byte not in _COSTLY] or allowed
            return bytes([way.chance.choice(allowed)])
        if ends.is_json and not text.in_string:
            allowed = [byte for byte in allowed if byte not in _BLANKS] or allowed
        # What was taken before leads back where it led before.
        used = way.used_in_string if text.in_string else way.used
        byte = min(allowed, key=lambda each: used[each])
        used[byte] += 1
        return bytes([byte])

    def _may_come(self, matcher: LLMatcher, byte: int) -> bool:
        token = self._tokens.get(byte)
        return token is not None and matcher.validate_tokens([token]) == 1

    def _as_tokens(self, matcher: LLMatcher, steps: Sequence[bytes | int]) -> tuple[int, ...]:
        """The steps as the model would write them, where the grammar takes that."""
        usual: list[int] = []
        single: list[int] = []
        for is_mark, group in groupby(steps, lambda step: isinstance(step, int)):
            if is_mark:
                marks = [step for step in group if isinstance(step, int)]
                usual += marks
                single += marks
                continue
            data = b"".join(step for step in group if isinstance(step, bytes))
            single += (self._tokens[byte] for byte in data)
            tokens = self._tokenize(data.decode("utf-8", "replace"), False)
            usual += tokens if self._spells(tokens, data) else single[-len(data) :]
        is_taken = matcher.validate_tokens(usual) == len(usual)
        return tuple(usual if is_taken else single)

    def _spells(self, tokens: Sequence[int], data: bytes) -> bool:
        return b"".join(self._pieces[token] for token in tokens) == data
