"""Upload sessions: bytes on disk under the store's ``ingest/``, resumable, expiring, bounded.

Implements the session part of distribution-spec v1.1.1, "Pushing a blob in chunks". What a client
sent stays when its connection breaks; the file's length is the offset, and the hash is carried from
request to request (a session of an earlier process is hashed again when it is first asked for).

A request that comes while an earlier one of the same session still waits for bytes takes the
session over, and the earlier one ends: a half-open connection cannot block a resume.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pannier.pkgmgr.digest import Digest, HashState
from pannier.pkgmgr.errors import DigestMismatch, NoSpace
from pannier.pkgmgr.store.files import disk_errors, write_all
from pannier.pkgmgr.store.hashing import BackgroundHash, update_from_range
from pannier.pkgmgr.store.ingest import publish
from pannier.pkgmgr.store.lock import try_flock

from .errors import Code, Problem

# Sessions at once. Each costs two small files; pushing clients use four or five.
MAX_SESSIONS = 512
# A session that got no byte is dropped after this when room is needed, any session after a day.
EMPTY_LIFETIME_S = 60.0
LIFETIME_S = 24 * 3600.0
_SWEEP_S = 60.0
# One read from the socket: few system calls, and no more than this is lost with a connection.
_READ_SIZE = 256 << 10
# Beyond this many uploads at once, each hashes what it reads itself instead of handing it to a
# thread of its own, whose queue may hold 8 MiB: `BackgroundHash` does so for reads of this size.
_MAX_THREADED = 8
_INLINE_READ_SIZE = 128 << 10
# Written bytes are given to the disk in steps of this size, as the store's own ingest does.
_WRITEBACK = 16 << 20
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Body(Protocol):
    """The body of a request."""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes, empty at the end."""


class TakenOver(Exception):
    """A later request writes to the session now."""


@dataclass(slots=True, eq=False)
class Session:
    """One upload. `offset` is the number of bytes that are safely here.

    Attributes:
        repository: whose URL the session belongs to; under another one it does not exist.
        touched: when a byte or a question came last, in seconds since 1970.
    """

    id: str
    repository: str
    algorithm: str
    path: Path
    state: HashState
    touched: float
    offset: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    turn: BackgroundHash | None = None


