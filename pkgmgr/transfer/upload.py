"""Sending blobs to a registry: mount, one streamed PUT, or chunks that can be gone on with.

Implements distribution-spec v1.1.1, "Pushing blobs". The Location that a registry gives is opaque:
its query is kept as it is, and no secret goes with it to another origin. Only the Range that a
registry gives back tells what it has.
"""

from __future__ import annotations

import logging
import re
import threading
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from .. import mediatypes
from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import Cancelled, DigestMismatch, NetworkError, RegistryError, TransferError
from .answers import content_digest
from .auth import Scopes
from .content import Reader
from .origin import follow
from .reply import Reply
from .sessions import Session, Sessions
from .sizedbody import SizedBody, can_seek, seek_of
from .wire import Wire

_log = logging.getLogger(__name__)

# What is lost at most when a connection breaks behind a proxy that buffers; a request costs little.
CHUNK = 128 << 20
# Registries whose hosts are known not to take chunks (GHCR: at most 4 MiB each; Google's and
# Amazon's refuse or end the upload at the first one), and Ollama's own.
_MONOLITHIC = re.compile(
    r"(.*\.)?(ghcr\.io|gcr\.io|pkg\.dev|amazonaws\.com|amazonaws\.com\.cn|public\.ecr\.aws)"
)
_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,19})")
_MAX_MIN_CHUNK = 5 << 30
_SMALLEST = 1 << 20
# So often a registry may lose what it had before the upload is given up.
_MAX_SETBACKS = 3


@dataclass(frozen=True, slots=True)
class Job:
    """One blob on its way: over which wire, to which repository, with what rights."""

    wire: Wire
    base: str
    scopes: Scopes
    descriptor: Descriptor
    place: str

    @property
    def what(self) -> str:
        """What error messages call it."""
        return f"push layer {self.descriptor.digest} to {self.place}"


