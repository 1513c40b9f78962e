"""The registry under ``/v2/``: which handler answers which URL, and how refusals look.

Implements distribution-spec v1.1.1, "Endpoints" (end-1 to end-13), with distribution's `_catalog`
beside it. Repository names contain slashes, so one pure function reads the path, from its end.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass

from flask import Blueprint, Response, jsonify, request
from werkzeug.routing import BaseConverter

from pannier.pkgmgr.errors import PannierError
from pannier.pkgmgr.store.store import Store

from . import blobs, listing, manifests, pushing
from .errors import Code, Problem, translate
from .names import fold_ollama_name
from .options import Options
from .surface import Surface

log = logging.getLogger(__name__)

_PLAIN = {"": "base", "_catalog": "catalog", "token": "token"}
_PATHS = (
    ("uploads", re.compile(r"(.+)/blobs/uploads/?")),
    ("upload", re.compile(r"(.+)/blobs/uploads/([^/]+)")),
    ("blob", re.compile(r"(.+)/blobs/([^/]+)")),
    ("manifest", re.compile(r"(.+)/manifests/([^/]+)")),
    ("tags", re.compile(r"(.+)/tags/list")),
    ("referrers", re.compile(r"(.+)/referrers/([^/]+)")),
)


class _Rest(BaseConverter):
    """All that is left of a path, whatever it holds, so that every refusal is in our form."""

    regex = r"[\s\S]+"
    part_isolating = False


_METHODS = ["GET", "HEAD", "POST", "PATCH", "PUT", "DELETE"]
_WRITING = frozenset({"POST", "PATCH", "PUT", "DELETE"})

# The token endpoint reads a form; every other body is read piece by piece.
_MAX_FORM = 64 << 10

# A handler gets the surface, the repository and the last part of the path.
Handler = Callable[[Surface, str, str], Response]

_HANDLERS: dict[str, dict[str, Handler]] = {
    "blob": {"GET": blobs.get, "HEAD": blobs.get, "DELETE": blobs.delete},
    "uploads": {"POST": pushing.start},
    "upload": {
        "GET": pushing.status,
        "HEAD": pushing.status,
        "PATCH": pushing.append,
        "PUT": pushing.finish,
        "DELETE": pushing.cancel,
    },
    "manifest": {
        "GET": manifests.get,
        "HEAD": manifests.get,
        "PUT": manifests.put,
        "DELETE": manifests.delete,
    },
    "tags": {"GET": listing.tags, "HEAD": listing.tags},
    "referrers": {"GET": listing.referrers, "HEAD": listing.referrers},
    "catalog": {"GET": listing.catalog, "HEAD": listing.catalog},
    "base": {"GET": listing.base, "HEAD": listing.base},
    "token": {"GET": listing.token, "POST": listing.token},
}


@dataclass(frozen=True, slots=True)
class Place:
    """What a URL below ``/v2/`` names: a kind of resource, a repository, and the last part."""

    kind: str
    name: str = ""
    last: str = ""


def parse_path(path: str) -> Place | None:
    """Read what follows ``/v2/``; None where it names nothing that a registry has.

    >>> parse_path("team/smol/manifests/latest")
    Place(kind='manifest', name='team/smol', last='latest')
    """
    if path in _PLAIN:
        return Place(_PLAIN[path])
    for kind, pattern in _PATHS:
        if match := pattern.fullmatch(path):
            name, *last = match.groups()
            return Place(kind, name, *last)
    return None


def registry_blueprint(store: Store, *, options: Options | None = None) -> Blueprint:
    """The registry over a store, to be mounted without a prefix."""
    return blueprint_of(Surface(store, options or Options()))


def blueprint_of(surface: Surface) -> Blueprint:
    """The routes of a surface; whoever made the surface closes it."""
    blueprint = Blueprint("registry", __name__)
    blueprint.record_once(lambda state: state.app.url_map.converters.update(rest=_Rest))

    def answer(path: str = "") -> Response:
        request.max_content_length = _MAX_FORM if path == "token" else None
        try:
            response = _dispatch(surface, path)
        except Problem as problem:
            response = _refusal(problem)
        except PannierError as error:
            response = _refusal(translate(error))
        except ConnectionError:
            raise
        except OSError:
            log.exception("%s %s", request.method, request.path)
            response = _refusal(Problem(Code.UNSUPPORTED, "the store cannot do this", 500))
        response.headers["Docker-Distribution-Api-Version"] = "registry/2.0"
        return response

    for rule in ("/v2", "/v2/", "/v2/<rest:path>"):
        blueprint.add_url_rule(
            rule,
            view_func=answer,
            endpoint=f"v2-{rule.count('/')}-{len(rule)}",
            methods=_METHODS,
            strict_slashes=True,
            merge_slashes=False,
            provide_automatic_options=False,
        )
    return blueprint


def _dispatch(surface: Surface, path: str) -> Response:
    place = parse_path(path)
    if place is None:
        raise Problem(Code.NAME_UNKNOWN, "no such resource in a registry")
    handlers = _HANDLERS[place.kind]
    handler = handlers.get(request.method)
    if handler is None:
        allowed = {"Allow": ", ".join(sorted(handlers))}
        raise Problem(Code.UNSUPPORTED, f"{request.method} is not possible here", headers=allowed)
    name = place.name
    if request.headers.get("User-Agent", "").startswith("ollama"):
        name = fold_ollama_name(name)
    if name:
        surface.options.home.reference(name)
    if place.kind != "token":
        surface.auth.check(name, digest=place.last if place.kind == "blob" else None)
        if surface.options.read_only and request.method in _WRITING:
            raise Problem(Code.UNSUPPORTED, "this registry is read-only")
    return handler(surface, name, place.last)


def _refusal(problem: Problem) -> Response:
    response = jsonify(problem.body)
    response.status_code = problem.http_status
    response.headers.update(problem.headers)
    return response
