"""Which streams get drafts, of which length and from where: as far as measured times say it pays.

A stream's own text is asked first, since that costs nothing, then a draft model. Guesses change how
many steps an answer takes and never what it is: each token is drawn from its own row.

A draft of n tokens that each come true with chance c gives (1 - cⁿ⁺¹) / (1 - c) tokens in place of
one, and costs n times the share of a step that one more row and one more drafted token take.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Sequenced
from typing import Protocol

from .pace import Pace
from .plan import Plan
from .sequence import Sequence
from .speculate import MAX_STREAMS

_FIRST_CHANCE = 0.7
_WEIGHT = 0.1
# How fast failed guesses and high costs are forgotten, so that there is another try some day.
_FORGIVING = 0.01
# A draft must promise so much more than a plain step, since measurements are rough.
_MARGIN = 1.05
# Of so many steps with drafts one goes without, to know what such a step takes by now.
_PLAIN_EVERY = 32


class Drafter(Protocol):
    """What proposes tokens for texts, which are told apart by keys."""

    def follow(self, key: int, tokens: Sequenced[int]) -> bool:
        """Take in some of a text; whether little enough is left to draft for it."""

    def draft(self, tokens: Sequenced[int], most: int) -> tuple[int, ...]:
        """At most `most` tokens that may come after the text that `follow` was just asked of."""

    def forget(self, key: int) -> None:
        """A text is over."""


class Guesses:
    """Gives streams their drafts. One thread, the engine's."""

    def __init__(
        self,
        pace: Pace,
        *,
        most: int,
        drafter: Drafter | None,
        context_length: int,
        clock_ns: Callable[[], int],
    ) -> None:
        """`most` is the length of the longest draft."""
        self._pace = pace
        self._most = most
        self._drafter = drafter
        self._context_length = context_length
        self._clock_ns = clock_ns
        self._chance = _FIRST_CHANCE
        self._chances: dict[int, float] = {}
        self._proposed: set[int] = set()
        self._row_ns = 0.0
        self._token_ns = 0.0
        self._until_plain = _PLAIN_EVERY
        self.drafted = 0
        self.accepted = 0

    def guess(self, running: Sequenced[Sequence]) -> None:
        """Give drafts to those of the running requests that are answering."""
        if len(running) > MAX_STREAMS:
            return
        if self._until_plain <= 0:
            self._until_plain = _PLAIN_EVERY
            return
        for sequence in running:
            if not (sequence.is_prefilling or sequence.is_exclusive or sequence.spans):
                sequence.draft = self._draft(sequence)

    def note_step(self, plan: Plan, took_ns: int) -> None:
        """A step with drafts took so long."""
        self._until_plain -= 1
        plain = self._pace.stream_step_ns
        if plain > 0:
            extra = max(0.0, took_ns - plain) / plan.num_drafted
            self._row_ns += (extra - self._row_ns) * _WEIGHT if self._row_ns else extra

    def note(self, sequence: Sequence, accepted: int, drafted: int) -> None:
        """So many tokens of a draft came true."""
        self.drafted += drafted
        self.accepted += accepted
        if sequence.key not in self._proposed:
            sequence.work.lookup.note(accepted, drafted)
            return
        chance = self._chances.get(sequence.key, self._chance)
        for came_true in (1.0,) * accepted + (0.0,) * (accepted < drafted):
            chance += (came_true - chance) * _WEIGHT
            self._chance += (came_true - self._chance) * _WEIGHT / 2
        self._chances[sequence.key] = chance

    def forget(self, key: int) -> None:
        """A request is over."""
        self._chances.pop(key, None)
        self._proposed.discard(key)
        if self._drafter is not None:
            self._drafter.forget(key)

    def _draft(self, sequence: Sequence) -> tuple[int, ...]:
        tokens = sequence.tokens
        room = self._context_length - len(tokens) - 1
        most = min(self._most, room, sequence.work.most_left - 1)
        if most <= 0:
            return ()
        lookup = sequence.work.lookup
        draft: tuple[int, ...] = lookup.draft(tokens, most, row_share=self._pace.row_share)
        chance = self._chances.get(sequence.key, self._chance)
        self._proposed.discard(sequence.key)
        if self._drafter is None or (draft and lookup.chance >= chance):
            return draft
        length = self._length(chance, most)
        if not length:
            self._chances[sequence.key] = chance + (_FIRST_CHANCE - chance) * _FORGIVING
            self._row_ns *= 1 - _FORGIVING
            self._token_ns *= 1 - _FORGIVING
            return ()
        if not self._drafter.follow(sequence.key, tokens):
            return ()
        self._proposed.add(sequence.key)
        started = self._clock_ns()
        draft = self._drafter.draft(tokens, length)
        took = (self._clock_ns() - started) / max(1, len(draft))
        self._token_ns += (took - self._token_ns) * _WEIGHT if self._token_ns else took
        return draft

    def _length(self, chance: float, most: int) -> int:
        """How many tokens to draft; none while it is not known what a plain step takes."""
        plain = self._pace.stream_step_ns
        if plain <= 0:
            return 0
        return best_length(chance, (self._row_ns + self._token_ns) / plain, most)


def best_length(chance: float, share: float, most: int) -> int:
    """The length of the draft that pays best, 0 where none does.

    Args:
        chance: that a drafted token comes true, where those before it did.
        share: what one drafted token costs, as a share of a plain step.
        most: the longest that may be.

    >>> [best_length(chance, 0.1, 8) for chance in (0.1, 0.5, 0.8, 0.95)]
    [0, 2, 4, 8]
    """
    best, length = _MARGIN, 0
    tokens = power = 1.0
    for number in range(1, most + 1):
        power *= chance
        tokens += power
        gain = tokens / (1 + number * share)
        if gain > best:
            best, length = gain, number
    return length
