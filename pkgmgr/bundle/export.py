"""Writes a bundle: a tar into a file, volumes or a pipe, or an OCI layout directory.

Every blob is verified while it is written, so that bit rot does not travel; the hashing runs
beside the writing. A file gets its name when it is whole.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from ..descriptor import Descriptor
from ..errors import (
    DigestMismatch,
    InvalidBundle,
    InvalidManifest,
    InvalidOption,
    SizeMismatch,
)
from ..mediatypes import REF_NAME
from ..store.collect import remove_if_dead
from ..store.files import disk_errors, replace_file, sync_directory, write_all
from ..store.hashing import BackgroundHash
from ..store.index import StoreIndex
from ..store.ingest import TEMPORARY
from ..store.lock import try_flock
from ..store.store import Store
from ..transfer.events import Advanced, Finished, OnEvent, Planned, Started, ignore
from . import tarwriter
from .plan import Pack, Plan
from .source import MAX_INDEX
from .tarstream import INDEX_NAME, LAYOUT_NAME
from .volumes import MAX_VOLUMES, checksum_path, volume_path

_CHUNK = 1 << 20
# Below this, padding to a page would cost more than a page-aligned blob can save.
ALIGN_FROM = 64 << 10
MIN_VOLUME = 1 << 20
_WRITE_BACK = 16 << 20


class Writer(Protocol):
    """Something that takes bytes, all of them."""

    def write(self, data: bytes, /) -> object:
        """Take in bytes."""


def write_tar(plan: Plan, store: Store, out: Writer, *, on_event: OnEvent = ignore) -> None:
    """Write the tar of a plan.

    Raises:
        IntegrityError: where a blob of the store is damaged; what was written is no bundle.
        BlobNotFound: where one is gone.
    """
    position = 0
    on_event(Planned(plan.blobs))
    for name, raw in plan.heads:
        position += _put(out, name, raw, position)
    for descriptor in plan.blobs:
        name = f"blobs/{descriptor.digest.algorithm}/{descriptor.digest.hex}"
        head = tarwriter.header(
            name, descriptor.size, position=position, aligned=descriptor.size >= ALIGN_FROM
        )
        out.write(head)
        for data in _content(plan, store, descriptor, on_event):
            out.write(data)
        tail = tarwriter.padding(descriptor.size)
        out.write(tail)
        position += len(head) + descriptor.size + len(tail)
    out.write(tarwriter.END)


def write_file(plan: Plan, store: Store, path: Path, *, on_event: OnEvent = ignore) -> None:
    """Write the tar into a file, which appears when it is whole; a device or pipe just gets it.

    Raises:
        NoSpace, IntegrityError, BlobNotFound: nothing of that name appears, an old file stays.
    """
    with output_file(path) as out:
        write_tar(plan, store, out, on_event=on_event)


@contextmanager
def output_file(path: Path) -> Iterator[Writer]:
    """The file that a user named: it appears when the block ends well, as `write_file` says."""
    if is_device(path):
        with disk_errors(path), path.open("wb") as out:
            yield out
        return
    # A link is followed, as /dev/stdout must be.
    with _appearing(path.resolve()) as whole:
        yield whole


def is_device(path: Path) -> bool:
    """Whether a path is there and names a device or a pipe, which cannot be replaced."""
    return path.exists() and not path.is_file() and not path.is_dir()


def write_volumes(
    plan: Plan, store: Store, path: Path, *, size: int, on_event: OnEvent = ignore
) -> tuple[Path, ...]:
    """Write the tar as volumes of `size` bytes, and the list of their checksums last.

    Raises:
        InvalidOption: where `size` is too small, or a whole bundle of that name is in the way.
        NoSpace, IntegrityError, BlobNotFound: no checksum list appears.
    """
    if size < MIN_VOLUME or (plan.size // size) >= MAX_VOLUMES - 1:
        raise InvalidOption(f"volumes of {size} bytes: too small, use a larger --split")
    if "\n" in path.name:
        raise InvalidOption("a list of checksums cannot hold a name with a line break")
    if path.exists():
        raise InvalidOption(
            f"{path} is there already and would be read instead of its volumes",
            hint=f"rm {path}, or choose another name",
        )
    checksum_path(path).unlink(missing_ok=True)
    with ExitStack() as closing:
        out = _Splitter(path, size, closing)
        try:
            write_tar(plan, store, out, on_event=on_event)
            sums = out.finish()
        except BaseException:
            out.discard()
            raise
    _remove_stale(path, len(sums))
    lines = "".join(f"{value}  {volume.name}\n" for volume, value in sums)
    with disk_errors(checksum_path(path)):
        replace_file(checksum_path(path), os.fsencode(lines))
    return tuple(volume for volume, _ in sums)


def write_directory(plan: Plan, store: Store, path: Path, *, on_event: OnEvent = ignore) -> None:
    """Write into an OCI layout directory; blobs that are there in full length are left alone.

    What other names the layout has stay in it.

    Raises:
        InvalidOption: where the directory holds something else.
        InvalidBundle: where it is a layout that cannot be read.
        NoSpace, IntegrityError, BlobNotFound: index.json is then as it was.
    """
    heads = dict(plan.heads)
    if path.exists():
        for name in heads:
            _remove_abandoned(path / name)
        if any(path.iterdir()) and not (path / LAYOUT_NAME).is_file():
            raise InvalidOption(f"{path} is not empty and no OCI layout")
    index = _with_others(heads[INDEX_NAME], path / INDEX_NAME)
    with disk_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        # First, so that an export that was killed goes on here; without an index it is no layout.
        replace_file(path / LAYOUT_NAME, heads[LAYOUT_NAME])
    on_event(Planned(plan.blobs))
    for descriptor in plan.blobs:
        file = path / "blobs" / descriptor.digest.algorithm / descriptor.digest.hex
        if file.is_file() and file.stat().st_size == descriptor.size:
            on_event(Finished(descriptor))
            continue
        with disk_errors(file):
            file.parent.mkdir(parents=True, exist_ok=True)
        with _appearing(file) as out:
            for data in _content(plan, store, descriptor, on_event):
                out.write(data)
    with disk_errors(path / INDEX_NAME):
        replace_file(path / INDEX_NAME, index)


def _with_others(index: bytes, path: Path) -> bytes:
    """An index and the other names of the layout that has the index file `path`, if it is there."""
    try:
        with path.open("rb") as file:
            there = StoreIndex.parse(file.read(MAX_INDEX + 1))
    except FileNotFoundError:
        return index
    except InvalidManifest as error:
        raise InvalidBundle(str(path.parent), f"its index.json is malformed: {error}") from error
    new = StoreIndex.parse(index)
    for item in new.descriptors:
        there = there.without_name(item.annotations[REF_NAME])
    every = (*new.descriptors, *there.descriptors)
    ordered = sorted(every, key=lambda item: item.annotations.get(REF_NAME, ""))
    return replace(new, descriptors=tuple(ordered)).render()


def _put(out: Writer, name: str, raw: bytes, position: int) -> int:
    parts = (
        tarwriter.header(name, len(raw), position=position, aligned=False),
        raw,
        tarwriter.padding(len(raw)),
    )
    for part in parts:
        out.write(part)
    return sum(map(len, parts))


def _content(
    plan: Plan, store: Store, descriptor: Descriptor, on_event: OnEvent
) -> Iterator[bytes]:
    """The verified content of a blob, in chunks; the last is yielded before the check."""
    made = plan.made.get(descriptor.digest)
    if made is not None:
        yield from made.chunks() if isinstance(made, Pack) else (made,)
        return
    on_event(Started(descriptor))
    size = 0
    with store.fetch(descriptor) as content, BackgroundHash(descriptor.digest.hasher()) as state:
        while size < descriptor.size and (
            data := content.read(min(_CHUNK, descriptor.size - size))
        ):
            state.update(data)
            yield data
            size += len(data)
            on_event(Advanced(descriptor, len(data)))
        actual = state.hexdigest()
    if size != descriptor.size:
        raise SizeMismatch(str(descriptor.digest), descriptor.size, size, place=store.place)
    if actual != descriptor.digest.hex:
        raise DigestMismatch(
            str(descriptor.digest), f"{descriptor.digest.algorithm}:{actual}", place=store.place
        )
    on_event(Finished(descriptor))


@contextmanager
def _appearing(path: Path) -> Iterator[Writer]:
    """A file that gets its name when the block ends well, and vanishes otherwise."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    with disk_errors(path):
        _remove_abandoned(path)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            try_flock(fd)
            yield _Whole(fd)
            os.fsync(fd)
            os.replace(temporary, path)
            sync_directory(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
            os.close(fd)


def _remove_abandoned(path: Path) -> None:
    """Remove what killed exports to this path left, which nobody would find on a full medium."""
    with os.scandir(path.parent) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(f".{path.name}.")]
    for name in names:
        if name.endswith(TEMPORARY):
            remove_if_dead(path.with_name(name))


