"""Where in a JSON text a growing answer is, and whether it runs away: digits and loops. Pure.

A grammar says what may come, not when it is enough: the digits of a number and the rounds of a
list have no end in it, and a small model finds none either.
"""

from __future__ import annotations

from enum import IntEnum

_QUOTE, _BACKSLASH = ord('"'), ord("\\")
_DIGITS = frozenset(b"0123456789")
_EXPONENT = frozenset(b"eE")


class _Part(IntEnum):
    INTEGER = 0
    FRACTION = 1
    EXPONENT = 2


# Digits that each part of a number may have: 64 bits are 20, a double reads back from 17, and an
# exponent of two stays finite.
MAX_DIGITS = (20, 17, 2)


class JsonText:
    """The lexical place in a JSON text; texts around it must not hold quotes."""

    __slots__ = ("_digits", "_escaped", "_part", "in_string")

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Go to the beginning of a text."""
        self.in_string = False
        self._escaped = False
        self._part = _Part.INTEGER
        self._digits = 0

    def copy(self) -> JsonText:
        """An independent one at the same place."""
        other = JsonText()
        other.in_string, other._escaped = self.in_string, self._escaped
        other._part, other._digits = self._part, self._digits
        return other

    @property
    def is_full(self) -> bool:
        """Whether the number that is being written has digits enough."""
        return self._digits >= MAX_DIGITS[self._part]

    def feed(self, data: bytes) -> None:
        """Go on by some bytes."""
        for byte in data:
            if self.in_string:
                self._feed_string(byte)
            elif byte in _DIGITS:
                self._digits += 1
            elif byte == ord(".") and self._digits:
                self._part, self._digits = _Part.FRACTION, 0
            elif byte in _EXPONENT and (self._digits or self._part):
                self._part, self._digits = _Part.EXPONENT, 0
            elif byte != ord("+") and byte != ord("-"):
                self._part, self._digits = _Part.INTEGER, 0
                self.in_string = byte == _QUOTE

    def _feed_string(self, byte: int) -> None:
        if self._escaped:
            self._escaped = False
        elif byte == _BACKSLASH:
            self._escaped = True
        elif byte == _QUOTE:
            self.in_string = False


class Loops:
    """Notices that the same tokens come again and again."""

    # Below Ollama's limit of 30 equal tokens, at which an answer is cut off.
    MAX_EQUAL = 24
    # A matrix of zeros is no loop; the same 32 tokens eight times, or two of them 64 times, is one.
    MIN_ROUNDS, MIN_TOKENS, MAX_PERIOD = 8, 128, 64
    _LOOK_EACH = 8

    def __init__(self) -> None:
        self.found = 0
        self._tokens: list[int] = []

    def note(self, token: int) -> int | None:
        """A token came; returns the one that would go on with a loop, None where there is none."""
        tokens = self._tokens
        tokens.append(token)
        if self._is_equal_run(token):
            return self._found(token)
        if len(tokens) % self._LOOK_EACH == 0 and len(tokens) >= self.MIN_TOKENS:
            for period in range(2, self.MAX_PERIOD + 1):
                span = max(self.MIN_TOKENS, period * self.MIN_ROUNDS)
                tail = tokens[-span:]
                if len(tail) == span and tail[period:] == tail[:-period]:
                    return self._found(tail[-period])
        return None

    def _is_equal_run(self, token: int) -> bool:
        tail = self._tokens[-self.MAX_EQUAL :]
        return len(tail) == self.MAX_EQUAL and tail.count(token) == self.MAX_EQUAL

    def _found(self, token: int) -> int:
        self.found += 1
        self._tokens.clear()
        return token
