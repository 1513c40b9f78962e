"""Block indexes: SHA-256 of every block of a blob, anchored at the tensors and keys of a GGUF.

An index makes parts of a blob checkable: one fetches, repairs or compares blocks, not files. Each
section (the start, each metadata key, the tensor table, each tensor) is cut into steps from its own
beginning, so that a tensor's blocks stay the same when what stands before it grows. An index needs
no trust: it only proposes, and the digest of the whole blob decides.

JSON, as the one layer of a referrer of the model::

    {"version": 1, "digest": "sha256:…", "size": 98765, "step": 1048576,
     "sections": [["start", 0], ["key general.name", 24], …], "blocks": "<base64 of all hashes>"}
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from .. import strictjson
from ..descriptor import MAX_SIZE
from ..digest import Digest
from ..errors import InvalidBundle, InvalidDigest, InvalidGGUF
from ..gguf import read_header

# 32 bytes of hash per MiB; four times as coarse above 8 GiB.
STEP = 1 << 20
LARGE_STEP = 4 << 20
LARGE = 8 << 30
# Enough for 1.5 TB; a parsed index takes some ten times its size in memory.
MAX_INDEX = 16 << 20
_MIN_STEP, _MAX_STEP = 64 << 10, 16 << 20
_MAX_SECTIONS = 1 << 18
_HASH = 32


@dataclass(frozen=True, slots=True)
class Block:
    """One block. `start` counts from the section's beginning, `offset` from the blob's."""

    section: str
    start: int
    offset: int
    size: int
    hash: bytes

    def matches(self, data: bytes) -> bool:
        """Whether these are the block's bytes."""
        return len(data) == self.size and hashlib.sha256(data).digest() == self.hash


@dataclass(frozen=True, slots=True)
class Sections:
    """Where the sections of a blob begin: names with offsets, ascending from 0."""

    size: int
    starts: tuple[tuple[str, int], ...]

    def bounds(self) -> Iterator[tuple[str, int, int]]:
        """Name, begin and end of each section, in order."""
        ends = [*(offset for _, offset in self.starts[1:]), self.size][: len(self.starts)]
        for (name, begin), end in zip(self.starts, ends, strict=True):
            yield name, begin, end

    def spans(self, step: int) -> Iterator[tuple[str, int, int, int]]:
        """Section name, start in the section, offset and size of each block."""
        for name, begin, end in self.bounds():
            for offset in range(begin, end, step):
                yield name, offset - begin, offset, min(step, end - offset)


@dataclass(frozen=True, slots=True)
class BlockIndex:
    """The index of one blob. ``BlockIndex.parse(i.render()) == i``."""

    digest: Digest
    step: int
    sections: Sections
    blocks: tuple[Block, ...]

    @property
    def size(self) -> int:
        """Of the blob, in bytes."""
        return self.sections.size

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read an index from a stranger.

        Raises:
            InvalidBundle: where it is malformed or does not cover its blob exactly.
        """
        try:
            value = strictjson.loads(raw, max_size=MAX_INDEX)
            if str(value["version"]) != "1":
                raise ValueError("version is not 1")
            digest, size, step = Digest.parse(str(value["digest"])), value["size"], value["step"]
            sections = _sections(size, value["sections"])
            if not isinstance(step, int) or not _MIN_STEP <= step <= _MAX_STEP:
                raise ValueError("step is out of bounds")
            hashes = base64.b64decode(value["blocks"], validate=True)
            return cls(digest, step, sections, _blocks(sections, step, hashes))
        except (ValueError, TypeError, KeyError, InvalidDigest, binascii.Error) as error:
            raise InvalidBundle("block index", f"malformed: {error}") from error

    def render(self) -> bytes:
        """The JSON bytes."""
        document = {
            "version": 1,
            "digest": str(self.digest),
            "size": self.size,
            "step": self.step,
            "sections": [list(item) for item in self.sections.starts],
            "blocks": base64.b64encode(b"".join(b.hash for b in self.blocks)).decode("ascii"),
        }
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def build(path: Path, digest: Digest, *, jobs: int = 2) -> BlockIndex:
    """Hash a file's blocks, on several cores.

    Args:
        path: of the blob.
        digest: what the file is known to be; it is not checked here.
        jobs: how many threads hash.
    """
    from concurrent.futures import ThreadPoolExecutor

    sections = sections_of(path)
    step = LARGE_STEP if sections.size > LARGE else STEP
    spans = list(sections.spans(step))
    with path.open("rb", buffering=0) as file, ThreadPoolExecutor(jobs) as pool:
        fd = file.fileno()
        hashes = pool.map(lambda span: _hash(fd, span[2], span[3]), spans, chunksize=1)
        blocks = tuple(Block(*span, value) for span, value in zip(spans, hashes, strict=True))
    return BlockIndex(digest, step, sections, blocks)


def sections_of(path: Path) -> Sections:
    """The sections of a file; a file that is no GGUF is one section."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            header = read_header(file, size=size, name=path.name, arrays=False)
            file.seek(0)
            head = file.read(header.data_offset)
    except InvalidGGUF:
        return Sections(size, (("file", 0),) if size else ())
    starts = [("start", 0)]
    keys = [("key " + key, _prefixed(key)) for key in header.metadata]
    tables = [("tensors", _prefixed(tensor.name)) for tensor in header.tensors[:1]]
    for name, mark in keys + tables:
        found = head.find(mark, starts[-1][1] + 1)
        if found > 0:
            starts.append((name, found))
    for tensor in header.tensors:
        if tensor.size and header.data_offset + tensor.offset < size:
            starts.append(("tensor " + tensor.name, header.data_offset + tensor.offset))
    return Sections(size, tuple(starts))


