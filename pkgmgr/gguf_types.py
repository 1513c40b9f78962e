"""What a GGUF header says, as values: `Header`, its arrays and tensors, and the format's tables.

GGUF v3 (ggml, docs/gguf.md). Reading is in `gguf`, the bounds are in `gguf_bounds`.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import overload

# Value type number → struct/array code. 7 is bool, 8 string, 9 array.
NUMBER_CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 10: "Q", 11: "q", 12: "d"}
BOOL, STRING, ARRAY = 7, 8, 9
VALUE_TYPES = (
    "uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "bool", "string", "array",
    "uint64", "int64", "float64",
)  # fmt: skip

# Tensor type number → (name, elements per block, bytes per block): the table that llama.cpp of
# llama-cpp-python 0.3.36 is compiled with. Numbers that ggml took out again are absent.
TENSOR_TYPES: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36),
    10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4),
    27: ("I64", 1, 8), 28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}  # fmt: skip

# `general.file_type` → the name that people and other tools use (llama.h, llama_ftype).
FILE_TYPES: Mapping[int, str] = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K",
    11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S",
    17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS",
    23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M",
    30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4", 39: "NVFP4",
    40: "Q1_0",
}  # fmt: skip
# Of these, the ones that lost nothing yet.
WHOLE_TYPES = frozenset({"F32", "F16", "BF16"})
DEFAULT_ALIGNMENT = 32


class StringArray(Sequence[str]):
    """An array of strings, decoded one at a time as they are asked for."""

    __slots__ = ("_buffer", "_ends", "_start", "longest")

    def __init__(
        self, buffer: bytes | bytearray, start: int, ends: array[int], longest: int
    ) -> None:
        """`ends` are offsets in `buffer`; each string has its 8-byte length before it."""
        self._buffer = buffer
        self._start = start
        self._ends = ends
        self.longest = longest

    def raw(self, index: int) -> bytes:
        """The bytes of one string."""
        end = self._ends[index]
        start = self._start if index == 0 else self._ends[index - 1]
        return bytes(self._buffer[start + 8 : end])

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.raw(index).decode("utf-8", "replace")

    def __iter__(self) -> Iterator[str]:
        buffer = self._buffer
        for start, end in pairwise((self._start, *self._ends)):
            yield buffer[start + 8 : end].decode("utf-8", "replace")

    def __len__(self) -> int:
        return len(self._ends)

    def __repr__(self) -> str:
        return f"StringArray({len(self)} strings)"


@dataclass(frozen=True, slots=True)
class ArrayInfo:
    """An array whose items were not kept. `type` is the name of the item type."""

    type: str
    count: int


Value = str | int | float | bool | Sequence[str] | Sequence[int] | Sequence[float] | ArrayInfo


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor. `offset` counts from the data section; `size` in bytes, without padding.

    Attributes:
        shape: fastest-changing dimension first, as ggml writes it.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Header:
    """A GGUF file up to its tensor data.

    Attributes:
        size: of the whole file in bytes.
        data_offset: where tensor data begins in the file.
    """

    version: int
    metadata: Mapping[str, Value]
    tensors: tuple[TensorInfo, ...]
    alignment: int
    data_offset: int
    size: int

    @property
    def architecture(self) -> str:
        """`general.architecture`, empty where it is absent."""
        return self.text("general.architecture") or ""

    @property
    def kind(self) -> str:
        """What the file is for: `model`, `adapter`, `mmproj` or another `general.type`."""
        if self.architecture == "clip":
            return "mmproj"
        return self.text("general.type") or "model"

    @property
    def parameter_count(self) -> int:
        """Elements of all tensors in this file."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors)

    @property
    def quantization(self) -> str:
        """The file type's usual name (`Q4_K_M`); else what most bytes are; else `unknown`."""
        named = FILE_TYPES.get(self.number("general.file_type", -1))
        return named or self._commonest_type() or "unknown"

    def _commonest_type(self) -> str | None:
        sizes: dict[str, int] = {}
        for tensor in self.tensors:
            sizes[tensor.type] = sizes.get(tensor.type, 0) + tensor.size
        return max(sizes, key=sizes.__getitem__) if sizes else None

    @property
    def split(self) -> tuple[int, int] | None:
        """(number from 0, count) of a shard; None for a whole file."""
        count = self.number("split.count", 0)
        return (self.number("split.no", 0), count) if count > 1 else None

    def text(self, key: str) -> str | None:
        """A string value, None where it is absent or something else."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def number(self, key: str, default: int) -> int:
        """An integer value, `default` where it is absent or something else."""
        value = self.metadata.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else default

    def own(self, key: str) -> Value | None:
        """The value of `key` under the architecture's prefix (`llama.block_count`, …)."""
        return self.metadata.get(f"{self.architecture}.{key}")

    def token(self, token_id: int) -> str | None:
        """The text of a token; None outside the vocabulary or where arrays were not kept."""
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        if not isinstance(tokens, StringArray) or not 0 <= token_id < len(tokens):
            return None
        return tokens[token_id]
