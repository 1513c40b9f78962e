"""One HTTP exchange with a registry, made safe: followed by hand, bounded, in our errors.

Redirects keep no secret beyond the registry's own origin; every body that is parsed is capped
first; temporary failures are tried again. The only module that knows requests' and urllib3's
exceptions.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from .. import strictjson
from ..errors import (
    Denied,
    NetworkError,
    RateLimited,
    RegistryError,
    TransferError,
    Unauthorized,
)
from .auth import MAX_TOKEN_REPLY, RegistryAuth, Scopes
from .network import AddressGuard, Timeouts, proxies_for
from .origin import Origin, follow
from .retry import RetryPolicy, Stop, retry_after_s

if TYPE_CHECKING:
    import requests

    from .limit import RateLimit

_log = logging.getLogger(__name__)

MAX_REDIRECTS = 10
MAX_ERROR = 64 << 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_READ = 256 << 10
_MAX_WARNINGS = 16
# An unread body up to this long is read to its end, so that the connection can be used again.
_DRAIN = 16 << 10


@dataclass(frozen=True, slots=True)
class Tools:
    """What every exchange of one registry shares."""

    session: requests.Session
    guard: AddressGuard
    auth: RegistryAuth
    environ: Mapping[str, str]
    timeouts: Timeouts = field(default_factory=Timeouts)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    stop: Stop = field(default_factory=Stop)
    limit: RateLimit | None = None
    on_warning: Callable[[str], None] = lambda text: None


class Reply:
    """An answer whose body is read as it comes, with a watch on its speed."""

    def __init__(self, response: requests.Response, tools: Tools, place: str) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.url: str = str(response.url)
        self._response = response
        self._tools = tools
        self._place = place
        self._window_s = 0.0
        self._window_bytes = 0

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes as they arrive, empty at the end; -1 reads one piece, not all.

        Raises:
            NetworkError: where the connection breaks or is too slow.
        """
        self._tools.stop.check()
        wanted = _READ if size < 0 else min(size, _READ)
        begun = time.monotonic()
        with network_errors(self._place):
            data: bytes = self._response.raw.read1(wanted, decode_content=False)
        if data:
            self._watch(time.monotonic() - begun, len(data))
            if self._tools.limit is not None:
                self._tools.limit.spend(len(data), self._tools.stop)
        return data

    def body(self, max_size: int) -> bytes:
        """The whole body.

        Raises:
            NetworkError: where it is longer than `max_size` bytes.
        """
        parts, left = [], max_size + 1
        while left > 0 and (data := self.read(left)):
            parts.append(data)
            left -= len(data)
        if left <= 0:
            raise NetworkError(f"{self._place} sends more than {max_size} bytes", place=self._place)
        return b"".join(parts)

    def challenges(self) -> list[str]:
        """Every value of WWW-Authenticate."""
        values: list[str] = self._response.raw.headers.getlist("WWW-Authenticate")
        return values

    def drain(self) -> None:
        """Read a short rest of the body, so that the connection serves the next request."""
        length = self.headers.get("Content-Length", "0")
        method = self._response.request.method
        if method == "HEAD" or (length.isdigit() and int(length[:12]) <= _DRAIN):
            while self.read(_DRAIN):
                pass

    @property
    def response(self) -> requests.Response:
        """What oras' own methods expect to get."""
        return self._response

    def close(self) -> None:
        """End the exchange; a body that was not read to its end costs the connection."""
        self._response.close()

    def _watch(self, seconds: float, count: int) -> None:
        timeouts = self._tools.timeouts
        self._window_s += seconds
        self._window_bytes += count
        if self._window_s < timeouts.speed_window_s:
            return
        if self._window_bytes < timeouts.min_speed * self._window_s:
            raise NetworkError(f"{self._place} sends too slowly", place=self._place)
        self._window_s, self._window_bytes = 0.0, 0