class _Whole:
    """Writes every byte to an open file, and lets the disk begin early."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._written = self._flushed = 0

    def write(self, data: bytes, /) -> None:
        write_all(self._fd, data)
        self._written += len(data)
        if self._written - self._flushed >= _WRITE_BACK:
            # Starts write-back, so that the sync at the end is short; evicts next to nothing.
            os.posix_fadvise(
                self._fd, self._flushed, self._written - self._flushed, os.POSIX_FADV_DONTNEED
            )
            self._flushed = self._written


class _Splitter:
    """Writes volumes one after the other, hashing each."""

    def __init__(self, path: Path, size: int, closing: ExitStack) -> None:
        self._path = path
        self._size = size
        self._closing = closing
        self._done: list[tuple[Path, str]] = []
        self._open: ExitStack | None = None
        self._out: Writer | None = None
        self._left = 0
        self._hash = hashlib.sha256(usedforsecurity=False)

    def write(self, data: bytes, /) -> None:
        view = memoryview(data)
        while view:
            if not self._left:
                self._next()
            assert self._out is not None
            piece = bytes(view[: self._left])
            self._out.write(piece)
            self._hash.update(piece)
            self._left -= len(piece)
            view = view[len(piece) :]

    def finish(self) -> list[tuple[Path, str]]:
        """Close the last volume and give each with its SHA-256."""
        self._end()
        return self._done

    def discard(self) -> None:
        """Remove the volumes that are finished."""
        for path, _ in self._done:
            path.unlink(missing_ok=True)

    def _next(self) -> None:
        self._end()
        path = volume_path(self._path, len(self._done) + 1)
        self._open = self._closing.enter_context(ExitStack())
        self._out = self._open.enter_context(_appearing(path))
        self._hash = hashlib.sha256(usedforsecurity=False)
        self._left = self._size

    def _end(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None
            path = volume_path(self._path, len(self._done) + 1)
            self._done.append((path, self._hash.hexdigest()))


def _remove_stale(path: Path, count: int) -> None:
    """Volumes of an earlier, longer bundle of that name would be read as part of this one."""
    number = count + 1
    while (stale := volume_path(path, number)).exists():
        stale.unlink()
        number += 1
