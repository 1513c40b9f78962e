"""Keeps one answer to its constraint: which tokens may come next. In the runner, one thread each.

A `Gate` knows where in the answer it is: in the reasoning, which is free but may have a budget; in
the grammar, where a `Hold` says what may come; or before a trigger, where everything may. A token
is drawn first and asked about then (`allows`); only if it may not come, `restrict` makes the mask.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import Any

from .constrainer import Constrainer
from .constraint import Constraint, pattern_of
from .hold import allow_only

# Tokens before the end of the text in which a trigger may have begun.
_LONGEST_TRIGGER = 64
# Tokens that the reasoning leaves to the answer at least, where the room is short.
_ANSWER_ROOM = 64


class _Place(Enum):
    BEFORE_THINKING = auto()
    THINKING = auto()
    FREE = auto()
    HELD = auto()


class Gate:
    """One answer's constraint. For each token: draw, `allows`, if not `restrict`; then `accept`."""

    def __init__(self, constraint: Constraint, constrainer: Constrainer, *, room: int) -> None:
        self._constraint = constraint
        self._constrainer = constrainer
        self._pieces = constrainer.pieces
        self._ends = constrainer.vocabulary.end_tokens
        self._hold = constrainer.hold(constraint)
        self._trigger = pattern_of(constraint.trigger)
        self._start_trigger = pattern_of(constraint.start_trigger)
        self._left = room
        self._room = room
        self._forced: deque[int] = deque()
        self._refused: list[int] = []
        self._written: list[int] = []
        self._thought = 0
        self._place = self._first_place()

    @property
    def wants_mask(self) -> bool:
        """Whether `restrict` is better called before drawing."""
        if self._forced:
            return True
        return self._place is _Place.HELD and self._hold is not None and self._hold.wants_mask

    @property
    def is_held(self) -> bool:
        """Whether a grammar rules here, which also leaves loops."""
        return self._place is _Place.HELD

    @property
    def is_over(self) -> bool:
        """Whether the grammar is at its end."""
        return self.is_held and self._hold is not None and self._hold.is_over

    @property
    def is_broken(self) -> bool:
        """Whether the grammar was given up, so that the answer cannot be whole."""
        return self.is_held and self._hold is not None and self._hold.is_broken

    def allows(self, token: int) -> bool:
        """Whether a token that was drawn may come."""
        if self._forced:
            return token == self._forced[0]
        match self._place:
            case _Place.HELD:
                return self._hold_allows(token)
            case _Place.BEFORE_THINKING:
                allowed = self._may_begin(token)
            case _Place.THINKING:
                allowed = not (self._must_answer and token in self._ends)
            case _Place.FREE:
                allowed = self._is_clean(token)
        if not allowed:
            self._refused.append(token)
        return allowed

    def restrict(self, logits: Any) -> None:
        """Rule out, in place, what may not come next; `logits` is a float32 array [n_vocab]."""
        if self._forced:
            allow_only(logits, [self._forced[0]])
            return
        if self._place is _Place.HELD:
            assert self._hold is not None
            self._hold.restrict(logits, self._left)
        elif self._place is _Place.BEFORE_THINKING:
            self._offer_thinking(logits)
        elif self._place is _Place.THINKING and self._must_answer:
            logits[list(self._ends)] = -float("inf")
        if self._refused:
            logits[self._refused] = -float("inf")

    def accept(self, token: int) -> None:
        """The token that was drawn."""
        self._left -= 1
        self._refused.clear()
        if self._forced:
            self._forced.popleft()
        match self._place:
            case _Place.BEFORE_THINKING:
                self._begin(token)
            case _Place.THINKING:
                self._think(token)
            case _Place.FREE:
                self._watch(token)
            case _Place.HELD:
                self._follow(token)

    # Where it is

    @property
    def _must_answer(self) -> bool:
        """Whether the whole answer is held, so that it must come."""
        return self._hold is not None and not self._constraint.is_lazy

    def _first_place(self) -> _Place:
        if self._constraint.thinking is None:
            return self._place_of_answer()
        return _Place.THINKING if self._constraint.is_open else _Place.BEFORE_THINKING

    def _place_of_answer(self) -> _Place:
        return _Place.HELD if self._must_answer else _Place.FREE

    # Reasoning

    def _text_with(self, token: int) -> bytes:
        return b"".join(self._pieces[each] for each in (*self._written, token)).lstrip()

    def _may_begin(self, token: int) -> bool:
        """Whether a token goes on with the opening tag, or with the answer."""
        assert self._constraint.thinking is not None
        opening, text = self._constraint.thinking[0].encode(), self._text_with(token)
        if text and (opening.startswith(text) or text.startswith(opening)):
            return True
        if not self._must_answer:
            return True
        assert self._hold is not None
        return self._hold.takes([*self._written, token])

    def _offer_thinking(self, logits: Any) -> None:
        """The next part of the opening tag, or whatever the answer may begin with."""
        if not self._must_answer:
            return
        assert self._constraint.thinking is not None
        assert self._hold is not None
        opening = self._constraint.thinking[0]
        text = b"".join(self._pieces[token] for token in self._written).lstrip().decode()
        following = self._constrainer.tokenize(opening[len(text) :], True)[:1]
        kept = [float(logits[token]) for token in following]
        if not self._hold.takes(self._written):
            allow_only(logits, following)
            return
        hold = self._hold
        for token in self._written:
            hold.accept(token, self._left)
        hold.restrict(logits, self._left)
        hold.reset()
        logits[following] = kept

    def _begin(self, token: int) -> None:
        assert self._constraint.thinking is not None
        opening, text = self._constraint.thinking[0].encode(), self._text_with(token)
        self._written.append(token)
        if text.startswith(opening):
            self._place, self._written = _Place.THINKING, []
        elif not opening.startswith(text):
            self._answer()

    def _think(self, token: int) -> None:
        assert self._constraint.thinking is not None
        closing = self._constraint.thinking[1].encode()
        self._thought += 1
        self._written.append(token)
        del self._written[: -len(closing) - 1]
        tail = b"".join(self._pieces[each] for each in self._written)
        if self._forced:
            return
        if closing in tail:
            self._written = []
            self._answer()
        elif self._has_thought_enough:
            text = self._closing_text
            self._forced.extend(self._constrainer.tokenize(text, True))

    @property
    def _closing_text(self) -> str:
        assert self._constraint.thinking is not None
        closing = self._constraint.thinking[1]
        is_tag = closing.startswith("</")
        return f"\n{closing}\n\n" if is_tag else closing

    @property
    def _has_thought_enough(self) -> bool:
        budget = self._constraint.budget
        if budget is not None and self._thought >= budget:
            return True
        if not self._must_answer:
            return False
        # What is left must hold the closing tag and an answer.
        if self._left > self._room // 2 or self._left % 16:
            return False
        assert self._hold is not None
        least = self._hold.way_out(self._left)
        return least is not None and self._left <= 2 * len(least) + _ANSWER_ROOM

    def _answer(self) -> None:
        """The reasoning is over, or there is none: what was written belongs to the answer."""
        written, self._written = self._written, []
        self._place = self._place_of_answer()
        for token in written:
            if self._place is _Place.HELD:
                self._follow(token)
            else:
                self._watch(token)

    # Grammar

    def _hold_allows(self, token: int) -> bool:
        assert self._hold is not None
        return self._hold.allows(token, self._left)

    def _follow(self, token: int) -> None:
        assert self._hold is not None
        self._hold.accept(token, self._left)
        if self._constraint.is_lazy and self._hold.is_over:
            self._hold.reset()
            self._place = _Place.FREE

    def _is_clean(self, token: int) -> bool:
        """Whether a token that completes a trigger goes on as the grammar wants."""
        held = self._held_from(token)
        return held is None or (self._hold is not None and self._hold.takes(held))

    def _watch(self, token: int) -> None:
        """Before a trigger: has it come?"""
        if not self._constraint.is_lazy or self._hold is None:
            return
        held = self._held_from(token)
        if held is None:
            self._written.append(token)
            if len(self._written) > _LONGEST_TRIGGER:
                del self._written[0]
                self._start_trigger = None
            return
        self._written, self._start_trigger = [], None
        if not self._hold.takes(held):
            return
        self._place = _Place.HELD
        for each in held:
            self._follow(each)

    def _held_from(self, token: int) -> list[int] | None:
        """The tokens from where a trigger begins, which this one completes; None if it does not."""
        if self._hold is None or not (self._trigger or self._start_trigger):
            return None
        tokens = [*self._written, token]
        text = b"".join(self._pieces[each] for each in tokens)
        found = self._start_trigger.match(text) if self._start_trigger else None
        if found is None and self._trigger:
            found = self._trigger.search(text)
        return None if found is None else self._tokens_from(tokens, found.start())

    def _tokens_from(self, tokens: list[int], place: int) -> list[int]:
        """The tokens of a text from a byte on; one that was cut is tokenised anew."""
        for number, each in enumerate(tokens):
            piece = self._pieces[each]
            if place < len(piece):
                if not place:
                    return tokens[number:]
                begun = piece[place:].decode("utf-8", "replace")
                return [*self._constrainer.tokenize(begun, False), *tokens[number + 1 :]]
            place -= len(piece)
        return []
