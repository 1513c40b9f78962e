"""Blobs coming in: one request, two, chunks, or a mount from another repository.

Implements distribution-spec v1.1.1, "Pushing blobs". Locations are absolute because real Ollama
cannot use relative ones.
"""

from __future__ import annotations

from flask import Response, request
from werkzeug.exceptions import ClientDisconnected

from pannier.pkgmgr.descriptor import Descriptor
from pannier.pkgmgr.digest import Digest

from .conditions import uploaded_span
from .contents import parse_digest
from .errors import Code, Problem
from .surface import Surface
from .uploads import Session, TakenOver


def start(surface: Surface, name: str, last: str) -> Response:
    """POST: mount a blob, take one in whole, or open a session."""
    surface.pushes.note(name)
    mounted = request.args.get("mount")
    if mounted is not None and _can_mount(surface, parse_digest(mounted)):
        return _created(name, parse_digest(mounted))
    wanted = request.args.get("digest")
    digest = parse_digest(wanted) if wanted is not None and mounted is None else None
    algorithm = digest.algorithm if digest else request.args.get("digest-algorithm", "sha256")
    if algorithm not in ("sha256", "sha512"):
        raise Problem(Code.DIGEST_INVALID, "digest algorithms here are sha256 and sha512")
    session = surface.uploads.start(name, algorithm=algorithm)
    if digest is None:
        return _accepted(session)
    return _complete(surface, session, digest, discard=True)


def status(surface: Surface, name: str, last: str) -> Response:
    """GET: how far a session is."""
    response = _accepted(surface.uploads.find(name, last))
    response.status_code = 204
    return response


def append(surface: Surface, name: str, last: str) -> Response:
    """PATCH: the next chunk, or a stream of any length."""
    session = surface.uploads.find(name, last)
    _take_body(surface, session)
    return _accepted(session)


def finish(surface: Surface, name: str, last: str) -> Response:
    """PUT: the last chunk or the whole blob or nothing, and the digest of it all."""
    session = surface.uploads.find(name, last)
    surface.pushes.note(name)
    wanted = request.args.get("digest")
    if wanted is None:
        raise Problem(Code.DIGEST_INVALID, "the digest parameter is missing")
    return _complete(surface, session, parse_digest(wanted), discard=False)


def cancel(surface: Surface, name: str, last: str) -> Response:
    """DELETE: forget a session."""
    surface.uploads.cancel(surface.uploads.find(name, last))
    return Response(status=204)


def _complete(surface: Surface, session: Session, digest: Digest, *, discard: bool) -> Response:
    """Take the body in and publish the blob; `discard` ends a session that nobody can name."""
    try:
        _take_body(surface, session)
    except BaseException:
        if discard:
            surface.uploads.cancel(session)
        raise
    surface.uploads.finish(session, digest)
    return _created(session.repository, digest)


def _take_body(surface: Surface, session: Session) -> None:
    """Append the request's body where it belongs.

    Raises:
        Problem: 416 where it does not begin at the offset, SIZE_INVALID, BLOB_UPLOAD_INVALID.
    """
    begun = session.offset
    expected = _expected_length(session)
    if request.content_length:
        surface.uploads.require_room(session, request.content_length)
    try:
        surface.uploads.append(session, request.stream)
    except TakenOver:
        raise Problem(
            Code.BLOB_UPLOAD_INVALID, "a later request goes on with this upload"
        ) from None
    except (ClientDisconnected, ConnectionError, TimeoutError):
        raise Problem(Code.BLOB_UPLOAD_INVALID, "the connection ended within the body") from None
    if expected is not None and session.offset - begun != expected:
        raise Problem(Code.SIZE_INVALID, f"the body is not the {expected} bytes of its range")


def _expected_length(session: Session) -> int | None:
    try:
        span = uploaded_span(request.headers.get("Content-Range"))
    except ValueError as error:
        raise Problem(Code.BLOB_UPLOAD_INVALID, str(error)) from error
    if span is None:
        return None
    if span.start != session.offset:
        text = f"the next byte is {session.offset}, not {span.start}"
        raise Problem(Code.BLOB_UPLOAD_INVALID, text, 416, _session_headers(session))
    if request.content_length is not None and request.content_length != span.length:
        text = f"Content-Length {request.content_length} is not the {span.length} of Content-Range"
        raise Problem(Code.SIZE_INVALID, text)
    return span.length


def _can_mount(surface: Surface, digest: Digest) -> bool:
    """Whether a blob is here; `from` may name anything, real Ollama sends file names in it."""
    path = surface.store.path(digest)
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return False
    # Asking by descriptor keeps the blob from being collected before the manifest comes.
    return surface.store.exists(Descriptor("", digest, size))


def _accepted(session: Session) -> Response:
    return Response(status=202, headers=_session_headers(session))


def _session_headers(session: Session) -> dict[str, str]:
    location = f"{request.host_url}v2/{session.repository}/blobs/uploads/{session.id}"
    return {
        "Location": location,
        # What distribution says before the first byte, too: clients read 0-0 as nothing.
        "Range": f"0-{max(0, session.offset - 1)}",
        "Docker-Upload-UUID": session.id,
    }


def _created(name: str, digest: Digest) -> Response:
    headers = {
        "Location": f"{request.host_url}v2/{name}/blobs/{digest}",
        "Docker-Content-Digest": str(digest),
    }
    return Response(status=201, headers=headers)
