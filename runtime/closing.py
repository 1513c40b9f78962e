"""The shortest way to the end of a grammar, or nearly: what to write where the room runs out.

A grammar cannot be asked for it. So it is walked, byte by byte, always taking what closes: the end
of a string, of an object, of a list; then what is cheap. Grammars that are no JSON are walked
several times, in different orders.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .jsontext import JsonText

if TYPE_CHECKING:
    from llguidance import LLMatcher

Tokenize = Callable[[str, bool], list[int]]

# Bytes of a way out at most; longer ones take too long to walk on each token near the end.
MAX_BYTES = 16_384
_WALKS = 4
_CLOSE = b"}],"
_CHEAP = b"@:/.0123456789-tfnTZ" + bytes(range(ord("a"), ord("z") + 1))
_ORDER = tuple(dict.fromkeys((*_CLOSE, *_CHEAP, *range(32, 127), *b'\n\t{["\\', *range(256))))
_IN_STRING = tuple(dict.fromkeys((ord('"'), *_CHEAP, *_ORDER)))
_COSTLY = frozenset(b"{[\\")


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

    def way_out(
        self, matcher: LLMatcher, text: JsonText, *, texts: Sequence[str] = (), limit: int
    ) -> tuple[int, ...] | None:
        """Tokens that end the grammar from here, without the end token; None where none is found.

        Args:
            matcher: where it stands; it is left there.
            text: the lexical place of the same text.
            texts: what closes parts of a grammar that is no JSON.
            limit: bytes at most.
        """
        for walk in range(_WALKS):
            data = self._walk(matcher.deep_copy(), text.copy(), texts, min(limit, MAX_BYTES), walk)
            if data is not None:
                return self._as_tokens(matcher, data)
        return None

    def _walk(
        self, matcher: LLMatcher, text: JsonText, texts: Sequence[str], limit: int, walk: int
    ) -> bytes | None:
        data = bytearray()
        chance = random.Random(walk)
        before: frozenset[int] = frozenset()
        while not matcher.is_accepting():
            if len(data) > limit or matcher.is_error():
                return None
            step = matcher.compute_ff_bytes() or self._closing_text(matcher, texts)
            if not step:
                step, before = self._next_byte(matcher, text, walk, chance, before)
            tokens = [self._tokens[byte] for byte in step if byte in self._tokens]
            if not step or len(tokens) < len(step):
                return None
            if matcher.try_consume_tokens(tokens) < len(tokens):
                return None
            text.feed(step)
            data += step
        return bytes(data)

    def _closing_text(self, matcher: LLMatcher, texts: Sequence[str]) -> bytes:
        for closing in texts:
            data = closing.encode()
            tokens = [self._tokens[byte] for byte in data if byte in self._tokens]
            if matcher.validate_tokens(tokens) == len(data):
                return data
        return b""

    def _next_byte(
        self,
        matcher: LLMatcher,
        text: JsonText,
        walk: int,
        chance: random.Random,
        before: frozenset[int],
    ) -> tuple[bytes, frozenset[int]]:
        """The byte that likely leads out soonest, and which were to choose from."""
        order = _IN_STRING if text.in_string else _ORDER
        if walk == 0:
            for byte in order[:3]:
                if self._may_come(matcher, byte):
                    return bytes([byte]), before
        allowed = [byte for byte in order if self._may_come(matcher, byte)]
        if not allowed:
            return b"", before
        if walk == 0:
            # What could not come a step ago is progress.
            new = [byte for byte in allowed if byte not in before] or allowed
            return bytes([new[0]]), frozenset(allowed)
        cheap = [byte for byte in allowed if byte not in _COSTLY] or allowed
        return bytes([chance.choice(cheap)]), before

    def _may_come(self, matcher: LLMatcher, byte: int) -> bool:
        token = self._tokens.get(byte)
        return token is not None and matcher.validate_tokens([token]) == 1

    def _as_tokens(self, matcher: LLMatcher, data: bytes) -> tuple[int, ...]:
        """The bytes as the model would write them, where the grammar takes that."""
        text = data.decode("utf-8", "replace")
        tokens = self._tokenize(text, False) if text else []
        if matcher.validate_tokens(tokens) == len(tokens) and self._spells(tokens, data):
            return tuple(tokens)
        return tuple(self._tokens[byte] for byte in data)

    def _spells(self, tokens: Sequence[int], data: bytes) -> bool:
        return b"".join(self._pieces[token] for token in tokens) == data
