"""A blob that comes in pieces, in any order, over several runs of the program.

Its file and its journal lie in `ingest/` under the digest's name, so that the next process finds
them. Who holds the file's flock is the one that downloads; others wait for it. The bytes are
hashed from the page cache as soon as everything before them is there.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from ..descriptor import Descriptor
from ..errors import DigestMismatch
from .files import disk_errors, replace_file
from .hashing import BackgroundHash
from .ingest import publish
from .journal import PieceWriter, checked, header, read_journal
from .spans import Spans

_log = logging.getLogger(__name__)

# The suffix of unfinished files that a later process can go on with.
PARTIAL = ".partial"
# How far the hash follows at a time, and how much is handed to the disk at once.
_STEP = 8 << 20
_POLL_S = 0.1


class Partial:
    """One unfinished blob of which this process is the owner; a context manager.

    Leaving it without `commit` keeps what has arrived for the next time. `writer` may be used
    from several threads, each with a range of its own.

    Attributes:
        resumed: bytes that were there from earlier runs.
    """

    def __init__(self, fd: int, path: Path, final: Path, descriptor: Descriptor) -> None:
        self._fd = fd
        self._path = path
        self._final = final
        self._descriptor = descriptor
        self._journal_path = journal_of(path)
        self._close = ExitStack()
        self._lock = threading.Lock()
        self._spans = Spans()
        self._hashed = 0
        self.resumed = 0

    def __enter__(self) -> Self:
        with disk_errors(self._path):
            self._begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close.close()

    def missing(self) -> list[tuple[int, int]]:
        """The ranges that are not there yet, in order, as (start, stop)."""
        with self._lock:
            return self._spans.gaps(self._descriptor.size)

    @contextmanager
    def writer(self, start: int) -> Iterator[PieceWriter]:
        """Write consecutive bytes from `start` on.

        Raises:
            NoSpace: where the disk is full; what was written before is kept.
        """
        piece = PieceWriter(self._fd, self._journal, start, self._arrived)
        with disk_errors(self._path):
            try:
                yield piece
            finally:
                piece.flush()

    def _arrived(self, start: int, stop: int) -> None:
        """Count a range as arrived, and let the hash follow."""
        with self._lock:
            self._spans.add(start, stop)
            prefix = self._spans.prefix
            if prefix - self._hashed >= _STEP or prefix == self._descriptor.size:
                self._hash.update_from_file(self._fd, self._hashed, prefix)
                self._hashed = prefix
        # Begins write-back of what was just written, as in `Ingest`.
        os.posix_fadvise(self._fd, start, stop - start, os.POSIX_FADV_DONTNEED)

    def commit(self) -> None:
        """Verify and publish the whole blob.

        Raises:
            DigestMismatch: where it is not what its digest says; everything of it is dropped.
            NoSpace: where the disk is full.
        """
        assert not self.missing(), "commit before everything arrived"
        digest = self._descriptor.digest
        with disk_errors(self._path):
            actual = self._hash.hexdigest()
            if actual != digest.hex:
                self.discard()
                raise DigestMismatch(str(digest), f"{digest.algorithm}:{actual}")
            publish(self._fd, self._path, self._final)
            self._journal_path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Forget everything that has arrived; the blob must be received anew."""
        self._journal_path.unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)

    def _begin(self) -> None:
        digest, size = self._descriptor.digest, self._descriptor.size
        recorded = list(read_journal(self._journal_path, size))
        good = list(checked(self._fd, iter(recorded)))
        for start, stop, _ in good:
            self._spans.add(start, stop)
        self.resumed = self._spans.size
        if len(good) != len(recorded):
            _log.warning(
                "%d damaged pieces of %s are fetched again", len(recorded) - len(good), digest
            )
        # Written anew each time: the end of the old one may be torn.
        lines = b"".join(b"%d %d %d\n" % piece for piece in good)
        replace_file(self._journal_path, header(size) + lines)
        os.ftruncate(self._fd, size)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        self._journal = os.open(self._journal_path, flags)
        self._close.callback(os.close, self._journal)
        self._hash = self._close.enter_context(BackgroundHash(digest.hasher()))
        self._arrived(0, 0)


def journal_of(path: Path) -> Path:
    """The journal beside an unfinished file."""
    return path.with_suffix(".journal")


@contextmanager
def receive(
    folder: Path,
    final: Path,
    descriptor: Descriptor,
    *,
    exists: Callable[[Descriptor], bool],
    wait: Callable[[float], None],
) -> Iterator[Partial | None]:
    """Own the unfinished blob of a digest in `folder`, waiting while another process does.

    Yields:
        The unfinished blob, or None as soon as `exists` says that it is there.
    """
    digest = descriptor.digest
    path = folder / f"{digest.algorithm}-{digest.hex}{PARTIAL}"
    while not exists(descriptor):
        with disk_errors(path):
            fd = _try_own(path)
        if fd is None:
            wait(_POLL_S)
            continue
        try:
            if not exists(descriptor):
                with Partial(fd, path, final, descriptor) as partial:
                    yield partial
                return
            path.unlink(missing_ok=True)
        finally:
            os.close(fd)
    yield None


def _try_own(path: Path) -> int | None:
    """Open an unfinished file as its owner; None where another process owns it.

    The caller closes the descriptor, which ends the ownership.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(fd), path.stat()):
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None
