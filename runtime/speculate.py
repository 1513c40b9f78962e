"""Guessing the next tokens from the text so far, so that one step may check several. Pure.

Where the last few tokens have come before, what followed then is tried: code, quotations and lists
repeat themselves. Each guess costs a row of the batch, so it is made only while guesses come true
often enough to pay, and not beside many streams.
"""

from __future__ import annotations

from collections.abc import Sequence

# Tokens in a row that must have come before; shorter ones guess wrong too often.
_NGRAM = 3
# Beside more streams than this the batch is full enough without guesses.
MAX_STREAMS = 2
# Guesses further ahead hardly ever come true, and each needs room for logits.
MAX_DRAFT = 8
# Where there is a draft model and nobody says how far ahead it should guess.
DEFAULT_DRAFT = 4
_WEIGHT = 0.1
_FIRST_CHANCE = 0.6
# A guess must be this much likelier to come true than what its row costs of a step.
_MARGIN = 1.2


def most_drafted(asked: int, *, has_model: bool) -> int:
    """The longest draft for what the option `draft_num_predict` says, -1 where it says nothing.

    >>> most_drafted(-1, has_model=True), most_drafted(-1, has_model=False)
    (4, 0)
    """
    if asked >= 0:
        return min(asked, MAX_DRAFT)
    return DEFAULT_DRAFT if has_model else 0


class PromptLookup:
    """The n-grams of one sequence, and how its guesses did."""

    __slots__ = ("_after", "_indexed", "chance")

    def __init__(self) -> None:
        self._after: dict[tuple[int, ...], int] = {}
        self._indexed = 0
        self.chance = _FIRST_CHANCE

    def draft(self, tokens: Sequence[int], most: int, *, row_share: float) -> tuple[int, ...]:
        """At most `most` tokens that may follow; none where that does not pay.

        `row_share` is what one more row costs, as a share of a step.
        """
        self._index(tokens)
        if most <= 0 or self.chance < row_share * _MARGIN:
            # Forgive slowly: the text may turn to what repeats.
            self.chance += (_FIRST_CHANCE - self.chance) * 0.01
            return ()
        start = self._after.get(tuple(tokens[-_NGRAM:]))
        return () if start is None else tuple(tokens[start : start + most])

    def note(self, accepted: int, drafted: int) -> None:
        """How many tokens of a draft came true."""
        self.chance += (accepted / drafted - self.chance) * _WEIGHT

    def _index(self, tokens: Sequence[int]) -> None:
        """Take in new tokens, but for the n-gram at the very end."""
        if len(tokens) < self._indexed:
            self._after.clear()
            self._indexed = 0
        for end in range(max(self._indexed, _NGRAM), len(tokens)):
            self._after[tuple(tokens[end - _NGRAM : end])] = end
        self._indexed = len(tokens)
