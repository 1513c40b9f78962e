"""Holds one answer to one grammar, and sees to it that it comes to an end. In the runner.

llguidance says what may come. This adds what a grammar does not say: that numbers end, that a loop
is left, and that the answer is whole before its room is used up: near the end a token is let pass
only if the rest can still be written behind it, else the shortest way out is taken.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .closing import Closer, Ends, WayOut
from .jsontext import JsonText, Loops

if TYPE_CHECKING:
    from llguidance import LLMatcher

_LOG = logging.getLogger(__name__)

# How often the way out is measured while there is room, in tokens.
_LOOK_EACH = 64
# Tokens beyond twice the longest way out seen, from where on each token is looked at.
_SLACK = 64
# Tokens at most for which no way out is looked for after none was found, which takes long.
_BLIND = 32
# After so many loops the answer is brought to its end.
_MAX_LOOPS = 4
# Draws that are remembered to tell whether the mask is better made before drawing.
_RECENT = 16


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a hold needs of a model's tokens."""

    pieces: Sequence[bytes]
    end_tokens: frozenset[int]
    closer: Closer
    digits: frozenset[int]
    """Tokens that begin with a digit."""


class Hold:
    """One grammar over one answer. For one thread at a time."""

    def __init__(
        self, matcher: LLMatcher, vocabulary: Vocabulary, is_json: bool, ends: Ends
    ) -> None:
        """`is_json`: quotes and digits mean what they mean there; `ends`: see `Closer`."""
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._is_json = is_json
        self._ends = ends
        self._way_out: deque[int] = deque()
        self._longest = 0
        self._start()

    def _start(self) -> None:
        self._text = JsonText()
        self._loops = Loops()
        self._banned: int | None = None
        self._known: tuple[int, ...] | None = None
        self._next: tuple[int, ...] | None = None
        self._steps = 0
        self._blind_until = 0
        self._refused: deque[bool] = deque(maxlen=_RECENT)
        self.is_broken = False
        """Whether the library gave the grammar up, so that the answer ends before it is whole."""

    @property
    def wants_mask(self) -> bool:
        """Whether drawing without a mask is likely in vain."""
        return bool(self._way_out) or sum(self._refused) * 2 > _RECENT

    @property
    def is_over(self) -> bool:
        """Whether nothing may follow."""
        return bool(self._matcher.is_stopped()) and not self._matcher.is_error()

    @property
    def is_whole(self) -> bool:
        """Whether the answer may end here."""
        return bool(self._matcher.is_accepting())

    def reset(self) -> None:
        """Back to the beginning of the grammar."""
        self._matcher.reset()
        self._way_out.clear()
        self._start()

    def takes(self, tokens: Sequence[int]) -> bool:
        """Whether all of these may come next."""
        return int(self._matcher.validate_tokens(list(tokens))) == len(tokens)

    def way_out(self, left: int) -> tuple[int, ...] | None:
        """What ends the answer from here; `left` is how many tokens may still be drawn."""
        return self._find_way_out(self._matcher, self._text, left)

    def _find_way_out(self, matcher: LLMatcher, text: JsonText, left: int) -> WayOut:
        if self._steps < self._blind_until:
            return None
        found = self._vocabulary.closer.way_out(matcher, text, self._ends, limit=8 * left + 64)
        if found is None:
            self._blind_until = self._steps + min(_BLIND, max(left // 4, 1))
        return found

    def allows(self, token: int, left: int) -> bool:
        """Whether a token that was drawn may come, where `left` may be drawn with it."""
        if self._way_out:
            return token == self._way_out[0]
        is_allowed = self._is_allowed(token, left)
        self._refused.append(not is_allowed)
        return is_allowed

    def _is_allowed(self, token: int, left: int) -> bool:
        if token in self._vocabulary.end_tokens:
            return self.is_whole or self.is_over
        if self._matcher.validate_tokens([token]) != 1:
            return False
        if token == self._banned or self._is_digit_too_many(token):
            return False
        return left > self._tight or self._leaves_room(token, left)

    def restrict(self, logits: Any, left: int) -> None:
        """Rule out, in place, what may not come next."""
        if self._way_out:
            allow_only(logits, [self._way_out[0]])
            return
        import numpy

        was_over = self.is_over
        bits = numpy.frombuffer(self._matcher.compute_bitmask(), dtype=numpy.uint8)
        allowed = numpy.unpackbits(bits, count=len(logits), bitorder="little").view(bool)
        if not self.is_whole:
            # The library lets the end pass where control tokens may come.
            allowed[list(self._vocabulary.end_tokens)] = False
        if not allowed.any() or self._matcher.is_error():
            if not was_over:
                self.is_broken = True
                _LOG.warning("a grammar ended early: %s", first_line(self._matcher.get_error()))
            allow_only(logits, list(self._vocabulary.end_tokens))
            return
        self._forbid_more(allowed)
        numpy.copyto(logits, -numpy.inf, where=~allowed)

    def _forbid_more(self, allowed: Any) -> None:
        """Take out what the grammar lets pass and this does not, if anything stays."""
        if self._banned is None and not (self._is_json and self._text.is_full):
            return
        narrower = allowed.copy()
        if self._banned is not None:
            narrower[self._banned] = False
        if self._is_json and self._text.is_full and not self._text.in_string:
            narrower[list(self._vocabulary.digits)] = False
        if narrower.any():
            allowed[:] = narrower

    def accept(self, token: int, left: int) -> None:
        """A token came, and `left` may still be drawn."""
        if self._way_out and token == self._way_out[0]:
            self._way_out.popleft()
        if token in self._vocabulary.end_tokens:
            return
        self._matcher.consume_token(token)
        if token in self._ends.marks:
            self._text.restart()
        else:
            self._text.feed(self._vocabulary.pieces[token])
        if self._way_out or self.is_over:
            return
        self._banned = self._loops.note(token)
        self._steps += 1
        self._known, self._next = self._next, None
        is_lost = self._loops.found >= _MAX_LOOPS
        is_time = left <= self._tight or self._steps % _LOOK_EACH == 1
        if self._known is None and (is_lost or is_time):
            self._known = self.way_out(left)
        if self._known is not None:
            self._longest = max(self._longest, len(self._known))
            if is_lost or len(self._known) + 1 >= left:
                self._leave()

    # The end

    @property
    def _tight(self) -> int:
        return 2 * self._longest + _SLACK

    def _leaves_room(self, token: int, left: int) -> bool:
        """Whether the answer can be brought to its end behind a token; else it is, before it."""
        if self._known is None:
            self._known = self.way_out(left)
        matcher, text = self._matcher.deep_copy(), self._text.copy()
        matcher.consume_token(token)
        text.feed(self._vocabulary.pieces[token])
        self._next = self._find_way_out(matcher, text, left - 1)
        if self._next is not None and len(self._next) + 1 < left:
            return True
        if self._known is None or len(self._known) >= left:
            return True
        self._leave()
        return token == self._way_out[0]

    def _leave(self) -> None:
        """Take the known way out from here."""
        assert self._known is not None
        self._way_out.extend((*self._known, min(self._vocabulary.end_tokens)))

    def _is_digit_too_many(self, token: int) -> bool:
        if not self._is_json or self._text.in_string or not self._text.is_full:
            return False
        return token in self._vocabulary.digits


def first_line(text: str) -> str:
    """The reason alone: the library puts its whole state behind it."""
    return text.strip().partition("\n")[0][:300]


def allow_only(logits: Any, tokens: list[int]) -> None:
    """Rule out all but these."""
    kept = [float(logits[token]) for token in tokens]
    logits[:] = -float("inf")
    logits[tokens] = [value if value > -1e30 else 0.0 for value in kept]
