"""The library's batch structure, over arrays of our own that are filled without a call per token.

A slice assignment costs 20 ns per token, setting fields through the structure's pointers 1.3 µs.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from .backend import ImageRows, Row


class RowBatch:
    """A reusable batch of up to `size` rows."""

    def __init__(self, api: Any, size: int) -> None:
        self._tokens = (ctypes.c_int32 * size)()
        self._positions = (ctypes.c_int32 * size)()
        self._counts = (ctypes.c_int32 * size)(*([1] * size))
        self._sequences = (ctypes.c_int32 * size)()
        self._outputs = (ctypes.c_int8 * size)()
        pointer = ctypes.POINTER(ctypes.c_int32)
        first = ctypes.addressof(self._sequences)
        self._sequence_pointers = (pointer * (size + 1))(
            *(ctypes.cast(first + 4 * row, pointer) for row in range(size))
        )
        self._batch = api.llama_batch(
            0,
            ctypes.cast(self._tokens, pointer),
            None,
            ctypes.cast(self._positions, pointer),
            ctypes.cast(self._counts, pointer),
            self._sequence_pointers,
            ctypes.cast(self._outputs, ctypes.POINTER(ctypes.c_int8)),
        )

    def fill(self, rows: Sequence[Row]) -> Any:
        """The structure for a decode call with these rows; valid until the next `fill`."""
        count = len(rows)
        tokens, positions, sequences, outputs = zip(*rows, strict=True)
        self._tokens[:count] = list(tokens)
        self._positions[:count] = list(positions)
        self._sequences[:count] = list(sequences)
        self._outputs[:count] = list(outputs)
        self._batch.n_tokens = count
        return self._batch


class EmbeddingBatch:
    """A reusable batch of up to `size` rows of images, each with `dimensions` positions."""

    def __init__(self, api: Any, size: int, dimensions: int) -> None:
        self._positions = (ctypes.c_int32 * (size * dimensions))()
        self._dimensions = dimensions
        pointer = ctypes.POINTER(ctypes.c_int32)
        self._sequence = ctypes.c_int32()
        self._counts = (ctypes.c_int32 * size)(*([1] * size))
        one = ctypes.cast(ctypes.byref(self._sequence), pointer)
        self._sequences = (pointer * (size + 1))(*([one] * size))
        self._outputs = (ctypes.c_int8 * size)()
        self._batch = api.llama_batch(
            0,
            None,
            None,
            ctypes.cast(self._positions, pointer),
            ctypes.cast(self._counts, pointer),
            self._sequences,
            ctypes.cast(self._outputs, ctypes.POINTER(ctypes.c_int8)),
        )

    def fill(self, rows: ImageRows) -> Any:
        """The structure for a decode call; valid until the next `fill`, no row has logits."""
        image, first, count, position, self._sequence.value = rows
        if image.grid is None:
            self._positions[:count] = list(range(position + first, position + first + count))
        else:
            # Section by section: time, then the row, then the column; the fourth is unused.
            spots = image.grid[first : first + count]
            sections = [position] * count, [position + y for _, y in spots]
            across = [position + x for x, _ in spots]
            self._positions[: 4 * count] = [*sections[0], *sections[1], *across, *([0] * count)]
        address = ctypes.addressof(image.rows) + 4 * image.width * first
        self._batch.embd = ctypes.cast(address, ctypes.POINTER(ctypes.c_float))
        self._batch.n_tokens = count
        return self._batch
