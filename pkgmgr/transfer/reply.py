"""An answer of a registry, read piece by piece under a watch, and what a refusal says."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from .. import strictjson
from ..errors import (
    Denied,
    NetworkError,
    RateLimited,
    RegistryError,
    TransferError,
    Unauthorized,
)
from .auth import RegistryAuth
from .neterrors import network_errors, printable
from .network import AddressGuard
from .retry import RetryPolicy, Stop, retry_after_s
from .timeouts import Timeouts

if TYPE_CHECKING:
    import requests

    from .limit import RateLimit

MAX_ERROR = 64 << 10
_READ = 256 << 10
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
    jobs: int = 1
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


def raise_for(reply: Reply, what: str, place: str) -> NoReturn:
    """Turn an answer that is an error into ours."""
    codes, said = _read_error(reply)
    text = f"cannot {what}: registry says {said}" if said else f"cannot {what}: HTTP {reply.status}"
    kind: type[RegistryError] = {401: Unauthorized, 403: Denied, 429: RateLimited}.get(
        reply.status, RegistryError
    )
    hint = f"pannier login {place}" if reply.status in (401, 403) else None
    error = kind(text, status=reply.status, codes=codes, place=place, hint=hint)
    if reply.status in (429, 503):
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
