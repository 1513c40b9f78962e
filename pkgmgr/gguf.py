"""Reads GGUF headers from a stream: one pass, every count checked before it is believed.

GGUF v2 and v3, little-endian (ggml, docs/gguf.md). Nothing is allocated by a number that a file
names unless so many bytes are there. String arrays (vocabularies of 262 144 tokens) are walked
but not decoded. `check` adds the bounds that keep llama.cpp from aborting.
"""

from __future__ import annotations

import struct
import sys
from array import array
from types import MappingProxyType
from typing import Protocol

from .errors import InvalidGGUF, NotGGUF
from .gguf_bounds import check
from .gguf_types import (
    ARRAY,
    BOOL,
    DEFAULT_ALIGNMENT,
    NUMBER_CODES,
    STRING,
    TENSOR_TYPES,
    VALUE_TYPES,
    ArrayInfo,
    Header,
    StringArray,
    TensorInfo,
    Value,
)

__all__ = ["ArrayInfo", "Header", "StringArray", "TensorInfo", "Value", "check", "read_header"]

MAGIC = b"GGUF"
# The largest header seen in the wild is about 30 MiB (two vocabularies of 500 000 merges).
MAX_HEADER = 128 << 20
MAX_ENTRIES = 65_536
MAX_KEY = 255
MAX_STRING = 16 << 20
MAX_ITEMS = 4 << 20
MAX_STRINGS = 1 << 20
MAX_DIMENSIONS = 4
MAX_DIMENSION = 1 << 31
MAX_TENSOR_NAME = 63
MAX_ALIGNMENT = 4096
# With `arrays=False`, arrays up to this length are kept all the same: they are settings (head
# counts per layer, image means), not vocabularies.
SHORT_ARRAY = 1024
_CHUNK = 1 << 20
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")


class Stream(Protocol):
    """Bytes from the beginning of a file."""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes; empty at the end."""


def read_header(stream: Stream, *, size: int, name: str, arrays: bool = True) -> Header:
    """Read a header; the stream is read a little beyond it, to whole buffers.

    Args:
        stream: at the file's first byte.
        size: of the whole file in bytes.
        name: what messages call the file.
        arrays: whether the items of long arrays are kept; else they are `ArrayInfo`.

    Raises:
        InvalidGGUF: where it is no GGUF, is cut short, or exceeds a limit.
    """
    cursor = _Cursor(stream, size, name)
    if cursor.take(4) != MAGIC:
        raise NotGGUF(name, "it does not begin with the letters GGUF")
    version = cursor.unpack(_U32)
    if version not in (2, 3):
        raise InvalidGGUF(name, _bad_version(version))
    # The smallest tensor record is 24 bytes: name length, dimension count, type, offset.
    num_tensors = cursor.count("tensors", MAX_ENTRIES, 24)
    num_entries = cursor.count("metadata entries", MAX_ENTRIES, 13)
    metadata: dict[str, Value] = {}
    for _ in range(num_entries):
        key = cursor.key()
        if key in metadata:
            raise InvalidGGUF(name, f"metadata key {key!r} stands there twice")
        metadata[key] = _value(cursor, key, arrays)
    alignment = _alignment(metadata, name)
    tensors = _tensors(cursor, num_tensors, alignment)
    data_offset = cursor.position + -cursor.position % alignment
    return Header(version, MappingProxyType(metadata), tensors, alignment, data_offset, size)


def _bad_version(version: int) -> str:
    if version & 0xFFFF == 0:
        return "it is big-endian"
    return f"its format version is {version}; versions 2 and 3 are supported"


class _Cursor:
    """A position in a growing buffer of the file's beginning."""

    def __init__(self, stream: Stream, size: int, name: str) -> None:
        self.buffer = bytearray()
        self.position = 0
        self._stream = stream
        self._size = size
        self._name = name

    def fail(self, reason: str) -> InvalidGGUF:
        return InvalidGGUF(self._name, reason)

    def ensure(self, end: int) -> None:
        """Have the buffer reach to `end`, a file position."""
        if end > self._size:
            raise self.fail(f"it is cut short: {self._size} bytes of at least {end}")
        if end > MAX_HEADER:
            raise self.fail(f"its header is larger than {MAX_HEADER >> 20} MiB")
        while len(self.buffer) < end:
            data = self._stream.read(max(_CHUNK, end - len(self.buffer)))
            if not data:
                raise self.fail(f"it is cut short after {len(self.buffer)} bytes")
            self.buffer += data

    def take(self, count: int) -> bytes:
        start = self.position
        self.ensure(start + count)
        self.position = start + count
        return bytes(self.buffer[start : self.position])

    def unpack(self, form: struct.Struct) -> int:
        start = self.position
        self.ensure(start + form.size)
        self.position = start + form.size
        value: int = form.unpack_from(self.buffer, start)[0]
        return value

    def count(self, what: str, limit: int, item_size: int) -> int:
        """A count of items that take at least `item_size` bytes each."""
        count = self.unpack(_U64)
        if count > limit:
            raise self.fail(f"{count} {what} are over the limit of {limit}")
        if count * item_size > self._size - self.position:
            raise self.fail(f"{count} {what} do not fit into its {self._size} bytes")
        return count

    def string(self, what: str, limit: int = MAX_STRING) -> str:
        length = self.unpack(_U64)
        if length > limit:
            raise self.fail(f"{what} of {length} bytes is over the limit of {limit}")
        try:
            return self.take(length).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.fail(f"{what} is not valid UTF-8") from error

    def key(self) -> str:
        key = self.string("a metadata key", MAX_KEY)
        if not key or not key.isascii() or not key.isprintable():
            raise self.fail(f"metadata key {key!r} is not printable ASCII")
        return key


