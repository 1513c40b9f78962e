"""Puts a blob together from blocks: those that local files hold, and those fetched from elsewhere.

First every local block is looked for and hashed, then the missing ones are fetched in runs, a few
at a time, while the file is written in order. Every block is checked when it arrives and the whole
blob before it becomes visible, so that a wrong index costs an error and never a wrong blob.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ..descriptor import Descriptor
from ..errors import DigestMismatch
from ..store.store import Store
from ..transfer.events import Advanced, Finished, OnEvent, Started
from .blockindex import Block, BlockIndex, Sections, merge, pread, sections_of

# One request carries at most this much, and so many are under way: 32 MiB of memory.
RUN_SIZE = 8 << 20
JOBS = 4
# Smaller files share no tensor worth the look; more files than this take longer than they save.
_MIN_CANDIDATE = 256 << 10
_MAX_CANDIDATES = 64
_MAX_SIMILAR = 3

# Fetches the bytes from the first block's beginning to the last one's end.
FetchRun = Callable[[Sequence[Block]], bytes]


@dataclass(frozen=True, slots=True)
class _Local:
    fd: int
    sections: dict[str, tuple[int, int]]


class LocalFiles:
    """Files in which blocks are looked for by section; a context manager. One thread only."""

    def __init__(self, paths: Sequence[Path], *, sections: Sections | None = None) -> None:
        """`sections` are those of all the files, where their own headers may be damaged."""
        self._paths = paths
        self._sections = sections
        self._files: list[_Local] = []
        self._close = ExitStack()

    def __enter__(self) -> Self:
        for path in self._paths:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._close.callback(os.close, fd)
            sections = self._sections or sections_of(path)
            bounds = {name: (begin, end) for name, begin, end in sections.bounds()}
            self._files.append(_Local(fd, bounds))
        return self

    def __exit__(self, *_: object) -> None:
        self._close.close()
        self._files.clear()

    def find(self, block: Block) -> tuple[int, int] | None:
        """An open file and the offset at which it holds the block, checked by hash."""
        for file in self._files:
            begin, end = file.sections.get(block.section, (0, 0))
            offset = begin + block.start
            if offset + block.size <= end and block.matches(pread(file.fd, block.size, offset)):
                return file.fd, offset
        return None


def assemble(
    store: Store,
    index: BlockIndex,
    part: Descriptor,
    *,
    local: LocalFiles,
    fetch: FetchRun,
    gap: int,
    on_event: OnEvent,
) -> int:
    """Build the blob that an index describes and publish it, replacing a damaged file.

    Args:
        store: where it goes.
        index: of the blob.
        part: of the blob; its digest decides at the end.
        local: open files to take blocks from.
        fetch: gives the bytes of a run of blocks; called from several threads.
        gap: so many bytes between missing blocks are fetched as well, to save a request.
        on_event: told of progress; what local files gave counts as resumed.

    Returns:
        How many bytes were fetched.

    Raises:
        DigestMismatch: where a block, or the whole, is not what it should be.
        whatever `fetch` raises.
    """
    places = [local.find(block) for block in index.blocks]
    missing = [block for block, place in zip(index.blocks, places, strict=True) if place is None]
    runs = list(merge(missing, gap=gap, limit=RUN_SIZE))
    fetched = sum(run[-1].offset + run[-1].size - run[0].offset for run in runs)
    on_event(Started(part, resumed=part.size - sum(block.size for block in missing)))
    with ThreadPoolExecutor(JOBS) as pool, store.ingest(algorithm=part.digest.algorithm) as ingest:
        arriving = _ahead(pool, runs, fetch)
        for block, place in zip(index.blocks, places, strict=True):
            if place is None:
                data = next(arriving)
                on_event(Advanced(part, block.size))
            else:
                data = pread(place[0], block.size, place[1])
            ingest.write(data)
        ingest.commit(part)
    on_event(Finished(part))
    return fetched


def similar_files(store: Store, index: BlockIndex) -> tuple[Path, ...]:
    """The files of a store that share the most sections with an index, the best first."""
    wanted = {name: end - begin for name, begin, end in index.sections.bounds()}
    scored = []
    for path in _candidates(store):
        if path != store.path(index.digest):
            score = _shared(sections_of(path), wanted)
            if score:
                scored.append((score, path))
    scored.sort(reverse=True)
    return tuple(path for _, path in scored[:_MAX_SIMILAR])


def has_candidates(store: Store) -> bool:
    """Whether the store holds any file that blocks could come from."""
    return bool(_candidates(store))


def _shared(sections: Sections, wanted: dict[str, int]) -> int:
    return sum(
        end - begin for name, begin, end in sections.bounds() if wanted.get(name) == end - begin
    )


def _candidates(store: Store) -> list[Path]:
    found = []
    with os.scandir(store.root / "blobs" / "sha256") as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            if entry.is_file(follow_symlinks=False) and status.st_size >= _MIN_CANDIDATE:
                found.append((status.st_mtime, Path(entry.path)))
    return [path for _, path in sorted(found, reverse=True)[:_MAX_CANDIDATES]]


def _ahead(
    pool: ThreadPoolExecutor, runs: Sequence[Sequence[Block]], fetch: FetchRun
) -> Iterator[bytes]:
    """The checked bytes of every missing block in order, a few runs fetched ahead."""
    waiting = deque(runs)
    under_way: deque[Future[list[bytes]]] = deque()
    try:
        while waiting or under_way:
            while waiting and len(under_way) < JOBS:
                under_way.append(pool.submit(_fetch, waiting.popleft(), fetch))
            yield from under_way.popleft().result()
    finally:
        for future in under_way:
            future.cancel()


def _fetch(run: Sequence[Block], fetch: FetchRun) -> list[bytes]:
    data = fetch(run)
    begin = run[0].offset
    blocks = []
    for block in run:
        piece = data[block.offset - begin : block.offset - begin + block.size]
        if not block.matches(piece):
            raise DigestMismatch(f"block {block.hash.hex()[:12]}", "other bytes")
        blocks.append(piece)
    return blocks
