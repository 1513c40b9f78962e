"""A small second model that proposes tokens for the large one to check.

It has a context of its own in the same process, and follows the texts that it drafts for: what the
large model took back, shifted or computed in another place is found by comparing tokens, and only
what differs is computed again. One thread may use it. Nothing here decides what is drafted when
(`guesses`), and nothing that it says changes what is answered.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

from .backend import Backend, DecodeStatus, Row
from .prefix import common_prefix
from .speculate import MAX_DRAFT, MAX_STREAMS

# Tokens of a text that are taken in beside one step of the large model, so that no gap opens.
CATCH_UP = 128
# So few new tokens are taken in together with the first guess.
AT_ONCE = 8
# A guess less likely than this seldom comes true; the draft ends before it.
_LEAST = 0.3


class DraftModel:
    """Implements `guesses.Drafter` over a backend of its own."""

    def __init__(self, backend: Backend, *, vocabulary_size: int, context_length: int) -> None:
        """`vocabulary_size` is what both models have; tokens beyond it are not for drafts.

        Texts longer than `context_length` get none either.
        """
        self._backend = backend
        self._vocabulary_size = vocabulary_size
        self._context_length = context_length
        self._slots: OrderedDict[int, int] = OrderedDict()
        self._known: list[list[int]] = [[] for _ in range(backend.num_sequences)]
        self._slot = 0

    def follow(self, key: int, tokens: Sequence[int]) -> bool:
        """See `Drafter.follow`."""
        if len(tokens) > self._context_length:
            return False
        self._slot = slot = self._slot_of(key, tokens)
        known = self._known[slot]
        common = common_prefix(known, tokens, 0, len(tokens) - 1)
        if common < len(known):
            self._cut(common if self._backend.reaches(slot, common) else 0)
        if len(tokens) - len(known) <= AT_ONCE:
            return True
        most = min(CATCH_UP, self._backend.batch_size)
        return self._take_in(tokens[len(known) : -1][:most]) and len(tokens) - len(known) <= AT_ONCE

    def draft(self, tokens: Sequence[int], most: int) -> tuple[int, ...]:
        """See `Drafter.draft`."""
        known = self._known[self._slot]
        drafted: list[int] = []
        missing = list(tokens[len(known) :])
        while self._take_in(missing):
            _, ((token, logprob),) = self._backend.logprobs(len(missing) - 1, 0, 1)
            if math.exp(logprob) < _LEAST or token >= self._vocabulary_size:
                break
            drafted.append(token)
            if len(drafted) >= most:
                break
            missing = [token]
        return tuple(drafted)

    def forget(self, key: int) -> None:
        """See `Drafter.forget`; the cells stay for a text that begins alike."""
        self._slots.pop(key, None)

    def _slot_of(self, key: int, tokens: Sequence[int]) -> int:
        """The slot of a text, else the free one that knows most of it, else the one used first."""
        slot = self._slots.pop(key, None)
        if slot is None:
            taken = set(self._slots.values())
            free = [slot for slot in range(len(self._known)) if slot not in taken]
            if not free:
                free = [self._slots.popitem(last=False)[1]]
            limit = len(tokens) - 1
            slot = max(free, key=lambda n: common_prefix(self._known[n], tokens, 0, limit))
        self._slots[key] = slot
        return slot

    def _take_in(self, tokens: Sequence[int]) -> bool:
        """Compute tokens behind what is known, the last one with logits; False where it failed."""
        known = self._known[self._slot]
        if max(tokens) >= self._vocabulary_size:
            return False
        last = len(tokens) - 1
        rows = [
            Row(token, len(known) + at, self._slot, at == last) for at, token in enumerate(tokens)
        ]
        if self._backend.decode(rows) is not DecodeStatus.DONE:
            self._cut(0)
            return False
        known += tokens
        return True

    def _cut(self, length: int) -> None:
        self._backend.remove(self._slot, length)
        del self._known[self._slot][length:]


def draft_cells(context_length: int) -> int:
    """Cells of a draft model's context: all that its streams may hold, and what it adds."""
    return (context_length + AT_ONCE + MAX_DRAFT) * MAX_STREAMS
