"""Manifests by tag and digest: get, put, delete.

Implements distribution-spec v1.1.1, "Pulling manifests", "Pushing Manifests", "Pushing Manifests
with Subject" and "Deleting Manifests"/"Deleting Tags". Bytes are kept and served as they came.
"""

from __future__ import annotations

from collections.abc import Iterator

from flask import Response, request

from pannier.pkgmgr import mediatypes
from pannier.pkgmgr.descriptor import Descriptor
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.manifest import MAX_MANIFEST_SIZE, Index, Manifest, parse

from .blobs import CACHE_CONTROL
from .conditions import accepts, is_unchanged
from .contents import parse_digest
from .errors import Code, Problem
from .surface import Surface

_TYPES = mediatypes.MANIFEST_TYPES | mediatypes.INDEX_TYPES
# Tags that one push may set beside a digest; each is a write of index.json.
_MAX_TAGS = 16


def get(surface: Surface, name: str, last: str) -> Response:
    """GET and HEAD of a manifest."""
    descriptor, raw = _found(surface, name, last)
    return _answer(descriptor, raw, immutable=":" in last)


def put(surface: Surface, name: str, last: str) -> Response:
    """PUT of a manifest under a tag or its digest."""
    raw = _body()
    with surface.parsing:
        content = _parsed(raw)
    if ":" in last:
        digest = parse_digest(last)
        actual = Digest.of(raw, algorithm=digest.algorithm)
        if actual != digest:
            raise Problem(Code.DIGEST_INVALID, f"the manifest is {actual}, not {digest}")
        tags = tuple(dict.fromkeys(request.args.getlist("tag")))[:_MAX_TAGS]
    else:
        digest, tags = content.descriptor.digest, (last,)
    surface.source.put(name, content, digest=digest, tags=tags)
    surface.pushes.end(name)
    response = Response(status=201)
    response.headers["Location"] = f"{request.host_url}v2/{name}/manifests/{digest}"
    response.headers["Docker-Content-Digest"] = str(digest)
    if content.subject is not None:
        response.headers["OCI-Subject"] = str(content.subject.digest)
    if ":" in last and tags:
        response.headers.extend([("OCI-Tag", tag) for tag in tags])
    return response


def delete(surface: Surface, name: str, last: str) -> Response:
    """DELETE of a tag, or of a manifest by its digest."""
    surface.source.delete(name, last)
    return Response(status=202)


def _found(surface: Surface, name: str, last: str) -> tuple[Descriptor, bytes]:
    """What is stored, or for a client that cannot read that, what can be made of it."""
    accept = request.headers.get("Accept", "")
    try:
        descriptor, content = surface.source.manifest(name, last)
    except Problem:
        made = surface.presenter.find(name, parse_digest(last)) if ":" in last else None
        if made is None:
            raise
        return made
    # By digest there is only one answer. Proxies ask by it with fewer types than they relay.
    if ":" in last or accepts(accept, descriptor.media_type):
        return descriptor, content.raw
    if accepts(accept, mediatypes.DOCKER_MANIFEST):
        return surface.presenter.present(name, content)
    text = f"the manifest is {descriptor.media_type}, which the request does not accept"
    raise Problem(Code.MANIFEST_UNKNOWN, text)


def _answer(descriptor: Descriptor, raw: bytes, *, immutable: bool) -> Response:
    etag = f'"{descriptor.digest}"'
    unchanged = is_unchanged(request.headers.get, etag=etag)
    response = Response(b"" if unchanged else raw, status=304 if unchanged else 200)
    response.headers["Content-Type"] = descriptor.media_type
    response.headers["Docker-Content-Digest"] = str(descriptor.digest)
    response.headers["ETag"] = etag
    response.headers["Cache-Control"] = CACHE_CONTROL if immutable else "no-cache"
    response.headers["Vary"] = "Accept"
    return response


def _body() -> bytes:
    """The request's body, refused as soon as it is too long."""
    limit = MAX_MANIFEST_SIZE
    if (request.content_length or 0) <= limit:
        raw = b"".join(_pieces(limit))
        if len(raw) <= limit:
            return raw
    raise Problem(Code.SIZE_INVALID, f"a manifest may have {limit} bytes", 413)


def _pieces(limit: int) -> Iterator[bytes]:
    """What arrives of the body, up to the first byte behind the limit."""
    left = limit + 1
    while left and (data := request.stream.read(left)):
        left -= len(data)
        yield data


def _parsed(raw: bytes) -> Manifest | Index:
    """The manifest, whose media type must be the one that was announced.

    Real Ollama announces Docker's type whatever it sends, so from it the content's own type counts.
    """
    announced = request.mimetype or None
    content = parse(raw, media_type=announced)
    kind = content.descriptor.media_type
    is_ollama = request.headers.get("User-Agent", "").startswith("ollama")
    if announced is not None and kind != announced and not is_ollama:
        text = f"Content-Type is {announced}, the manifest's mediaType {kind}"
        raise Problem(Code.MANIFEST_INVALID, text)
    expected = mediatypes.INDEX_TYPES if isinstance(content, Index) else mediatypes.MANIFEST_TYPES
    if kind not in expected:
        raise Problem(Code.MANIFEST_INVALID, f"media type {kind[:100]!r} is not supported", 415)
    return content
