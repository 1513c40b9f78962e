"""Blobs on their way from an upstream registry into the store, read by clients meanwhile.

One thread per blob writes and hashes; any number of readers follow it. The last byte is given to
nobody before the whole was verified, so no client ever completes a blob that is not what its
digest says.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import BinaryIO

from pannier.pkgmgr.descriptor import Descriptor
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import (
    BlobNotFound,
    IntegrityError,
    NetworkError,
    NoSpace,
    PannierError,
    SizeMismatch,
    TransferError,
)
from pannier.pkgmgr.transfer.content import Reader

from .conditions import Span
from .errors import Problem
from .source import Body, StoredBlob
from .uploads import Session, Uploads
from .upstream import Upstream

log = logging.getLogger(__name__)

# Ranges that begin further ahead than this are not worth waiting for: they are passed through.
AHEAD_BYTES = 32 << 20
# A broken connection is continued where it broke this many times.
_ATTEMPTS = 5
# Without a new byte for this long, readers give up; clients give up after about as long.
_STALL_S = 60.0
_PIECE = 256 << 10


class Fill:
    """One blob that is being fetched. Readers may come at any time, also after its end."""

    def __init__(self, name: str, descriptor: Descriptor, session: Session) -> None:
        self.name = name
        self.descriptor = descriptor
        self.session = session
        self.done = False
        self.error: Exception | None = None
        self._changed = threading.Condition()

    @property
    def ready(self) -> int:
        """Bytes that may be read: all, or all that are here but the last."""
        size = self.descriptor.size
        return size if self.done else min(self.session.offset, size - 1)

    def tell(self, *, done: bool = False, error: Exception | None = None) -> None:
        """Wake the readers."""
        with self._changed:
            self.done, self.error = self.done or done, error or self.error
            self._changed.notify_all()

    def wait_beyond(self, position: int) -> int:
        """Wait until a byte at `position` may be read; the number of bytes that may be.

        Raises:
            BlobNotFound: where the upstream registry does not have it.
            NetworkError: where the fetching failed or stands still.
        """
        with self._changed:
            while (ready := self.ready) <= position:
                if isinstance(self.error, BlobNotFound):
                    raise BlobNotFound(str(self.descriptor.digest))
                if self.error is not None:
                    raise NetworkError(f"fetching {self.descriptor.digest} failed")
                if not self._changed.wait(_STALL_S) and self.ready == ready:
                    raise NetworkError(f"fetching {self.descriptor.digest} stands still")
            return ready

    def wait(self) -> None:
        """Wait for the end.

        Raises:
            NetworkError: where it is a bad one.
        """
        self.wait_beyond(self.descriptor.size - 1)


class Fills:
    """All blobs that are being fetched; each digest once. Thread-safe."""

    def __init__(
        self,
        upstream: Upstream,
        uploads: Uploads,
        path_of: Callable[[Digest], Path],
        *,
        on_filled: Callable[[Fill], None],
    ) -> None:
        self.upstream = upstream
        self.path_of = path_of
        self._uploads = uploads
        self._on_filled = on_filled
        self._running: dict[Digest, Fill] = {}
        self._lock = threading.Lock()

    def start(self, name: str, descriptor: Descriptor) -> Fill | None:
        """The fill of a blob, begun if it is not running; None where the blob is here by now.

        Raises:
            Problem, NoSpace: where there is no room for it.
        """
        with self._lock:
            fill = self._running.get(descriptor.digest)
            if fill is None:
                digest = descriptor.digest
                if self.path_of(digest).exists():
                    return None
                session = self._uploads.start(name, algorithm=digest.algorithm)
                try:
                    self._uploads.require_room(session, descriptor.size)
                except BaseException:
                    self._uploads.cancel(session)
                    raise
                fill = self._running[digest] = Fill(name, descriptor, session)
                threading.Thread(
                    target=self._run, args=(fill,), name="pannier-fill", daemon=True
                ).start()
            return fill

    def _run(self, fill: Fill) -> None:
        try:
            self._fetch(fill)
            self._uploads.finish(fill.session, fill.descriptor.digest)
            fill.tell(done=True)
            self._on_filled(fill)
        except (PannierError, Problem, OSError) as error:
            log.warning("cannot fetch %s: %s", fill.descriptor.digest, error)
            if isinstance(error, IntegrityError | TransferError):
                self.upstream.pass_over(fill.name, fill.descriptor, error)
            fill.tell(error=error)
        except Exception as error:  # the thread's outermost frame
            log.exception("cannot fetch %s", fill.descriptor.digest)
            fill.tell(error=error)
        finally:
            self._uploads.cancel(fill.session)
            with self._lock:
                self._running.pop(fill.descriptor.digest, None)

    def _fetch(self, fill: Fill) -> None:
        """Bring all bytes, going on where a connection broke."""
        session, descriptor = fill.session, fill.descriptor
        failures = 0
        while session.offset < descriptor.size:
            before = session.offset
            try:
                with (
                    self.upstream.repository(fill.name) as repository,
                    repository.fetch(descriptor, offset=before) as content,
                ):
                    self._uploads.append(session, _Telling(content, fill))
                if session.offset == before:
                    raise NetworkError(
                        f"{repository.place} sends less than {descriptor.size} bytes"
                    )
            except NetworkError:
                failures = 0 if session.offset > before else failures + 1
                if failures >= _ATTEMPTS:
                    raise
        if session.offset > descriptor.size:
            raise SizeMismatch(str(descriptor.digest), descriptor.size, session.offset)


class _Telling:
    """A reader that wakes the followers: asked for more, it knows that the last piece is safe."""

    def __init__(self, content: Reader, fill: Fill) -> None:
        self._content = content
        self._fill = fill

    def read(self, size: int = -1, /) -> bytes:
        self._fill.tell()
        return self._content.read(size)


class FollowedBlob:
    """A blob that is not here yet: followed as it comes, or passed through far ahead of it."""

    def __init__(self, fills: Fills, name: str, descriptor: Descriptor) -> None:
        self._fills = fills
        self._name = name
        self._descriptor = descriptor
        self.size = descriptor.size

    def body(self, span: Span) -> Body:
        """The bytes of a span as soon as they are here."""
        passed = PassedBlob(self._fills.upstream, self._name, self._descriptor)
        stored = self._fills.path_of(self._descriptor.digest)
        try:
            fill = self._fills.start(self._name, self._descriptor)
        except (NoSpace, Problem) as error:
            # No room to keep it is no reason not to pass it on.
            log.warning("%s is not kept: %s", self._descriptor.digest, error)
            return passed.body(span)
        if fill is None:
            return StoredBlob(stored).body(span)
        if span.start > fill.session.offset + AHEAD_BYTES:
            return passed.body(span)
        try:
            # Open from here on, the file keeps its bytes whatever becomes of its name.
            file = fill.session.path.open("rb")
        except FileNotFoundError:
            fill.wait()
            return StoredBlob(stored).body(span)
        return Streamed(_follow(fill, span, file))


class PassedBlob:
    """A blob that goes through without being kept; the client verifies it."""

    def __init__(self, upstream: Upstream, name: str, descriptor: Descriptor) -> None:
        self._upstream = upstream
        self._name = name
        self._descriptor = descriptor
        self.size = descriptor.size

    def body(self, span: Span) -> Body:
        """The bytes of a span from the upstream registry."""
        return Streamed(_passed(self._upstream, self._name, self._descriptor, span))


class Streamed:
    """An answer's body that is made as it goes.

    The first piece is there before the answer begins, so that a refusal can still be told; later
    the connection is cut, which is the only word left.
    """

    def __init__(self, pieces: Generator[bytes, None, None]) -> None:
        self._pieces = pieces
        self._first = next(pieces, b"")

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield self._first
            yield from self._pieces
        except PannierError as error:
            log.warning("an answer ends early: %s", error)
            raise ConnectionAbortedError(error.message) from error

    def close(self) -> None:
        """End the fetching for this client."""
        self._pieces.close()


def _follow(fill: Fill, span: Span, file: BinaryIO) -> Generator[bytes, None, None]:
    """Read a span of a fill, waiting for what is not here yet; closes the file."""
    with file:
        position = span.start
        while position < span.stop:
            ready = min(fill.wait_beyond(position), span.stop)
            file.seek(position)
            data = file.read(min(_PIECE, ready - position))
            position += len(data)
            yield data


def _passed(
    upstream: Upstream, name: str, descriptor: Descriptor, span: Span
) -> Generator[bytes, None, None]:
    """A span from the upstream registry; what it would send behind the span is cut off."""
    with (
        upstream.repository(name) as repository,
        repository.fetch(descriptor, offset=span.start) as content,
    ):
        yield from _pieces(content, span.length)


def _pieces(content: Reader, count: int) -> Iterator[bytes]:
    """Exactly `count` bytes."""
    left = count
    while left:
        data = content.read(min(left, _PIECE))
        if not data:
            raise NetworkError("the upstream registry sent too little")
        left -= len(data)
        yield data