def _value(cursor: _Cursor, key: str, arrays: bool) -> Value:
    kind = cursor.unpack(_U32)
    if kind == STRING:
        return cursor.string(key)
    if kind == BOOL:
        return cursor.take(1) != b"\0"
    if kind in NUMBER_CODES:
        form = struct.Struct("<" + NUMBER_CODES[kind])
        number: int | float = form.unpack(cursor.take(form.size))[0]
        return number
    if kind == ARRAY:
        return _array(cursor, key, arrays)
    raise cursor.fail(f"{key} has the unknown value type {kind}")


def _array(cursor: _Cursor, key: str, arrays: bool) -> Value:
    kind = cursor.unpack(_U32)
    if kind == STRING:
        count = cursor.count(f"strings in {key}", MAX_STRINGS, 8)
        strings = _strings(cursor, key, count)
        return strings if arrays or count <= SHORT_ARRAY else ArrayInfo("string", count)
    if kind == BOOL:
        code = "B"
    elif kind in NUMBER_CODES:
        code = NUMBER_CODES[kind]
    else:
        raise cursor.fail(f"{key} is an array of the unsupported type {kind}")
    item_size = struct.calcsize("<" + code)
    count = cursor.count(f"items in {key}", MAX_ITEMS, item_size)
    start = cursor.position
    cursor.ensure(start + count * item_size)
    cursor.position = start + count * item_size
    if not arrays and count > SHORT_ARRAY:
        return ArrayInfo(VALUE_TYPES[kind], count)
    items: array[int] | array[float] = array(code)
    items.frombytes(bytes(cursor.buffer[start : cursor.position]))
    if sys.byteorder == "big":
        items.byteswap()
    return tuple(bool(item) for item in items) if kind == BOOL else items


def _strings(cursor: _Cursor, key: str, count: int) -> StringArray:
    # One pass of the interpreter per string: everything that can be a local is one.
    unpack, buffer = _U64.unpack_from, cursor.buffer
    start = position = cursor.position
    have, longest = len(buffer), 0
    ends = array("Q", bytes(8 * count))
    for index in range(count):
        if position + 8 > have:
            cursor.ensure(position + 8)
            have = len(buffer)
        length = unpack(buffer, position)[0]
        if length > longest:
            if length > MAX_STRING:
                raise cursor.fail(f"a string in {key} of {length} bytes is over the limit")
            longest = length
        position += 8 + length
        ends[index] = position
    cursor.ensure(position)
    cursor.position = position
    return StringArray(buffer, start, ends, longest)


def _alignment(metadata: dict[str, Value], name: str) -> int:
    value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidGGUF(name, "general.alignment is not a number")
    if not 8 <= value <= MAX_ALIGNMENT or value & (value - 1):
        raise InvalidGGUF(name, f"general.alignment is {value}, not a power of two from 8 to 4096")
    return value


def _tensors(cursor: _Cursor, count: int, alignment: int) -> tuple[TensorInfo, ...]:
    tensors: dict[str, TensorInfo] = {}
    end = 0
    for _ in range(count):
        tensor = _tensor(cursor)
        if tensor.name in tensors:
            raise cursor.fail(f"two tensors are called {tensor.name!r}")
        if tensor.offset != end:
            raise cursor.fail(f"tensor {tensor.name} lies at {tensor.offset} instead of {end}")
        end += tensor.size + -tensor.size % alignment
        tensors[tensor.name] = tensor
    return tuple(tensors.values())


def _tensor(cursor: _Cursor) -> TensorInfo:
    name = cursor.string("a tensor name", MAX_TENSOR_NAME)
    num_dimensions = cursor.unpack(_U32)
    if not 1 <= num_dimensions <= MAX_DIMENSIONS:
        raise cursor.fail(f"tensor {name!r} has {num_dimensions} dimensions")
    shape = tuple(cursor.unpack(_U64) for _ in range(num_dimensions))
    kind = cursor.unpack(_U32)
    offset = cursor.unpack(_U64)
    if not all(1 <= dimension <= MAX_DIMENSION for dimension in shape):
        raise cursor.fail(f"tensor {name!r} has the shape {shape}")
    if kind not in TENSOR_TYPES:
        raise cursor.fail(f"tensor {name!r} has the unsupported type {kind}")
    type_name, block_length, block_size = TENSOR_TYPES[kind]
    if shape[0] % block_length:
        raise cursor.fail(f"rows of tensor {name!r} are no whole number of {type_name} blocks")
    elements = 1
    for dimension in shape:
        elements *= dimension
    return TensorInfo(name, shape, type_name, offset, elements // block_length * block_size)
