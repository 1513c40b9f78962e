"""Blobs by digest: whole, in ranges, and gone.

Implements distribution-spec v1.1.1, "Pulling blobs" and "Deleting Blobs". Files leave by sendfile
(`pannier.api.gateway.FileRange`). Every whole answer names itself in `Location`: real Ollama takes
the URL of its ranged requests from there and stops where it is missing.
"""

from __future__ import annotations

from flask import Response, request

from pannier.pkgmgr.digest import Digest

from .conditions import Span, Unsatisfiable, is_unchanged, requested_span
from .contents import parse_digest
from .errors import Code, Problem
from .surface import Surface

# Content behind a digest never changes.
CACHE_CONTROL = "public, max-age=31536000, immutable"


def get(surface: Surface, name: str, last: str) -> Response:
    """GET and HEAD of a blob."""
    digest = parse_digest(last)
    blob = surface.source.blob(name, digest)
    response = Response()
    _describe(response, digest)
    span = _span(response, blob.size, etag=f'"{digest}"')
    if response.status_code == 200:
        response.headers["Location"] = surface.auth.location(request.base_url, digest)
    if span is not None and request.method == "GET":
        body = blob.body(span)
        response.response, response.direct_passthrough = body, True
        response.call_on_close(body.close)
    return response


def delete(surface: Surface, name: str, last: str) -> Response:
    """DELETE of a blob that no manifest needs."""
    surface.source.delete_blob(name, parse_digest(last))
    return Response(status=202)


def _describe(response: Response, digest: Digest) -> None:
    response.headers["Content-Type"] = "application/octet-stream"
    response.headers["Docker-Content-Digest"] = str(digest)
    response.headers["ETag"] = f'"{digest}"'
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["Cache-Control"] = CACHE_CONTROL


def _span(response: Response, size: int, *, etag: str) -> Span | None:
    """What to send, with status and lengths set for it; None for no body at all."""
    if is_unchanged(request.headers.get, etag=etag):
        response.status_code = 304
        return None
    try:
        span = requested_span(request.headers.get, size=size, etag=etag)
    except Unsatisfiable:
        text = "the range lies behind the end of the blob"
        raise Problem(Code.SIZE_INVALID, text, 416, {"Content-Range": f"bytes */{size}"}) from None
    if span is None:
        span = Span(0, size)
    else:
        response.status_code = 206
        response.headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{size}"
    response.headers["Content-Length"] = str(span.length)
    return span
