"""Images as the engine sees them: runs of rows among the tokens of a prompt. Pure but for bytes.

An encoded image is rows of numbers that go to the decoder where tokens would go. In a sequence's
`tokens` each such row is one negative number, made of the image's digest and the row's place in it,
so that equal beginnings with equal images are equal lists; 31 bits a row make all rows of different
images as different as their digests. A model
with M-RoPE gives all rows of an image one position and two coordinates each; what follows goes on
after the larger side of its grid, so that positions and places in `tokens` differ from there on.
"""

from __future__ import annotations

import hashlib
import struct
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

# Bytes of rows that are kept: 100 images of 256 rows of 2,560 numbers take 262 MB.
PICTURES_BUDGET = 256 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """A run of rows that come from one look at (a part of) an image.

    Attributes:
        tokens: the numbers that stand for its rows.
        num_positions: how much further the positions are after it.
        width: numbers in a row.
        rows: [num_cells, width] floats, an array of ctypes.
        grid: with M-RoPE, (x, y) of each row, from 0.
        is_causal: whether a row sees only those before it. Otherwise all must be decoded at once.
    """

    tokens: tuple[int, ...]
    num_positions: int
    width: int
    rows: Any
    grid: tuple[tuple[int, int], ...] | None = None
    is_causal: bool = True

    @property
    def num_cells(self) -> int:
        """How many rows it has."""
        return len(self.tokens)


class Span(NamedTuple):
    """Where a slice stands among the tokens of a sequence."""

    start: int
    slice: Slice

    @property
    def end(self) -> int:
        """The place after its last row."""
        return self.start + self.slice.num_cells


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Picture:
    """An encoded image: slices, and the tokens that its model wants around and between them."""

    digest: str
    parts: tuple[Slice | tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """Bytes of its rows."""
        return sum(p.num_cells * p.width * 4 for p in self.parts if isinstance(p, Slice))


def row_tokens(digest: str, number: int, count: int) -> tuple[int, ...]:
    """The numbers for the rows of slice `number` of the image with a digest; all are negative."""
    noise = hashlib.shake_256(f"{digest}/{number}".encode()).digest(4 * count)
    return tuple(-1 - (value >> 1) for (value,) in struct.iter_unpack("<I", noise))


def lay_out(pieces: Iterable[Sequence[int] | Picture]) -> tuple[list[int], tuple[Span, ...]]:
    """The tokens of a prompt whose pieces are tokens and images, and where its slices stand."""
    tokens: list[int] = []
    spans: list[Span] = []
    for piece in pieces:
        parts = piece.parts if isinstance(piece, Picture) else (piece,)
        for part in parts:
            if isinstance(part, Slice):
                spans.append(Span(len(tokens), part))
                tokens += part.tokens
            else:
                tokens += part
    return tokens, tuple(spans)


def position_of(index: int, spans: Sequence[Span]) -> int:
    """The position of the token at a place that is not inside a slice."""
    position = index
    for span in spans:
        if span.end > index:
            break
        position -= span.slice.num_cells - span.slice.num_positions
    return position


class PictureCache:
    """Encoded images by digest, the least recently used go first. Any thread may call.

    Requests hold pictures too, until they end; `wait_for_room` bounds both together.
    """

    def __init__(self, budget: int) -> None:
        """`budget` is in bytes."""
        self._budget = budget
        self._kept: OrderedDict[str, Picture] = OrderedDict()
        self._alive = 0
        self._changed = threading.Condition(threading.RLock())

    def get(self, digest: str) -> Picture | None:
        """A picture that is still there."""
        with self._changed:
            picture = self._kept.get(digest)
            if picture is not None:
                self._kept.move_to_end(digest)
            return picture

    def add(self, picture: Picture) -> None:
        """Keep a picture as long as there is room, and count it while anybody holds it."""
        with self._changed:
            self._alive += picture.size
            weakref.finalize(picture, self._note_end, picture.size).atexit = False
            if picture.size <= self._budget:
                self._kept[picture.digest] = picture
                self._shrink(self._budget)

    def wait_for_room(self, size: int, *, own: int, is_over: Callable[[], bool]) -> None:
        """Return when `size` more bytes fit.

        Or when nothing is held but the `own` bytes of the caller, or `is_over` after a `wake`.
        """
        with self._changed:
            self._shrink(self._budget - size)
            while self._alive + size > self._budget and self._alive > own and not is_over():
                self._changed.wait(1.0)
                self._shrink(self._budget - size)

    def wake(self) -> None:
        """Let those who wait look again."""
        with self._changed:
            self._changed.notify_all()

    def _shrink(self, most: int) -> None:
        kept = sum(picture.size for picture in self._kept.values())
        while self._kept and kept > most:
            kept -= self._kept.popitem(last=False)[1].size

    def _note_end(self, size: int) -> None:
        with self._changed:
            self._alive -= size
            self._changed.notify_all()