class Uploads:
    """All upload sessions of one store. Methods may be called from any thread.

    Args:
        folder: the store's ``ingest``; files here are called ``upload-*``.
        path_of: where the store keeps a digest.
        admit: called with a number of bytes before they are written; raises to refuse them.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        folder: Path,
        path_of: Callable[[Digest], Path],
        *,
        admit: Callable[[Session, int], None],
        clock: Callable[[], float] = time.time,
        max_sessions: int = MAX_SESSIONS,
    ) -> None:
        self._folder = folder
        self._path_of = path_of
        self._admit = admit
        self._clock = clock
        self._max_sessions = max_sessions
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()
        self._swept = float("-inf")
        self._active = 0

    def start(self, repository: str, *, algorithm: str = "sha256") -> Session:
        """Open a session.

        Raises:
            Problem: TOOMANYREQUESTS where too many are open.
        """
        with self._lock:
            self._sweep()
            self._make_room()
            session = self._new(str(uuid.uuid4()), repository, algorithm)
            record = {"repository": repository, "algorithm": algorithm}
            with disk_errors(session.path):
                _record(session.path).write_text(json.dumps(record))
                session.path.touch(mode=0o600)
            self._sessions[session.id] = session
        return session

    def find(self, repository: str, session_id: str) -> Session:
        """The open session of that id and repository, also one of an earlier process.

        Raises:
            Problem: BLOB_UPLOAD_UNKNOWN where there is none, or it expired.
        """
        with self._lock:
            self._sweep()
            session = self._sessions.get(session_id) or self._revive(session_id)
            if session is None or session.repository != repository:
                raise Problem(Code.BLOB_UPLOAD_UNKNOWN, "no such upload, or it has expired")
            session.touched = self._clock()
        return session

    def require_room(self, session: Session, count: int) -> None:
        """Refuse bytes that are announced before any of them is read.

        Raises:
            NoSpace: where the disk has less.
        """
        self._admit(session, count)
        free = shutil.disk_usage(self._folder).free
        if count > free:
            raise NoSpace(session.path, needed=count, free=free)

    def append(self, session: Session, body: Body) -> None:
        """Take in a body from the session's offset on; what arrived before an error stays.

        Raises:
            TakenOver: where a later request of the same session began.
            NoSpace: where the disk is full.
        """
        with disk_errors(session.path):
            fd = os.open(session.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            try_flock(fd)
            with self._reading() as size, _begin_turn(session) as turn:
                with disk_errors(session.path):
                    os.ftruncate(fd, session.offset)
                    os.lseek(fd, session.offset, os.SEEK_SET)
                flushed = session.offset
                while data := body.read(size):
                    self._admit(session, len(data))
                    self._write(session, turn, fd, data)
                    flushed = _begin_writeback(fd, flushed, session.offset)
        finally:
            os.close(fd)
            # The store's sweep goes by file times: keep the two files of a session together.
            with suppress(FileNotFoundError):
                os.utime(_record(session.path))

    def finish(self, session: Session, digest: Digest) -> None:
        """Verify the content and make it a blob of the store; the session ends either way.

        Raises:
            DigestMismatch: where it is something else; nothing is visible.
            NoSpace: where the disk is full.
        """
        try:
            with disk_errors(session.path):
                fd = os.open(session.path, os.O_RDWR | os.O_CLOEXEC)
            try:
                with _begin_turn(session), disk_errors(session.path):
                    os.ftruncate(fd, session.offset)
                actual = _digest_of(session, digest, fd)
                if actual != digest:
                    raise DigestMismatch(str(digest), str(actual))
                with disk_errors(session.path):
                    publish(fd, session.path, self._path_of(digest))
            finally:
                os.close(fd)
        finally:
            self.cancel(session)

    def cancel(self, session: Session) -> None:
        """End a session and remove what it brought."""
        with self._lock:
            self._remove(session)

    def received(self) -> int:
        """Bytes in all open sessions of this process."""
        with self._lock:
            return sum(session.offset for session in self._sessions.values())

    @contextmanager
    def _reading(self) -> Iterator[int]:
        """One upload more at work; how much it may read at once."""
        with self._lock:
            self._active += 1
            size = _READ_SIZE if self._active <= _MAX_THREADED else _INLINE_READ_SIZE
        try:
            yield size
        finally:
            with self._lock:
                self._active -= 1

    def _write(self, session: Session, turn: BackgroundHash, fd: int, data: bytes) -> None:
        with session.lock:
            if session.turn is not turn:
                raise TakenOver
            with disk_errors(session.path):
                write_all(fd, data)
            turn.update(data)
            session.offset += len(data)
            session.touched = self._clock()

    def _path(self, session_id: str) -> Path:
        return self._folder / f"upload-{session_id}.data"

    def _new(self, session_id: str, repository: str, algorithm: str) -> Session:
        path = self._path(session_id)
        state = Digest(algorithm, "").hasher()
        return Session(session_id, repository, algorithm, path, state, self._clock())

    def _revive(self, session_id: str) -> Session | None:
        """A session that an earlier process left, hashed up to its end."""
        if not _ID.fullmatch(session_id):
            return None
        path = self._path(session_id)
        try:
            record = json.loads(_record(path).read_text())
            session = self._new(session_id, record["repository"], record["algorithm"])
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size:
                    update_from_range(session.state, file.fileno(), 0, size)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        session.offset = size
        self._sessions[session_id] = session
        return session

    def _sweep(self) -> None:
        """Drop what expired, at most once a minute; also files of earlier processes."""
        now = self._clock()
        if now - self._swept < _SWEEP_S:
            return
        self._swept = now
        for session in list(self._sessions.values()):
            if now - session.touched > LIFETIME_S:
                self._remove(session)
        living = {item for held in self._sessions.values() for item in _files(held.path)}
        for path in set(self._folder.glob("upload-*")) - living:
            with suppress(FileNotFoundError):
                if now - path.stat().st_mtime > LIFETIME_S:
                    path.unlink()

    def _make_room(self) -> None:
        if len(self._sessions) < self._max_sessions:
            return
        oldest = min(self._sessions.values(), key=lambda item: (item.offset > 0, item.touched))
        if oldest.offset > 0 or self._clock() - oldest.touched < EMPTY_LIFETIME_S:
            text = f"{len(self._sessions)} uploads are open, finish or cancel one"
            raise Problem(Code.TOOMANYREQUESTS, text, headers={"Retry-After": "60"})
        self._remove(oldest)

    def _remove(self, session: Session) -> None:
        self._sessions.pop(session.id, None)
        for path in _files(session.path):
            path.unlink(missing_ok=True)


def _begin_turn(session: Session) -> BackgroundHash:
    """Become the one writer; what an earlier writer handed in is hashed before this returns."""
    with session.lock:
        if session.turn is not None:
            session.turn.__exit__(None, None, None)
        session.turn = BackgroundHash(session.state)
        return session.turn


def _begin_writeback(fd: int, begin: int, end: int) -> int:
    """Let the disk work while more comes in, so that the sync at the end is short."""
    if end - begin < _WRITEBACK:
        return begin
    os.posix_fadvise(fd, begin, end - begin, os.POSIX_FADV_DONTNEED)
    return end


def _digest_of(session: Session, wanted: Digest, fd: int) -> Digest:
    """The digest of a session's content by the algorithm that the client chose in the end."""
    if wanted.algorithm == session.algorithm:
        return Digest(wanted.algorithm, session.state.hexdigest())
    state = wanted.hasher()
    if session.offset:
        update_from_range(state, fd, 0, session.offset)
    return Digest(wanted.algorithm, state.hexdigest())


def _files(path: Path) -> tuple[Path, Path]:
    return path, _record(path)


def _record(path: Path) -> Path:
    return path.with_suffix(".session")
