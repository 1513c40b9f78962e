"""What there is: the base route, tags, repositories and referrers, page by page.

Implements distribution-spec v1.1.1, "Determining Support", "Listing Tags" and "Listing Referrers",
and distribution's `_catalog` with the same parameters.
"""

from __future__ import annotations

import json
from urllib.parse import urlencode

from flask import Response, jsonify, request

from pannier.pkgmgr import mediatypes

from .contents import lexical_key, parse_digest
from .errors import Code, Problem
from .surface import Surface

# Most items of one page; a client that asks for none gets this many, too.
_MAX_ITEMS = 10_000
# Most bytes of one page of referrers, well below what clients take as a manifest (4 MiB).
_MAX_PAGE_SIZE = 2 << 20


def base(surface: Surface, name: str, last: str) -> Response:
    """GET /v2/: yes, this is a registry."""
    return jsonify({})


def token(surface: Surface, name: str, last: str) -> Response:
    """GET and POST of a token, as challenges name this place."""
    return surface.auth.issue()


def tags(surface: Surface, name: str, last: str) -> Response:
    """GET of a repository's tags."""
    items, link = _page(surface.source.tags(name), f"/v2/{name}/tags/list")
    return _listed({"name": name, "tags": items}, link)


def catalog(surface: Surface, name: str, last: str) -> Response:
    """GET of all repositories."""
    items, link = _page(surface.source.repositories(), "/v2/_catalog")
    return _listed({"repositories": items}, link)


def referrers(surface: Surface, name: str, last: str) -> Response:
    """GET of the manifests whose subject is a digest; an empty index where there are none."""
    subject = parse_digest(last)
    wanted = request.args.get("artifactType")
    after = request.args.get("last", "")
    page: list[dict[str, object]] = []
    size, link = 0, None
    for descriptor in surface.source.referrers(name, subject):
        if str(descriptor.digest) <= after or wanted not in (None, descriptor.artifact_type):
            continue
        item = descriptor.to_json()
        size += len(json.dumps(item))
        if page and size > _MAX_PAGE_SIZE:
            query = {"last": str(page[-1]["digest"])} | ({"artifactType": wanted} if wanted else {})
            link = f"/v2/{name}/referrers/{subject}?{urlencode(query)}"
            break
        page.append(item)
    value = {"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": page}
    response = _listed(value, link)
    response.headers["Content-Type"] = mediatypes.OCI_INDEX
    if wanted is not None:
        response.headers["OCI-Filters-Applied"] = "artifactType"
    return response


def _page(items: list[str], path: str) -> tuple[list[str], str | None]:
    """The items that `n` and `last` ask for, and the URL of those behind them."""
    count = _count()
    after = request.args.get("last")
    begin = lexical_key(after or "")
    left = items if after is None else [item for item in items if lexical_key(item) > begin]
    page = left[:count]
    if len(left) <= count or not page:
        return page, None
    return page, f"{path}?{urlencode({'n': count, 'last': page[-1]})}"


def _count() -> int:
    text = request.args.get("n")
    if text is None:
        return _MAX_ITEMS
    if not (text.isascii() and text.isdigit()):
        raise Problem(Code.UNSUPPORTED, "n is not a number", 400)
    return min(int(text[:9]), _MAX_ITEMS)


def _listed(value: dict[str, object], link: str | None) -> Response:
    response = Response(json.dumps(value), mimetype="application/json")
    if link is not None:
        response.headers["Link"] = f'<{link}>; rel="next"'
    return response
