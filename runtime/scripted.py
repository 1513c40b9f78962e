"""A decoder in pure Python that models llama.cpp's cells, for tests of the scheduler.

What it "predicts" depends on nothing but the tokens and positions that a sequence can see. So an
answer equals `script` of its prompt exactly where no cell was lost, doubled, mixed up or left over.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence

from .backend import Adapters, DecodeStatus, ImageRows, Row, TokenGate, TokenSampler
from .pictures import Slice, Span, position_of
from .request import SamplingParams

# Small, so that prompts and answers have beginnings in common by chance.
VOCABULARY = 7
END = 0


def predict(seen: Sequence[tuple[int, int]], seed: int) -> int:
    """The next token after (position, token) pairs."""
    return zlib.crc32(repr((seen, seed)).encode()) % VOCABULARY


def script(
    prompt: Sequence[int], seed: int, max_tokens: int, spans: Sequence[Span] = ()
) -> list[int]:
    """What a sequence alone would draw, the end token left out."""
    seen = seen_of(prompt, spans)
    at = position_of(len(prompt), spans)
    drawn: list[int] = []
    while len(drawn) < max_tokens:
        token = predict(seen, seed)
        if token == END:
            break
        drawn.append(token)
        seen.append((at + len(drawn) - 1, token))
    return drawn


def seen_of(tokens: Sequence[int], spans: Sequence[Span] = ()) -> list[tuple[int, int]]:
    """(position, token) of the cells of these tokens."""
    places = {
        span.start + row: position_of(span.start, spans) + at
        for span in spans
        for row, at in enumerate(_row_positions(span.slice))
    }
    return sorted(
        (places[place] if place in places else position_of(place, spans), token)
        for place, token in enumerate(tokens)
    )


def _row_positions(image: Slice) -> list[int]:
    """Where the rows of an image are, from its first; as many share one as it has fewer."""
    count = image.num_cells
    return [row * image.num_positions // count for row in range(count)]


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
        has_points: bool = False,
        window: int = 0,
        loses: Callable[[int], int] = lambda most: 0,
        fails: Callable[[], bool] = lambda: False,
    ) -> None:
        """With `can_share` off each sequence has a state that cannot be cut beside its cells.

        With a `window` a token sees that many positions only, itself among them; `loses` says how
        many of those at most that a sequence sees no more are taken from it at a step.
        """
        self.num_cells = num_cells
        self.num_sequences = num_sequences
        self.batch_size = batch_size
        self.can_share = can_share
        self.can_shift = can_shift
        self.has_points = has_points
        self.cuttable = (window or num_cells) if can_share else 0
        self._window = window
        self._loses = loses
        self._first: dict[int, int] = {}
        self._states: dict[int, list[tuple[int, int]]] = {}
        self._fails = fails
        # Position, token, holders, and the position that comes after.
        self._cells: dict[int, tuple[int, int, set[int], int]] = {}
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
        return sorted((at, token) for at, token, _, _ in self._held(sequence))

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
        self._lose_cells()
        for number, row in enumerate(rows):
            seen = self.seen(row.sequence)
            assert row.token >= 0, "a row of an image among tokens"
            assert row.position == self._next(row.sequence), "a gap in the positions"
            assert self.reaches(row.sequence, row.position), "a token without its window"
            self._put(row.position, row.token, row.sequence, row.position + 1)
            if row.output:
                self._predictions[number] = [*seen, (row.position, row.token)]
        self.decoded_rows += len(rows)
        return DecodeStatus.DONE

    def decode_image(self, rows: ImageRows) -> DecodeStatus:
        """See `Backend.decode_image`."""
        image, first, count, position, sequence = rows
        assert 0 < count <= self.batch_size
        assert image.is_causal or count == image.num_cells, "a part of an image of one piece"
        if self._fails():
            return DecodeStatus.FAILED
        if count + len(self._cells) > self.num_cells:
            return DecodeStatus.NO_ROOM
        held = sorted(cell[1] for cell in self._held(sequence) if cell[0] >= position)
        assert held == sorted(image.tokens[:first]), "a gap in an image"
        assert first or position == self._next(sequence), "a gap in the positions"
        places = [position + at for at in _row_positions(image)][first : first + count]
        assert self.reaches(sequence, places[0]), "an image without its window"
        for token, at in zip(image.tokens[first : first + count], places, strict=True):
            self._put(at, token, sequence, position + image.num_positions)
        self.decoded_rows += count
        self._lose_cells()
        return DecodeStatus.DONE

    def sampler(
        self,
        params: SamplingParams,
        history: Sequence[int],
        *,
        gate: TokenGate | None = None,
        intact: bool = False,
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
        self._states[target] = list(self._states.get(source, []))
        self._first[target] = self._first.get(source, 0)
        for at, _, holders, after in self._held(source):
            assert at >= end or after <= end, "a part of an image"
            if at < end:
                holders.add(target)

    def remove(self, sequence: int, start: int, end: int = -1) -> None:
        """See `Backend.remove`."""
        state = self._states.get(sequence, [])
        if start == 0 and end < 0:
            self._states.pop(sequence, None)
            self._first.pop(sequence, None)
        elif state and not self.can_share:
            assert state[-1][0] < start, "a part of a state that cannot be cut"
        for number, (at, _, holders, after) in tuple(self._cells.items()):
            assert sequence not in holders or at >= start or after <= start, "a part of an image"
            if sequence in holders and at >= start and (end < 0 or at < end):
                holders.discard(sequence)
                if not holders:
                    del self._cells[number]

    def shift(self, sequence: int, start: int, end: int, delta: int) -> None:
        """See `Backend.shift`."""
        assert self.can_shift
        for number, (at, token, holders, after) in tuple(self._cells.items()):
            if sequence in holders and start <= at < end:
                assert holders == {sequence}, "shifted a cell of another sequence"
                self._cells[number] = (at + delta, token, holders, after + delta)

    def reaches(self, sequence: int, length: int) -> bool:
        """See `Backend.reaches`."""
        first = self._first.get(sequence, 0)
        return not self._window or first <= max(0, length - self._window + 1)

    def save_point(self, sequence: int) -> bytes | None:
        """See `Backend.save_point`."""
        assert self.has_points
        return json.dumps(self._states[sequence]).encode()

    def restore_point(self, sequence: int, state: bytes) -> bool:
        """See `Backend.restore_point`."""
        assert self.has_points
        self._states[sequence] = [(at, token) for at, token in json.loads(state)]
        return True

    def clear(self) -> None:
        """See `Backend.clear`."""
        self._cells.clear()
        self._states.clear()
        self._first.clear()

    def save(self, sequence: int) -> bytes | None:
        """See `Backend.save`."""
        cells = [(at, token, after) for at, token, _, after in self._held(sequence)]
        return json.dumps(cells).encode()

    def restore(self, sequence: int, state: bytes) -> bool:
        """See `Backend.restore`."""
        assert not self._held(sequence), "restored into a sequence that is not empty"
        cells: list[tuple[int, int, int]] = json.loads(state)
        if len(cells) + len(self._cells) > self.num_cells:
            return False
        for at, token, after in cells:
            self._put(at, token, sequence, after)
        last = self._next(sequence)
        self._first[sequence] = max(0, last - self._window) if self._window else 0
        return True

    def _put(self, at: int, token: int, sequence: int, after: int) -> None:
        if not self.can_share:
            state = self._states.setdefault(sequence, [])
            assert sorted(state) == self.seen(sequence), "a state that is not of these cells"
            state.append((at, token))
        self._cells[self._next_cell] = (at, token, {sequence}, after)
        self._next_cell += 1

    def _next(self, sequence: int) -> int:
        """The position after a sequence's last."""
        return max((after for _, _, _, after in self._held(sequence)), default=0)

    def _lose_cells(self) -> None:
        """Take from sequences what they see no more, as llama.cpp does for others' tokens."""
        for sequence in {holder for cell in self._cells.values() for holder in cell[2]}:
            last = max(cell[0] for cell in self._held(sequence))
            unseen = max(0, last + 2 - self._window)
            taken = self._loses(unseen) if self._window else 0
            self._first[sequence] = max(self._first.get(sequence, 0), taken)

    def _held(self, sequence: int) -> list[tuple[int, int, set[int], int]]:
        return [cell for cell in self._cells.values() if sequence in cell[2]]
