"""Which beginnings of waiting requests running ones are about to compute. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .prefix import common_prefix
from .sequence import Sequence


class Commons:
    """Common beginnings by pairs of requests, each compared once."""

    def __init__(self, expect: Callable[[Sequence, int], int]) -> None:
        """`expect` says how much of so many tokens a running request will leave to others."""
        self._expect = expect
        self._known: dict[tuple[int, int], int] = {}

    def longest(self, sequence: Sequence, running: Iterable[Sequence]) -> int:
        """The longest beginning of a request that another will have computed and has not yet."""
        limit = len(sequence.tokens) - 1
        best = 0
        for other in running:
            if other.remaining < 2 or other.group != sequence.group:
                continue
            pair = (sequence.key, other.key)
            common = self._known.get(pair)
            if common is None:
                common = common_prefix(other.tokens, sequence.tokens, 0, limit)
                self._known[pair] = common
            if common > other.computed:
                best = max(best, self._expect(other, common))
        return best

    def forget(self, sequence: Sequence) -> None:
        """A request has ended its run."""
        self._known = {
            pair: common for pair, common in self._known.items() if sequence.key not in pair
        }