class Wire:
    """Exchanges with one registry. Thread-safe."""

    def __init__(self, origin: Origin, tools: Tools) -> None:
        self.origin = origin
        self.tools = tools
        self._warned: set[str] = set()

    @contextmanager
    def ask(
        self,
        method: str,
        url: str,
        *,
        scopes: Scopes,
        ok: tuple[int, ...],
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        what: str = "",
    ) -> Iterator[Reply]:
        """Ask, and ask again while the failure is temporary; the answer's status is in `ok`.

        Raises:
            RegistryError: for any other status.
            NetworkError: where nobody answers.
        """
        failures = 0
        while True:
            try:
                reply = self.once(
                    method, url, scopes=scopes, ok=ok, headers=headers, body=body, what=what
                )
                break
            except TransferError as error:
                failures += 1
                wait_s = self.tools.retry.wait_s(error, failures)
                if wait_s is None:
                    # Whoever called must not try all over again.
                    error.temporary = False
                    raise
                _log.info("%s; trying again in %.1f s", error.message, wait_s)
                self.tools.stop.wait(wait_s)
        try:
            yield reply
            reply.drain()
        finally:
            reply.close()

    def once(
        self,
        method: str,
        url: str,
        *,
        scopes: Scopes,
        ok: tuple[int, ...],
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        what: str = "",
    ) -> Reply:
        """Ask one time, with login and redirects; the caller closes the reply.

        A `body` that is a stream is sent once: where it would have to be sent again, a temporary
        error is raised and the caller begins anew.
        """
        sent: str | None = None
        for attempt in range(3):
            secret = self.tools.auth.header(scopes) if attempt == 0 else sent
            sent = secret
            reply = self._follow(method, url, headers or {}, body, secret)
            if reply.status != 401 or Origin.of(reply.url) != self.origin or attempt == 2:
                break
            try:
                challenges = reply.challenges()
                sent = self.tools.auth.answer(challenges, scopes, secret, self._ask_token)
            finally:
                reply.close()
            _rewind(body, self.origin.netloc)
        self._note_warnings(reply)
        if reply.status not in ok:
            try:
                self._fail(reply, what or f"{method} {Origin.of(url).netloc}")
            finally:
                reply.close()
        return reply

    def _fail(self, reply: Reply, what: str) -> NoReturn:
        try:
            raise_for(reply, what, self.origin.netloc)
        except RegistryError as error:
            if Origin.of(reply.url) != self.origin and reply.status in (400, 401, 403):
                # A signed storage URL that ran out: the registry gives a new one.
                error.temporary = True
            raise

    def _follow(
        self, method: str, url: str, headers: Mapping[str, str], body: Any, secret: str | None
    ) -> Reply:
        for _ in range(MAX_REDIRECTS + 1):
            reply = self._send(method, url, headers, body, secret)
            location = reply.headers.get("Location")
            if reply.status not in _REDIRECTS or location is None:
                return reply
            reply.close()
            if method not in ("GET", "HEAD"):
                raise NetworkError(f"{self.origin.netloc} redirects a {method}; not followed")
            url = follow(url, location)
        raise NetworkError(f"{self.origin.netloc} redirects more than {MAX_REDIRECTS} times")

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: Any, secret: str | None
    ) -> Reply:
        target = Origin.of(url)
        sent = {"Accept-Encoding": "identity", "User-Agent": "pannier", **headers}
        if secret is not None and target == self.origin:
            sent["Authorization"] = secret
        return self._request(method, url, sent, body)

    def _request(self, method: str, url: str, headers: Mapping[str, str], body: Any) -> Reply:
        tools, target = self.tools, Origin.of(url)
        proxies = proxies_for(url, tools.environ)
        if proxies:
            tools.guard.check_literal(target)
        read_s = tools.timeouts.idle_s if body is None else tools.timeouts.commit_s
        tools.stop.check()
        with network_errors(target.netloc):
            response = tools.session.request(
                method,
                url,
                headers=dict(headers),
                data=body,
                stream=True,
                allow_redirects=False,
                timeout=(tools.timeouts.connect_s, read_s),
                proxies=proxies,
                auth=_leave_alone,
            )
        return Reply(response, tools, target.netloc)

    def _ask_token(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[int, bytes]:
        for _ in range(3):
            reply = self._request(method, url, {"Accept-Encoding": "identity", **headers}, body)
            try:
                location = reply.headers.get("Location")
                if reply.status not in _REDIRECTS or location is None or method != "GET":
                    return reply.status, reply.body(MAX_TOKEN_REPLY)
                after = follow(url, location)
                if Origin.of(after) != Origin.of(url):
                    headers = {k: v for k, v in headers.items() if k != "Authorization"}
                url = after
            finally:
                reply.close()
        raise NetworkError(f"token server of {self.origin.netloc} redirects too often")

    def _note_warnings(self, reply: Reply) -> None:
        """distribution-spec v1.1.1, "Warnings": ``299 - "text"``, shown once per text."""
        header = reply.headers.get("Warning", "")[:1024]
        text = header.partition('"')[2].rpartition('"')[0]
        new = header.startswith("299 ") and text and text not in self._warned
        if new and len(self._warned) < _MAX_WARNINGS:
            self._warned.add(text)
            self.tools.on_warning(f"{self.origin.netloc}: {printable(text)}")


def raise_for(reply: Reply, what: str, place: str) -> NoReturn:
    """Turn an answer that is an error into ours."""
    codes, said = _read_error(reply)
    text = f"cannot {what}: registry says {said}" if said else f"cannot {what}: HTTP {reply.status}"
    kind: type[RegistryError] = {401: Unauthorized, 403: Denied, 429: RateLimited}.get(
        reply.status, RegistryError
    )
    hint = f"pannier login {place}" if reply.status in (401, 403) else None
    error = kind(text, status=reply.status, codes=codes, place=place, hint=hint)
    if isinstance(error, RateLimited):
        error.retry_after_s = retry_after_s(reply.headers.get("Retry-After"))
    raise error


def _read_error(reply: Reply) -> tuple[tuple[str, ...], str]:
    """Codes and text of an error body; registries also answer plain text or HTML."""
    try:
        value = strictjson.loads(reply.body(MAX_ERROR), max_size=MAX_ERROR)
        errors = [item for item in value["errors"] if isinstance(item, dict)][:4]
    except (ValueError, KeyError, TypeError, TransferError):
        return (), ""
    codes = tuple(printable(str(item.get("code", "")))[:40] for item in errors)
    texts = (
        ": ".join(filter(None, (str(item.get("code") or ""), str(item.get("message") or ""))))
        for item in errors
    )
    return codes, printable("; ".join(texts))[:300]


def printable(text: str) -> str:
    """Text of a stranger for a terminal: no control or formatting characters."""
    return "".join(c if c.isprintable() else " " for c in text)


@contextmanager
def network_errors(place: str) -> Iterator[None]:
    """Turn what requests and urllib3 raise into NetworkError.

    Raises:
        NetworkError: with the reason in people's words.
    """
    import http.client

    import requests
    import urllib3

    try:
        yield
    except requests.exceptions.SSLError as error:
        failed = NetworkError(
            f"TLS with {place} failed: {_reason(error)}",
            place=place,
            hint="give the registry's CA with --ca-file, or --plain-http if it has no TLS",
        )
        failed.temporary = False
        raise failed from error
    except (requests.exceptions.ReadTimeout, urllib3.exceptions.ReadTimeoutError) as error:
        raise NetworkError(f"{place} does not answer in time", place=place) from error
    except requests.exceptions.ConnectionError as error:
        raise NetworkError(f"cannot reach {place}: {_reason(error)}", place=place) from error
    except (
        requests.exceptions.RequestException,
        urllib3.exceptions.HTTPError,
        http.client.HTTPException,
        OSError,
        ValueError,
    ) as error:
        raise NetworkError(f"connection to {place} broke: {_reason(error)}", place=place) from error


def _reason(error: BaseException) -> str:
    """The innermost cause in one line, without addresses of Python objects."""
    import socket

    seen = error
    while (inner := _inner(seen)) is not None:
        seen = inner
    if isinstance(seen, socket.gaierror):
        return "the host name is unknown"
    if isinstance(seen, OSError) and seen.strerror:
        return seen.strerror
    return printable(str(seen).rpartition("object at 0x")[2].rpartition(">: ")[2])[:200]


def _inner(error: BaseException) -> BaseException | None:
    for value in (getattr(error, "reason", None), *error.args, error.__cause__):
        if isinstance(value, BaseException):
            return value
    return None


def _rewind(body: Any, place: str) -> None:
    if body is not None and not isinstance(body, bytes) and not body.rewind():
        raise NetworkError(f"{place} asked for a new login in mid-upload", place=place)


def _leave_alone(request: Any) -> Any:
    """An `auth` for requests that does nothing: it keeps netrc from being read."""
    return request
