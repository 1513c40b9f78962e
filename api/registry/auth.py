"""Who asks, and whether they may: challenges, the token endpoint, keys on every request.

Implements distribution's token protocol (docs/spec/auth/token.md) as clients use it, and takes the
signed token requests of real Ollama (its `auth/auth.go`): the header is
``<base64 key>:<base64 ed25519 signature>`` over ``GET,<URL>,<base64 of hex SHA-256 of nothing>``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime

from flask import Response, jsonify, request

from pannier.pkgmgr.access import PREFIX, PULL, PUSH, Key, Keyring, decode_public
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import InvalidDigest

from .errors import Code, Problem
from .names import fold_ollama_name
from .tokens import LIFETIME_S, Tokens

# How far a client's clock may be off, and how long a signature is remembered against replay.
CLOCK_SKEW_S = 300
_MAX_SIGNATURES = 10_000
_EMPTY = base64.b64encode(hashlib.sha256(b"").hexdigest().encode()).decode()
_MAX_SCOPES = 64


class Auth:
    """The door of one registry. Thread-safe.

    Args:
        keyring: the keys that open it; as long as there is no key file, it stands open.
        clock: seconds since 1970.
    """

    def __init__(self, keyring: Keyring, *, clock: Callable[[], float] = time.time) -> None:
        self._keyring = keyring
        self._clock = clock
        self._tokens = Tokens(secrets.token_bytes(32), clock=clock)
        self._signatures: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def is_on(self) -> bool:
        """Whether anybody is asked for anything."""
        return self._keyring.is_required

    def check(self, name: str, *, digest: str | None = None) -> None:
        """Let the request at hand pass.

        Args:
            name: the repository; empty for what belongs to none.
            digest: of the blob that is asked for, where it is one.

        Raises:
            Problem: UNAUTHORIZED with a challenge, or DENIED for a key that may not.
        """
        if not self.is_on or self._has_grant(digest):
            return
        action = "pull" if request.method in ("GET", "HEAD") else "push"
        kind, _, credential = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() == "bearer" and not credential.startswith(PREFIX):
            granted = self._tokens.read(credential.strip())
            key = self._keyring.keys().get(granted.key_id) if granted else None
            if key is None or granted is None:
                raise self._challenge(name, action)
            if name and not granted.allows(name, action):
                # Another scope may help, unless the key itself does not reach that far.
                raise self._refusal(key, action) or self._challenge(name, action)
            return
        key = self._key_of(kind, credential.strip())
        if key is None:
            raise self._challenge(name, action)
        if refusal := self._refusal(key, action):
            raise refusal

    def issue(self) -> Response:
        """GET and POST of the token endpoint: what was asked for and the key may have."""
        key = self._asking_key()
        if key is None:
            raise Problem(Code.UNAUTHORIZED, "no such key")
        texts = [*request.args.getlist("scope"), *request.form.getlist("scope")]
        scopes = [scope for text in texts for scope in text.split()][:_MAX_SCOPES]
        access = [(name, actions) for scope in scopes for name, actions in _granted(key, scope)]
        token = self._tokens.issue(key.id, access)
        return jsonify(
            token=token,
            access_token=token,
            expires_in=LIFETIME_S,
            issued_at=datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="seconds"),
        )

    def location(self, url: str, digest: Digest) -> str:
        """A blob's own URL, which works without credentials where the asker had some."""
        return f"{url}?grant={self._tokens.grant(digest)}" if self.is_on else url

    def _asking_key(self) -> Key | None:
        header = request.headers.get("Authorization", "")
        kind, _, credential = header.partition(" ")
        if credential:
            return self._key_of(kind, credential.strip())
        if ":" in header:
            return self._signing_key(header)
        return self._keyring.by_secret(request.form.get("password", ""))

    def _key_of(self, kind: str, credential: str) -> Key | None:
        """The key in a Bearer or Basic header; the user name of the latter says nothing."""
        if kind.lower() == "bearer":
            return self._keyring.by_secret(credential)
        if kind.lower() != "basic":
            return None
        try:
            text = base64.b64decode(credential, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
        return self._keyring.by_secret(text.partition(":")[2])

    def _signing_key(self, header: str) -> Key | None:
        """The Ollama key that signed this request, now and for the first time."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        blob, _, signature = header.partition(":")
        try:
            public = decode_public(base64.b64decode(blob, validate=True))
            signed = base64.b64decode(signature, validate=True)
            skew_s = abs(int(request.args.get("ts", "0")) - self._clock())
        except (binascii.Error, ValueError):
            return None
        if public is None or skew_s > CLOCK_SKEW_S:
            return None
        key = self._keyring.by_public(base64.b64encode(public).decode())
        if key is None:
            return None
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signed, _signed_text())
        except InvalidSignature:
            return None
        return key if self._is_first(signature) else None

    def _is_first(self, signature: str) -> bool:
        now = self._clock()
        with self._lock:
            while self._signatures and (
                len(self._signatures) > _MAX_SIGNATURES
                or next(iter(self._signatures.values())) < now - 2 * CLOCK_SKEW_S
            ):
                self._signatures.popitem(last=False)
            if signature in self._signatures:
                return False
            self._signatures[signature] = now
        return True

    def _has_grant(self, digest: str | None) -> bool:
        value = request.args.get("grant")
        if value is None or digest is None or request.method not in ("GET", "HEAD"):
            return False
        try:
            return self._tokens.is_granted(Digest.parse(digest), value)
        except InvalidDigest:
            return False

    def _refusal(self, key: Key, action: str) -> Problem | None:
        if (PULL if action == "pull" else PUSH) in key.scopes:
            return None
        return Problem(Code.DENIED, f"key {key.id} may not {action}")

    def _challenge(self, name: str, action: str) -> Problem:
        """Every value quoted and the realm on this very host: real Ollama insists on both."""
        actions = "pull" if action == "pull" else "pull,push"
        scope = f',scope="repository:{name}:{actions}"' if name else ""
        header = f'Bearer realm="{request.host_url}v2/token",service="pannier"{scope}'
        return Problem(
            Code.UNAUTHORIZED, "a key is needed here", headers={"WWW-Authenticate": header}
        )


def _signed_text() -> bytes:
    """What Ollama signed: the URL as it wrote it."""
    query = request.query_string.decode("ascii", "replace")
    return f"GET,{request.host_url}v2/token?{query},{_EMPTY}".encode()


def _granted(key: Key, scope: str) -> list[tuple[str, frozenset[str]]]:
    """The part of ``repository:NAME:ACTIONS`` that a key may have."""
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    if kind != "repository" or not name:
        return []
    allowed = {"pull"} if PULL in key.scopes else set()
    allowed |= {"push"} if PUSH in key.scopes else set()
    wanted = set(actions.replace("*", "pull,push").replace("delete", "push").split(","))
    return [(fold_ollama_name(name), frozenset(allowed & wanted))]
