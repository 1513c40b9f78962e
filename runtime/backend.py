"""What the engine needs of a decoder: cells of sequences, decoding of rows, sampling.

`context.LlamaBackend` drives llama.cpp; `scripted.ScriptedBackend` is a model of it in pure Python
for tests of the scheduler. One thread owns a backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

from .pictures import Slice
from .request import SamplingParams


class Row(NamedTuple):
    """One token to decode: at position `position` of `sequence`; `output` asks for logits."""

    token: int
    position: int
    sequence: int
    output: bool


class ImageRows(NamedTuple):
    """`num_rows` rows of an image from number `first` on; its row 0 is at `position`."""

    slice: Slice
    first: int
    num_rows: int
    position: int
    sequence: int


Adapters = tuple[tuple[int, float], ...] | None


class DecodeStatus(IntEnum):
    """What became of a batch."""

    DONE = 0
    NO_ROOM = 1
    """Nothing was applied: there are not enough free cells."""
    FAILED = 2
    """The library refused or failed; sequences in the batch must be computed anew."""


class TokenGate(Protocol):
    """Says which tokens one sequence may go on with."""

    @property
    def wants_mask(self) -> bool:
        """Whether `restrict` is better called before drawing."""

    @property
    def is_held(self) -> bool:
        """Whether a grammar rules here, which also leaves loops."""

    @property
    def is_over(self) -> bool:
        """Whether a grammar is at its end, so that nothing may follow."""

    @property
    def is_broken(self) -> bool:
        """Whether a grammar was given up, so that the answer cannot be whole."""

    def allows(self, token: int) -> bool:
        """Whether a token that was drawn may come; if not, `restrict` and draw again."""

    def restrict(self, logits: Any) -> None:
        """Rule out, in place, what may not come next; `logits` is a float32 array [n_vocab]."""

    def accept(self, token: int) -> None:
        """The token that was drawn."""


class TokenSampler(Protocol):
    """Draws tokens for one sequence."""

    def close(self) -> None:
        """Free it. Idempotent."""


class Backend(Protocol):
    """A decoder with `num_cells` cells shared by up to `num_sequences` sequences."""

    num_cells: int
    num_sequences: int
    batch_size: int
    can_shift: bool
    can_share: bool
    """Whether a prefix of a sequence can be removed from or shared with another."""
    has_points: bool
    """Whether a state that cannot be cut can be copied by itself (`save_point`)."""
    cuttable: int
    """A saved state of more tokens than this goes on at its end only."""

    def use_adapters(self, adapters: Adapters) -> None:
        """Decode from now on with these LoRA adapters: numbers with scales; None is all at 1."""

    def decode(self, rows: Sequence[Row]) -> DecodeStatus:
        """Compute rows, at most `batch_size` of them; positions continue each sequence."""

    def decode_image(self, rows: ImageRows) -> DecodeStatus:
        """Compute rows of an image, at most `batch_size`; none of them has logits."""

    def sampler(
        self,
        params: SamplingParams,
        history: Sequence[int],
        *,
        gate: TokenGate | None = None,
        intact: bool = False,
    ) -> TokenSampler:
        """A sampler for one sequence whose prompt is `history`, and which `gate` restricts.

        Where `intact` its draws leave no trace of the gate in a row, so that `logprobs` are the
        model's.
        """

    def sample(self, drawn: Sequence[tuple[TokenSampler, int]]) -> list[int]:
        """Draw a token for each (sampler, index of its row in the last decoded batch)."""

    def logprobs(
        self, row: int, token: int, top: int
    ) -> tuple[tuple[int, float], list[tuple[int, float]]]:
        """(token, natural log of its probability) at a row, and the `top` likeliest of it."""

    def copy(self, source: int, target: int, end: int) -> None:
        """Let `target`, which is empty, share the cells of `source` at positions below `end`."""

    def remove(self, sequence: int, start: int, end: int = -1) -> None:
        """Take positions from `start` to before `end` (-1: the last) out of a sequence."""

    def shift(self, sequence: int, start: int, end: int, delta: int) -> None:
        """Move positions from `start` to before `end` of a sequence by `delta`."""

    def reaches(self, sequence: int, length: int) -> bool:
        """Whether a sequence still holds all that a token at position `length` would look at."""

    def save_point(self, sequence: int) -> bytes | None:
        """What cannot be cut of a sequence's state, as it is after its last token."""

    def restore_point(self, sequence: int, state: bytes) -> bool:
        """Put what `save_point` gave over a sequence that holds at least the cells before it.

        Cells behind it stay, for `remove` to take. False where there is no room.
        """

    def clear(self) -> None:
        """Forget all cells; what comes next is laid out as in a fresh backend."""

    def save(self, sequence: int) -> bytes | None:
        """The state of a sequence, None where it cannot be had."""

    def restore(self, sequence: int, state: bytes) -> bool:
        """Put a saved state into an empty sequence; False where there is no room."""
