"""A decoder in pure Python that models llama.cpp's cells, for tests of the scheduler.

What it "predicts" depends on nothing but the tokens and positions that a sequence can see. So an
answer equals `script` of its prompt exactly where no cell was lost, doubled, mixed up or left over.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence

from .backend import Adapters, DecodeStatus, Row, TokenGate, TokenSampler
from .request import SamplingParams

# Small, so that prompts and answers have beginnings in common by chance.
VOCABULARY = 7
END = 0


def predict(seen: Sequence[tuple[int, int]], seed: int) -> int:
    """The next token after (position, token) pairs."""
    return zlib.crc32(repr((seen, seed)).encode()) % VOCABULARY


def script(prompt: Sequence[int], seed: int, max_tokens: int) -> list[int]:
    """What a sequence alone would draw, the end token left out."""
    seen = list(enumerate(prompt))
    drawn: list[int] = []
    while len(drawn) < max_tokens:
        token = predict(seen, seed)
        if token == END:
            break
        drawn.append(token)
        seen.append((len(seen), token))
    return drawn


class ScriptedSampler:
    """Knows its seed only."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def close(self) -> None:
        """See `TokenSampler.close`."""


class ScriptedBackend:
    """Implements `backend.Backend`; raises AssertionError where it is used as llama.cpp forbids."""

    def __init__(
        self,
        *,
        num_cells: int,
        num_sequences: int,
        batch_size: int,
        can_share: bool = True,
        can_shift: bool = True,
        fails: Callable[[], bool] = lambda: False,
    ) -> None:
        self.num_cells = num_cells
        self.num_sequences = num_sequences
        self.batch_size = batch_size
        self.can_share = can_share
        self.can_shift = can_shift
        self._fails = fails
        self._cells: dict[int, tuple[int, int, set[int]]] = {}
        self._next_cell = 0
        self._predictions: dict[int, list[tuple[int, int]]] = {}
        self.decoded_rows = 0
        self.adapters: Adapters = None

    @property
    def used_cells(self) -> int:
        """Cells that some sequence holds."""
        return len(self._cells)

    def seen(self, sequence: int) -> list[tuple[int, int]]:
        """(position, token) of all cells of a sequence."""
        return sorted((at, token) for at, token, _ in self._held(sequence))

    def use_adapters(self, adapters: Adapters) -> None:
        """See `Backend.use_adapters`."""
        self.adapters = adapters

    def decode(self, rows: Sequence[Row]) -> DecodeStatus:
        """See `Backend.decode`."""
        assert 0 < len(rows) <= self.batch_size
        if self._fails():
            return DecodeStatus.FAILED
        if len(rows) + len(self._cells) > self.num_cells:
            return DecodeStatus.NO_ROOM
        self._predictions = {}
        for number, row in enumerate(rows):
            seen = self.seen(row.sequence)
            assert row.position == (seen[-1][0] + 1 if seen else 0), "a gap in the positions"
            self._cells[self._next_cell] = (row.position, row.token, {row.sequence})
            self._next_cell += 1
            if row.output:
                self._predictions[number] = [*seen, (row.position, row.token)]
        self.decoded_rows += len(rows)
        return DecodeStatus.DONE

    def sampler(
        self, params: SamplingParams, history: Sequence[int], *, gate: TokenGate | None = None
    ) -> TokenSampler:
        """See `Backend.sampler`."""
        return ScriptedSampler(params.seed)

    def sample(self, drawn: Sequence[tuple[TokenSampler, int]]) -> list[int]:
        """See `Backend.sample`."""
        tokens = []
        for sampler, row in drawn:
            assert isinstance(sampler, ScriptedSampler)
            tokens.append(predict(self._predictions[row], sampler.seed))
        return tokens

    def logprobs(
        self, row: int, token: int, top: int
    ) -> tuple[tuple[int, float], list[tuple[int, float]]]:
        """See `Backend.logprobs`; the likeliest token is certain."""
        return (token, 0.0), [(token, 0.0)][:top]

    def copy(self, source: int, target: int, end: int) -> None:
        """See `Backend.copy`."""
        assert not self._held(target), "the target of a copy is not empty"
        assert self.can_share or all(at < end for at, _, _ in self._held(source))
        for at, _, holders in self._held(source):
            if at < end:
                holders.add(target)

    def remove(self, sequence: int, start: int, end: int = -1) -> None:
        """See `Backend.remove`."""
        assert self.can_share or start == 0, "a part of an inseparable state"
        for number, (at, _, holders) in tuple(self._cells.items()):
            if sequence in holders and at >= start and (end < 0 or at < end):
                holders.discard(sequence)
                if not holders:
                    del self._cells[number]

    def shift(self, sequence: int, start: int, end: int, delta: int) -> None:
        """See `Backend.shift`."""
        assert self.can_shift
        for number, (at, token, holders) in tuple(self._cells.items()):
            if sequence in holders and start <= at < end:
                assert holders == {sequence}, "shifted a cell of another sequence"
                self._cells[number] = (at + delta, token, holders)

    def clear(self) -> None:
        """See `Backend.clear`."""
        self._cells.clear()

    def save(self, sequence: int) -> bytes | None:
        """See `Backend.save`."""
        return json.dumps(self.seen(sequence)).encode()

    def restore(self, sequence: int, state: bytes) -> bool:
        """See `Backend.restore`."""
        assert not self._held(sequence), "restored into a sequence that is not empty"
        seen: list[tuple[int, int]] = json.loads(state)
        if len(seen) + len(self._cells) > self.num_cells:
            return False
        for at, token in seen:
            self._cells[self._next_cell] = (at, token, {sequence})
            self._next_cell += 1
        return True

    def _held(self, sequence: int) -> list[tuple[int, int, set[int]]]:
        return [cell for cell in self._cells.values() if sequence in cell[2]]
