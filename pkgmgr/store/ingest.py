"""Taking new content in: private file, verify, sync, rename. Nothing is visible before the end.

A file in `ingest/` belongs to the process that holds its flock; one that nobody holds is left from
a crash and may be collected.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import DigestMismatch, SizeMismatch
from .files import disk_errors, sync_directory, write_all
from .hashing import BackgroundHash
from .lock import try_flock

BLOB_MODE = 0o444
# The suffix of files that nobody can come back to after their process died.
TEMPORARY = ".tmp"
# linux/fs.h: _IOW(0x94, 9, int). Shares the blocks of a whole file (btrfs, XFS, bcachefs).
_FICLONE = 0x40049409
# How much one copy_file_range call moves: progress is told and write-back begun at each.
_COPY_STEP = 16 << 20
_NOT_HERE = frozenset(
    {errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENOTTY, errno.EBADF}
)


class Ingest:
    """One blob on its way into the store; a context manager that leaves nothing unless committed.

    One thread writes at a time.

    Attributes:
        size: bytes taken in so far.
    """

    def __init__(self, folder: Path, *, algorithm: str, path_of: Callable[[Digest], Path]) -> None:
        self.size = 0
        self._algorithm = algorithm
        self._path_of = path_of
        self._path = folder / f"{os.getpid()}-{os.urandom(8).hex()}{TEMPORARY}"
        self._close = ExitStack()
        self._flushed = 0
        self._digest: Digest | None = None
        state = Digest(algorithm, "").hasher()
        with disk_errors(self._path):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._fd = os.open(self._path, flags, 0o600)
        self._close.callback(os.close, self._fd)
        self._hash = self._close.enter_context(BackgroundHash(state))
        try_flock(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(FileNotFoundError):
            self._path.unlink()
        self._close.close()

    @property
    def digest(self) -> Digest:
        """The digest of what was written; nothing can be written after the first look."""
        if self._digest is None:
            with disk_errors(self._path):
                self._digest = Digest(self._algorithm, self._hash.hexdigest())
        return self._digest

    def write(self, data: bytes) -> None:
        """Append bytes.

        Raises:
            NoSpace: where the disk is full.
        """
        with disk_errors(self._path):
            write_all(self._fd, data)
        self._hash.update(data)
        self.size += len(data)
        self._begin_writeback()

    def copy_from(self, source: int, *, on_bytes: Callable[[int], None] | None = None) -> None:
        """Append the whole of an open file, by reflink or inside the kernel where that works.

        What is hashed is the private copy, so a source that changes meanwhile gives a blob that
        is consistent in itself.
        """
        with disk_errors(self._path):
            if self.size == 0 and self._clone(source):
                self._take_over(os.fstat(self._fd).st_size, on_bytes)
                return
            while step := self._copy_step(source):
                self._take_over(self.size + step, on_bytes)

    def copy_range(
        self, source: int, offset: int, size: int, *, on_bytes: Callable[[int], None] | None = None
    ) -> None:
        """Append `size` bytes of an open file from `offset`, inside the kernel where that works.

        On a file system that shares blocks the kernel clones what lies on block boundaries. A file
        that ends earlier leaves the blob short, which `commit` notices.
        """
        end = self.size + size
        with disk_errors(self._path):
            while self.size < end:
                step = self._copy_step_at(source, offset, min(_COPY_STEP, end - self.size))
                if not step:
                    return
                offset += step
                self._take_over(self.size + step, on_bytes)

    def commit(self, expected: Descriptor | None = None) -> Digest:
        """Verify, sync and publish the blob under its digest.

        Raises:
            SizeMismatch: where `expected` has another size; nothing is published.
            DigestMismatch: where `expected` has another digest; nothing is published.
            NoSpace: where the disk is full; nothing is published.
        """
        if expected is not None and self.size != expected.size:
            raise SizeMismatch(str(expected.digest), expected.size, self.size)
        if expected is not None and self.digest != expected.digest:
            raise DigestMismatch(str(expected.digest), str(self.digest))
        path = self._path_of(self.digest)
        with disk_errors(path):
            publish(self._fd, self._path, path)
        return self.digest

    def _clone(self, source: int) -> bool:
        try:
            fcntl.ioctl(self._fd, _FICLONE, source)
        except OSError:
            return False
        return True

    def _copy_step(self, source: int) -> int:
        try:
            return os.copy_file_range(source, self._fd, _COPY_STEP)
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
        data = os.read(source, _COPY_STEP // 16)
        write_all(self._fd, data)
        return len(data)

    def _copy_step_at(self, source: int, offset: int, count: int) -> int:
        try:
            return os.copy_file_range(source, self._fd, count, offset)
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
        data = os.pread(source, min(count, _COPY_STEP // 16), offset)
        write_all(self._fd, data)
        return len(data)

    def _take_over(self, size: int, on_bytes: Callable[[int], None] | None) -> None:
        """Hash and count what the kernel put into the file up to `size`."""
        begin, self.size = self.size, size
        self._hash.update_from_file(self._fd, begin, size)
        self._begin_writeback()
        if on_bytes is not None:
            on_bytes(size - begin)

    def _begin_writeback(self) -> None:
        """Let the disk work while more comes in, so that the sync at the end is short.

        POSIX_FADV_DONTNEED starts write-back of dirty pages and, called once for each range
        right after it was written, evicts next to nothing.
        """
        if self.size - self._flushed >= _COPY_STEP:
            os.posix_fadvise(
                self._fd, self._flushed, self.size - self._flushed, os.POSIX_FADV_DONTNEED
            )
            self._flushed = self.size


def publish(fd: int, temporary: Path, path: Path) -> None:
    """Give a verified private file its final name, durably. The file is read-only afterwards."""
    os.fchmod(fd, BLOB_MODE)
    os.fsync(fd)
    path.parent.mkdir(exist_ok=True)
    os.replace(temporary, path)
    sync_directory(path.parent)