def merge(blocks: Iterable[Block], *, gap: int, limit: int) -> Iterator[list[Block]]:
    """Runs of blocks that are worth one request each.

    Args:
        blocks: in the order of their offsets.
        gap: so many unwanted bytes between two blocks are fetched and thrown away.
        limit: the length of a run in bytes that is not exceeded, but by one block alone.
    """
    run: list[Block] = []
    for block in blocks:
        if run:
            end = run[-1].offset + run[-1].size
            if block.offset - end > gap or block.offset + block.size - run[0].offset > limit:
                yield run
                run = []
        run.append(block)
    if run:
        yield run


def _sections(size: Any, items: Any) -> Sections:
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_SIZE:
        raise ValueError("size is out of bounds")
    if not isinstance(items, list) or len(items) > _MAX_SECTIONS or bool(items) != bool(size):
        raise ValueError("sections is no list that fits the size")
    starts = tuple((name, offset) for name, offset in items)
    for name, offset in starts:
        if not isinstance(name, str) or not isinstance(offset, int) or isinstance(offset, bool):
            raise ValueError("a section is not a name with an offset")
    offsets = [offset for _, offset in starts] + [size]
    if size and (offsets[0] != 0 or any(a >= b for a, b in pairwise(offsets))):
        raise ValueError("sections do not ascend from 0")
    if len({name for name, _ in starts}) != len(starts):
        raise ValueError("two sections have one name")
    return Sections(size, starts)


def _blocks(sections: Sections, step: int, hashes: bytes) -> tuple[Block, ...]:
    # Counted before it is built: a size of 8 TiB with a short list of hashes must not cost memory.
    count = sum(-(-(end - begin) // step) for _, begin, end in sections.bounds())
    if count * _HASH != len(hashes):
        raise ValueError(f"{len(hashes)} bytes of hashes for {count} blocks")
    spans = sections.spans(step)
    return tuple(Block(*span, hashes[i * _HASH : (i + 1) * _HASH]) for i, span in enumerate(spans))


def _hash(fd: int, offset: int, size: int) -> bytes:
    return hashlib.sha256(pread(fd, size, offset)).digest()


def pread(fd: int, size: int, offset: int) -> bytes:
    """`size` bytes of an open file from `offset`, fewer only at its end."""
    data = os.pread(fd, size, offset)
    while len(data) < size and (more := os.pread(fd, size - len(data), offset + len(data))):
        data += more
    return data


def _prefixed(text: str) -> bytes:
    raw = text.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw
