"""Answering a registry's challenges: Basic, and Bearer tokens by GET or OAuth2 POST.

Implements distribution's docs/spec/auth (token.md, oauth.md). A credential goes to the registry's
own origin and to the token server that the user or a table of well-known registries names, and to
nobody else. Tokens are kept per registry, realm, service and set of scopes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode

import oras.auth.base

from .. import strictjson
from ..errors import NetworkError, RegistryError, Unauthorized
from .challenge import Challenge, parse_challenges
from .credentials import Credential
from .origin import Origin, follow

MAX_TOKEN_REPLY = 256 << 10
_MAX_TOKEN = 64 << 10
# distribution, docs/spec/auth/token.md: what holds where expires_in is absent; and its floor.
_DEFAULT_LIFE_S = 60.0
_MAX_LIFE_S = 24 * 3600.0
_CLIENT_ID = "pannier"
# How a token server says that it has no GET, or no POST (GHCR 405, older Google ones 404).
_NO_SUCH_METHOD = (404, 405)
# Token servers of public registries that are on another host than their registry.
KNOWN_TOKEN_HOSTS: Mapping[str, str] = {
    "registry-1.docker.io": "auth.docker.io",
    "registry.gitlab.com": "gitlab.com",
}

Scopes = frozenset[str]


class Asker(Protocol):
    """What the token exchange needs of the wire: one bounded request, no redirects followed."""

    def __call__(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, /
    ) -> tuple[int, bytes]:
        """Status and body, at most `MAX_TOKEN_REPLY` bytes."""


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    expires: float


@dataclass(frozen=True, slots=True)
class _Request:
    """What is asked of a token server, in the two ways that there are."""

    realm: str
    service: str
    scopes: tuple[str, ...]
    ask: Asker

    def get(self, credential: Credential | None) -> tuple[int, bytes]:
        """token.md: a query, and Basic where there is a credential."""
        query = [("service", self.service)] if self.service else []
        query += [("scope", scope) for scope in self.scopes]
        if credential is not None and credential.username:
            query.append(("account", credential.username))
        url = self.realm + ("&" if "?" in self.realm else "?") + urlencode(query)
        headers = {"Authorization": credential.basic} if credential is not None else {}
        return self.ask("GET", url, headers, None)

    def post(self, **grant: str) -> tuple[int, bytes]:
        """oauth.md: a form that holds the grant and its secrets."""
        scope = " ".join(self.scopes)
        form = {"service": self.service, "client_id": _CLIENT_ID, "scope": scope, **grant}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.ask("POST", self.realm, headers, urlencode(form).encode())


class RegistryAuth(oras.auth.base.AuthBackend):  # type: ignore[misc]  # oras is untyped
    """The credentials and tokens of one registry. Thread-safe."""

    def __init__(
        self,
        origin: Origin,
        credential: Callable[[], Credential | None],
        *,
        token_host: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Bind to an origin.

        Args:
            origin: of the registry; secrets are sent nowhere else.
            credential: looked up at the first challenge, once.
            token_host: host (and port) of a token server that the user named.
            clock: seconds that never go back.
        """
        super().__init__()
        self._origin = origin
        self._find = credential
        self._token_host = token_host or KNOWN_TOKEN_HOSTS.get(origin.host)
        self._clock = clock
        self._lock = threading.RLock()
        self._credential: Credential | None = None
        self._looked = False
        self._basic = False
        self._challenge: Challenge | None = None
        self._tokens: dict[tuple[str, str, Scopes], _Token] = {}
        self._refused = False

    def get_auth_header(self) -> dict[str, str]:
        """For callers of the oras API: a header by what is known so far."""
        value = self.header(frozenset())
        return {"Authorization": value} if value else {}

    def header(self, scopes: Scopes) -> str | None:
        """What to send to the registry before it asks; None where nothing is known yet."""
        with self._lock:
            if self._basic and self._credential is not None:
                return self._credential.basic
            if self._challenge is None:
                return None
            token = self._tokens.get(self._key(self._challenge, scopes))
            if token is None or token.expires <= self._clock():
                return None
            return f"Bearer {token.value}"

    def answer(self, headers: list[str], scopes: Scopes, sent: str | None, ask: Asker) -> str:
        """The Authorization header for a request that was answered with 401.

        Args:
            headers: the values of WWW-Authenticate.
            scopes: what the request needs.
            sent: the Authorization header that was refused, None where none was sent.
            ask: makes the request to the token server.

        Raises:
            Unauthorized: where there is no way in.
            NetworkError: where the token server cannot be asked, or may not be.
        """
        challenges = [item for header in headers[:8] for item in parse_challenges(header)]
        with self._lock:
            bearer = _first(challenges, "bearer")
            if bearer is not None and bearer.params.get("realm"):
                return self._bearer(bearer, scopes, sent, ask)
            credential = self._look_up()
            if _first(challenges, "basic") is None:
                raise self._unauthorized("asks for a login that is neither Basic nor Bearer")
            if credential is None:
                raise self._unauthorized("asks for a login")
            if sent == credential.basic or not credential.username:
                raise self._unauthorized("refused the user name and password")
            self._basic = True
            return credential.basic

    def _bearer(self, challenge: Challenge, scopes: Scopes, sent: str | None, ask: Asker) -> str:
        credential = self._look_up()
        if credential is not None and credential.registry_token:
            value = f"Bearer {credential.registry_token}"
            if sent == value:
                raise self._unauthorized("refused the registry token")
            return value
        wanted = scopes | frozenset(challenge.params.get("scope", "").split())
        key = self._key(challenge, scopes)
        known = self._tokens.get(key)
        if known and sent != f"Bearer {known.value}" and known.expires > self._clock():
            # Another thread fetched it meanwhile.
            return f"Bearer {known.value}"
        token = self._fetch(challenge, wanted, credential, ask)
        self._challenge = challenge
        self._tokens[key] = token
        return f"Bearer {token.value}"

    def _fetch(
        self, challenge: Challenge, scopes: Scopes, credential: Credential | None, ask: Asker
    ) -> _Token:
        realm = follow(str(self._origin), challenge.params["realm"])
        service = challenge.params.get("service", "")
        withheld = credential is not None and not self._may_see_secrets(Origin.of(realm))
        if withheld:
            credential = None
        if self._refused and credential is not None:
            raise self._unauthorized(_refusal(credential))
        status, body = self._exchange(realm, service, scopes, credential, ask)
        if status in (400, 401, 403):
            if withheld:
                host = Origin.of(realm).netloc
                raise self._unauthorized(
                    f"sends logins to {host}, which you did not name",
                    hint=f'set token_host = "{host}" for this registry in settings.toml',
                )
            self._refused = credential is not None
            raise self._unauthorized(_refusal(credential))
        if status != 200:
            raise RegistryError(
                f"token server of {self._origin.netloc} answered {status}",
                status=status,
                place=self._origin.netloc,
            )
        return self._read(body)

    def _exchange(
        self,
        realm: str,
        service: str,
        scopes: Scopes,
        credential: Credential | None,
        ask: Asker,
    ) -> tuple[int, bytes]:
        """Ask for a token the way the credential is for, then the other way the server may know."""
        request = _Request(realm, service, tuple(sorted(scopes)), ask)
        if credential is not None and credential.identity_token:
            token = credential.identity_token
            status, body = request.post(grant_type="refresh_token", refresh_token=token)
            if status not in _NO_SUCH_METHOD:
                return status, body
            # As docker-credential-helpers call the user of an identity token.
            status, body = request.get(Credential(credential.username or "<token>", token))
            if status in (400, 401, 403, *_NO_SUCH_METHOD):
                self._refused = True
                raise self._unauthorized("takes no identity tokens")
            return status, body
        status, body = request.get(credential)
        if credential is not None and credential.username and _lacks_get(status, body):
            status, body = request.post(
                grant_type="password", username=credential.username, password=credential.password
            )
        return status, body

    def _read(self, body: bytes) -> _Token:
        try:
            value = strictjson.loads(body, max_size=MAX_TOKEN_REPLY)
            token = value.get("token") or value.get("access_token")
            life_s = _life(value.get("expires_in"))
        except (ValueError, AttributeError) as error:
            raise NetworkError(
                f"token server of {self._origin.netloc} gave no valid JSON"
            ) from error
        if not isinstance(token, str) or not 0 < len(token) <= _MAX_TOKEN or not _printable(token):
            raise NetworkError(f"token server of {self._origin.netloc} gave no usable token")
        return _Token(token, self._clock() + life_s)

    def _look_up(self) -> Credential | None:
        if not self._looked:
            self._credential, self._looked = self._find(), True
        return self._credential

    def _may_see_secrets(self, realm: Origin) -> bool:
        if realm == self._origin:
            return True
        return self._token_host is not None and realm.netloc == self._token_host.lower()

    def _key(self, challenge: Challenge, scopes: Scopes) -> tuple[str, str, Scopes]:
        return challenge.params.get("realm", ""), challenge.params.get("service", ""), scopes

    def _unauthorized(self, reason: str, *, hint: str | None = None) -> Unauthorized:
        place = self._origin.netloc
        return Unauthorized(
            f"registry {place} {reason}",
            status=401,
            place=place,
            hint=hint or f"pannier login {place}",
        )


def _first(challenges: list[Challenge], scheme: str) -> Challenge | None:
    return next((item for item in challenges if item.scheme == scheme), None)


def _refusal(credential: Credential | None) -> str:
    if credential is None:
        return "asks for a login"
    kind = "identity token" if credential.identity_token else "user name and password"
    return f"refused the {kind}"


def _lacks_get(status: int, body: bytes) -> bool:
    """Whether a token server that was asked by GET is likely to know POST only."""
    return status in _NO_SUCH_METHOD or (status == 400 and b"unsupported" in body.lower())


def _life(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
        return _DEFAULT_LIFE_S
    # A tenth early, so that a token does not expire on the way.
    return min(float(value), _MAX_LIFE_S) * 0.9


def _printable(token: str) -> bool:
    return token.isascii() and token.isprintable() and " " not in token
