"""Registry tokens: what a key was granted, signed, for a few minutes. Pure but for the clock.

A token is two base64url parts, a JSON object and its HMAC-SHA-256, after RFC 7515's compact form
without the header that nobody needs who verifies only its own. The secret lives as long as the
process, so a restart ends all tokens; clients fetch new ones.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pannier.pkgmgr.digest import Digest

# skopeo and docker ask for a new token when this is over; pulls of one blob may take longer.
LIFETIME_S = 300
# Real Ollama fetches ranges without credentials from the URL that it was given: good for a day.
GRANT_LIFETIME_S = 24 * 3600
_MAX_TOKEN = 64 << 10


@dataclass(frozen=True, slots=True)
class Granted:
    """What a token allows: actions by repository. `key_id` is whose it is."""

    key_id: str
    access: dict[str, frozenset[str]]

    def allows(self, name: str, action: str) -> bool:
        """Whether `pull` or `push` in a repository is part of it."""
        return action in self.access.get(name, frozenset())


class Tokens:
    """Signs and verifies. Thread-safe.

    Args:
        secret: 32 random bytes.
        clock: seconds since 1970.
    """

    def __init__(self, secret: bytes, *, clock: Callable[[], float]) -> None:
        self._secret = secret
        self._clock = clock

    def issue(self, key_id: str, access: Iterable[tuple[str, frozenset[str]]]) -> str:
        """A token for a key."""
        value = {
            "sub": key_id,
            "exp": int(self._clock()) + LIFETIME_S,
            "access": [[name, sorted(actions)] for name, actions in access],
        }
        payload = _encode(json.dumps(value, separators=(",", ":")).encode())
        return f"{payload}.{_encode(self._sign('token', payload))}"

    def read(self, token: str) -> Granted | None:
        """What a token grants; None where it is not ours, or over."""
        payload, _, signature = token.partition(".")
        if len(token) > _MAX_TOKEN or not self._is_signed("token", payload, signature):
            return None
        value = json.loads(_decode(payload) or b"null")
        if value["exp"] < self._clock():
            return None
        access = {name: frozenset(actions) for name, actions in value["access"]}
        return Granted(value["sub"], access)

    def grant(self, digest: Digest) -> str:
        """A query value that lets its bearer read one blob for a while."""
        payload = str(int(self._clock()) + GRANT_LIFETIME_S)
        return f"{payload}.{_encode(self._sign(f'blob {digest}', payload))}"

    def is_granted(self, digest: Digest, value: str) -> bool:
        """Whether a query value is such a grant for that blob."""
        payload, _, signature = value.partition(".")
        if not self._is_signed(f"blob {digest}", payload, signature):
            return False
        return int(payload) >= self._clock()

    def _sign(self, purpose: str, payload: str) -> bytes:
        return hmac.digest(self._secret, f"{purpose}\n{payload}".encode(), hashlib.sha256)

    def _is_signed(self, purpose: str, payload: str, signature: str) -> bool:
        return hmac.compare_digest(self._sign(purpose, payload), _decode(signature) or b"")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes | None:
    try:
        return base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (binascii.Error, UnicodeEncodeError):
        return None