class Uploads:
    """How blobs are sent to the repositories of one registry. Thread-safe."""

    def __init__(self, *, folder: Path, wanted: str | None) -> None:
        """Keep sessions in `folder`; `wanted` is `chunked`, `monolithic` or None to choose."""
        self._sessions = Sessions(folder)
        self._wanted = wanted
        self._given: dict[tuple[str, Digest], str] = {}
        self._lock = threading.Lock()

    def send(self, job: Job, content: Reader) -> None:
        """Upload one blob.

        Raises:
            IntegrityError: where the registry has something else in the end.
            RegistryError: where the registry refuses.
        """
        try:
            self.resend(job, content)
        except Cancelled:
            raise
        except TransferError:
            # The answer may have been lost on its way, or a 500 sent for a blob that was stored.
            if not _has(job):
                raise
            self._sessions.forget(job.base, job.descriptor.digest)

    def resend(self, job: Job, content: Reader) -> None:
        """Upload one blob; that the registry says to have it counts for nothing.

        Raises:
            IntegrityError, RegistryError: as for `send`.
        """
        size = job.descriptor.size
        chunked = self._wanted == "chunked" or (self._wanted is None and size > CHUNK)
        if _MONOLITHIC.fullmatch(job.wire.origin.host) and self._wanted is None:
            chunked = False
        if chunked and size and can_seek(content):
            self._in_chunks(job, content)
        else:
            self._at_once(job, content)
        self._sessions.forget(job.base, job.descriptor.digest)

    def mount(self, job: Job, source: str, scopes: Scopes) -> bool:
        """Ask for a blob of another repository of the same registry; whether it was given.

        An upload that the registry began instead is used by the next `send` of the blob.
        """
        url = f"{job.base}/blobs/uploads/?mount={job.descriptor.digest}&from={quote(source)}"
        try:
            with self._post(job, url, scopes) as reply:
                if reply.status == 201:
                    return True
                location = location_of(reply, job.place)
        except RegistryError as error:
            _log.debug("cannot mount %s: %s", job.descriptor.digest, error.message)
            return False
        with self._lock:
            self._given[job.base, job.descriptor.digest] = location
        return False

    def _at_once(self, job: Job, content: Reader) -> None:
        location, _ = self._begin(job)
        body = SizedBody(content, job.descriptor, 0, job.descriptor.size, job.wire.tools)
        self._finish(job, location, body)

    def _in_chunks(self, job: Job, content: Reader) -> None:
        """Send the rest of a blob in chunks; what the registry has is never sent again."""
        session = self._resumed(job) or self._fresh(job)
        # Whoever watches the content sees from this what was there, even where nothing is left.
        seek_of(content)(session.offset)
        failures = setbacks = 0
        while session.offset < job.descriptor.size:
            try:
                session = self._send_chunk(job, content, session)
                failures = 0
            except TransferError as error:
                failures += 1
                before, session = session, self._after(job, session, error, failures)
                setbacks += session.offset < before.offset
                if setbacks > _MAX_SETBACKS:
                    raise
        self._finish(job, session.location, b"")

    def _after(self, job: Job, session: Session, error: TransferError, failures: int) -> Session:
        """Where to go on after a chunk failed: the registry is asked; if it lost all, at 0."""
        tools = job.wire.tools
        status = error.status if isinstance(error, RegistryError) else None
        if status == 413 and session.chunk > _SMALLEST:
            return session.with_chunk(session.chunk // 4)
        if status not in (404, 416):
            wait_s = tools.retry.wait_s(error, failures)
            if wait_s is None:
                raise error
            tools.stop.wait(wait_s)
        elif failures > tools.retry.attempts:
            raise error
        found = self._ask(job, session)
        if found is None:
            tools.on_warning(f"{job.place} cannot go on with the upload; it begins again")
            found = self._fresh(job).with_chunk(session.chunk)
        return found

    def _send_chunk(self, job: Job, content: Reader, session: Session) -> Session:
        start = session.offset
        stop = min(start + session.chunk, job.descriptor.size)
        reply = job.wire.once(
            "PATCH",
            session.location,
            scopes=job.scopes,
            ok=(201, 202, 204),
            headers={
                "Content-Type": mediatypes.OCTET_STREAM,
                "Content-Range": f"{start}-{stop - 1}",
            },
            body=SizedBody(content, job.descriptor, start, stop, job.wire.tools),
            what=job.what,
        )
        with closing(reply):
            if reply.status == 201:
                raise RegistryError(
                    f"cannot {job.what}: the registry takes no chunks",
                    status=201,
                    place=job.place,
                    hint='set upload = "monolithic" for it in settings.toml',
                )
            told = end_of_range(reply)
            offset = stop if told is None else told
            if not start < offset <= stop:
                raise NetworkError(
                    f"{job.place} has {offset} bytes of an upload where {stop} were sent",
                    place=job.place,
                )
            sent = Session(location_of(reply, job.place), offset, session.chunk)
        self._sessions.keep(job.base, job.descriptor.digest, sent)
        return sent

    def _finish(self, job: Job, location: str, body: SizedBody | bytes) -> None:
        reply = job.wire.once(
            "PUT",
            with_digest(location, job.descriptor),
            scopes=job.scopes,
            ok=(200, 201, 202, 204),
            headers={"Content-Type": mediatypes.OCTET_STREAM},
            body=body,
            what=job.what,
        )
        with closing(reply):
            said = content_digest(reply)
            reply.drain()
        expected = job.descriptor.digest
        if said is not None and said.algorithm == expected.algorithm and said != expected:
            raise DigestMismatch(str(expected), str(said), place=job.place)

    def _fresh(self, job: Job) -> Session:
        location, least = self._begin(job)
        return Session(location, 0, max(CHUNK, least))

    def _resumed(self, job: Job) -> Session | None:
        """The session of an earlier process, if the registry still knows it."""
        kept = self._sessions.find(job.base, job.descriptor.digest)
        return self._ask(job, kept) if kept is not None else None

    def _ask(self, job: Job, session: Session) -> Session | None:
        """How far the registry is with a session; None where it cannot tell."""
        try:
            reply = job.wire.once(
                "GET", session.location, scopes=job.scopes, ok=(204,), what=job.what
            )
            with closing(reply):
                reply.drain()
                offset = end_of_range(reply)
                location = location_of(reply, job.place)
        except TransferError:
            return None
        if offset is None or not session.offset <= offset <= job.descriptor.size:
            return None
        return Session(location, offset, session.chunk)

    def _begin(self, job: Job) -> tuple[str, int]:
        """A new upload: its location, and the least length of chunks."""
        with self._lock:
            given = self._given.pop((job.base, job.descriptor.digest), None)
        if given is not None:
            return given, 0
        with self._post(job, f"{job.base}/blobs/uploads/", job.scopes) as reply:
            least = reply.headers.get("OCI-Chunk-Min-Length", "")
            location = location_of(reply, job.place)
        return location, min(int(least[:20]), _MAX_MIN_CHUNK) if least.isdigit() else 0

    def _post(self, job: Job, url: str, scopes: Scopes) -> AbstractContextManager[Reply]:
        return job.wire.ask(
            "POST",
            url,
            scopes=scopes,
            ok=(201, 202),
            headers={"Content-Length": "0"},
            body=b"",
            what=job.what,
        )


def location_of(reply: Reply, place: str) -> str:
    """Where an upload goes on, as an absolute URL with its query untouched.

    Raises:
        NetworkError: where the registry does not say, or says what may not be followed.
    """
    location = reply.headers.get("Location")
    if not location:
        raise NetworkError(f"{place} gave no place to upload to", place=place)
    return follow(reply.url, location)


def with_digest(location: str, descriptor: Descriptor) -> str:
    """A location with the `digest` parameter that ends an upload."""
    return f"{location}{'&' if '?' in location else '?'}digest={descriptor.digest}"


def end_of_range(reply: Reply) -> int | None:
    """How many bytes a registry says that it has; None where it does not say.

    ``0-0`` stands for nothing and for one byte; chunks of one byte are never sent.
    """
    match = _RANGE.fullmatch(reply.headers.get("Range", "").strip())
    if match is None:
        return None
    return int(match[1]) + 1 if match[1] != "0" else 0


def _has(job: Job) -> bool:
    url = f"{job.base}/blobs/{job.descriptor.digest}"
    try:
        reply = job.wire.once("HEAD", url, scopes=job.scopes, ok=(200,), what=job.what)
    except TransferError:
        return False
    with closing(reply):
        length = reply.headers.get("Content-Length", "")
        return length in ("", str(job.descriptor.size))
