"""The application: surfaces mounted on one Flask app, and what holds for every request.

`create_app` is a pure composition: no globals, no configuration from the environment.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from flask import Blueprint, Flask, Response, g, request
from flask.json.provider import DefaultJSONProvider
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from pannier.pkgmgr.errors import PannierError
from pannier.runtime.errors import DeadlinePassed

from . import anthropic, meta, ollama, openai
from .admission import Admission
from .connections import new_request_id
from .errors import Failure, failure_of
from .gateway import ClientGone
from .guard import Guard, cors_headers
from .service import Service
from .streaming import JSON
from .surface import Surface

log = logging.getLogger(__name__)


def create_app(
    service: Service,
    *,
    guard: Guard | None = None,
    admission: Admission | None = None,
    blueprints: Iterable[Blueprint] = (),
) -> Flask:
    """Build the application.

    Args:
        service: answers every call.
        guard: which hosts and origins are accepted; None accepts what is local.
        admission: how many requests may be in work; None takes the default.
        blueprints: further surfaces with their own error handlers.
    """
    app = Flask(__name__, static_folder=None)
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.json = _Json(app)
    _guard_requests(app, guard or Guard())
    _limit_requests(app, admission or Admission())
    surfaces = (ollama.surface(service), anthropic.surface(service), openai.surface(service))
    for surface in surfaces:
        app.register_blueprint(surface.blueprint)
    app.register_blueprint(meta.blueprint())
    for blueprint in blueprints:
        app.register_blueprint(blueprint)
    _answer_errors(app, surfaces)
    return app


class _Json(DefaultJSONProvider):
    """JSON as Ollama's server writes it."""

    sort_keys = False
    ensure_ascii = False
    mimetype = JSON


def _guard_requests(app: Flask, guard: Guard) -> None:
    @app.before_request
    def check() -> Response | None:
        g.request_id = new_request_id()
        g.arrived = time.monotonic()
        if guard.refuses(request.method, dict(request.headers)):
            return Response(status=403)
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            return Response(status=204)
        return None

    @app.after_request
    def mark(response: Response) -> Response:
        request_id = g.get("request_id", "")
        log.info(
            "request %s: %s %r: %d", request_id, request.method, request.path, response.status_code
        )
        response.headers["X-Request-Id"] = request_id
        response.headers["X-Content-Type-Options"] = "nosniff"
        origin = request.headers.get("Origin")
        if origin and guard.allows_origin(origin, request.host) and response.status_code != 403:
            response.headers.update(cors_headers(origin))
        return response


def _limit_requests(app: Flask, admission: Admission) -> None:
    @app.before_request
    def enter() -> None:
        # Everything else is answered in no time; the registry's uploads have limits of their own.
        if request.method == "POST" and request.path.startswith(("/api/", "/v1/")):
            g.leave = admission.enter()

    @app.after_request
    def leave_at_the_end(response: Response) -> Response:
        leave = g.pop("leave", None)
        if leave is not None:
            response.call_on_close(leave)
        return response


def _answer_errors(app: Flask, surfaces: tuple[Surface, ...]) -> None:
    def surface_of_request() -> Surface:
        for surface in surfaces[1:]:
            if request.path.startswith(surface.prefix):
                return surface
        return surfaces[0]

    @app.errorhandler(HTTPException)
    def refuse(error: HTTPException) -> Response:
        # Gin's texts, which clients of Ollama see on every path that it does not know.
        status = error.code or 500
        if status == 404:
            return _text("404 page not found", 404)
        if isinstance(error, MethodNotAllowed):
            allowed = ", ".join(sorted(error.valid_methods or ()))
            response = _text("405 method not allowed", 405)
            response.headers["Allow"] = allowed
            return response
        return surface_of_request().error(Failure(status, (error.description or error.name)))

    @app.errorhandler(Exception)
    def fail(error: Exception) -> Response:
        # The outermost frame of a request: what nobody caught is logged here, and nowhere else.
        failure = failure_of(error)
        # For a caller in this process, who wants the hint too (`pannier.api.client`).
        request.environ["pannier.error"] = error
        if failure.status >= 500:
            unexpected = None if isinstance(error, PannierError) else error
            log.error("request %s failed: %s", g.get("request_id"), error, exc_info=unexpected)
        if isinstance(error, ClientGone):
            return Response(status=failure.status)
        response = surface_of_request().error(failure)
        if failure.retry_after_s is not None:
            response.headers["Retry-After"] = str(failure.retry_after_s)
        if isinstance(error, DeadlinePassed):
            # OpenAI's and Anthropic's SDKs would ask again, and nobody waits for it any more.
            response.headers["X-Should-Retry"] = "false"
        return response


def _text(text: str, status: int) -> Response:
    return Response(text, status, content_type="text/plain")
