"""Copies of states in the middle of texts, for models whose state cannot be cut. Pure.

A recurrent layer keeps one state per sequence, which knows all tokens and cannot forget the last.
So a request can go on from another one's beginning only where a copy was made. Copies are made
where beginnings part: after the system prompt, before the last message, before a prompt's last
token, and where two requests were seen to part (`places`). They are small: one state, whatever the
length of the text, and cells of attention layers beside it are shared like everybody's.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

# Of one prompt; each costs a step of its own and a copy.
MOST_PLACES = 6


class Checkpoint(NamedTuple):
    """The state after the first `length` tokens of a text."""

    length: int
    state: bytes


class Checkpoints:
    """The last used copies within a byte budget; a budget of 0 keeps none."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._entries: OrderedDict[tuple[str, bytes], bytes] = OrderedDict()
        self.size = 0

    @property
    def is_off(self) -> bool:
        """Whether nothing is ever kept."""
        return self._budget <= 0

    def add(self, tokens: Sequence[int], state: bytes, group: str) -> None:
        """Keep the state after all of `tokens`; the least recently used go beyond the budget."""
        key = (group, _packed(tokens))
        self._drop(key)
        self._entries[key] = state
        self.size += len(state) + len(key[1])
        while self.size > self._budget:
            self._drop(next(iter(self._entries)))

    def longest(self, tokens: Sequence[int], *, limit: int, group: str) -> Checkpoint | None:
        """The copy furthest into `tokens`, at most `limit` of them; it counts as used."""
        if not self._entries:
            return None
        text = _packed(tokens[:limit])
        best: tuple[str, bytes] | None = None
        for key in self._entries:
            other_group, other = key
            is_longer = best is None or len(other) > len(best[1])
            if other_group == group and is_longer and text.startswith(other):
                best = key
        if best is None:
            return None
        self._entries.move_to_end(best)
        return Checkpoint(len(best[1]) // _ITEM, self._entries[best])

    def has(self, tokens: Sequence[int], group: str) -> bool:
        """Whether there is a copy of the state after all of `tokens`."""
        return (group, _packed(tokens)) in self._entries

    def _drop(self, key: tuple[str, bytes]) -> None:
        state = self._entries.pop(key, None)
        if state is not None:
            self.size -= len(state) + len(key[1])


def marks(tokens: Sequence[int], control: Container[int], *, least: int) -> tuple[int, ...]:
    """Where a chat's messages end: the first such place and the last, `least` tokens inside.

    Templates write control tokens between messages, so the first one after `least` tokens is most
    likely the end of the system prompt, and the last one the beginning of the last message.

    >>> marks([0, 5, 5, 5, 0, 5, 5, 0, 5, 5, 0, 5], {0}, least=3)
    (4, 7)
    """
    inside = range(least, len(tokens) - least)
    first = next((at for at in inside if tokens[at] in control), None)
    last = next((at for at in reversed(inside) if tokens[at] in control), None)
    return tuple(sorted({at for at in (first, last) if at is not None}))


def places(wanted: Iterable[int], *, start: int, end: int, least: int) -> list[int]:
    """Those of `wanted` after `start` and before `end` that lie `least` tokens apart, in order.

    Where two are too near to each other the later one stays.

    >>> places([3, 40, 42, 90, 99], start=0, end=100, least=5)
    [42, 90, 99]
    """
    chosen: list[int] = []
    for place in sorted({place for place in wanted if start + least <= place < end}, reverse=True):
        if not chosen or chosen[-1] - place >= least:
            chosen.append(place)
    return sorted(chosen[:MOST_PLACES])


def _packed(tokens: Sequence[int]) -> bytes:
    return array("i", tokens).tobytes()


_ITEM = array("i").itemsize
