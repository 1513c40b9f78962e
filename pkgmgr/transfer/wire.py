"""One HTTP exchange with a registry, made safe: followed by hand, bounded, in our errors.

Redirects keep no secret beyond the registry's own origin; every body that is parsed is capped
first; temporary failures are tried again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from ..errors import NetworkError, RegistryError, TransferError
from .auth import MAX_TOKEN_REPLY, Scopes
from .neterrors import network_errors, printable
from .network import proxies_for
from .origin import Origin, follow
from .reply import Reply, Tools, raise_for

_log = logging.getLogger(__name__)

MAX_REDIRECTS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_WARNINGS = 16
_AGENT = "pannier"
# Ollama's registry answers 412 for models that are newer than the Ollama that the agent names.
_AGENTS = {"registry.ollama.ai": "ollama/0.33.0 (amd64 linux) pannier"}


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
        agent = _AGENTS.get(target.host, _AGENT)
        sent = {"Accept-Encoding": "identity", "User-Agent": agent, **headers}
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


def _rewind(body: Any, place: str) -> None:
    if body is not None and not isinstance(body, bytes) and not body.rewind():
        raise NetworkError(f"{place} asked for a new login in mid-upload", place=place)


def _leave_alone(request: Any) -> Any:
    """An `auth` for requests that does nothing: it keeps netrc from being read."""
    return request
