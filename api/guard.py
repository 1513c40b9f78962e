"""Who may speak to the server from a browser: Host allow list, CORS, and their refusals.

A page on any site can make its visitor's browser send requests to 127.0.0.1. Three checks stop it:
the Host header must name this machine (DNS rebinding), an Origin must be one of the allowed, and a
cross-site request without one is refused by `Sec-Fetch-Site`. Pure but for `socket.gethostname`.
"""

from __future__ import annotations

import fnmatch
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

# As Ollama: every port of the loopback names, and the schemes of desktop apps and extensions.
_LOCAL = ("localhost", "127.0.0.1", "0.0.0.0", "[::1]")
DEFAULT_ORIGINS = (
    *(f"{scheme}://{host}" for scheme in ("http", "https") for host in _LOCAL),
    *(f"{scheme}://{host}:*" for scheme in ("http", "https") for host in _LOCAL),
    "app://*",
    "file://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
    "chrome-extension://*",
    "moz-extension://*",
    "safari-extension://*",
    "safari-web-extension://*",
    "ms-browser-extension://*",
)
_METHODS = "GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"
_EXPOSED = (
    "X-Request-Id, Docker-Content-Digest, Content-Range, Retry-After, X-Pannier-Ignored,"
    " X-Pannier-Truncated, X-Pannier-Truncated-Messages"
)
_HEADERS = (
    "Authorization, Content-Type, User-Agent, Accept, X-Requested-With, OpenAI-Beta, x-api-key,"
    " X-Pannier-Priority, X-Pannier-Deadline,"
    " anthropic-version, anthropic-beta, anthropic-dangerous-direct-browser-access,"
    " x-stainless-arch, x-stainless-async, x-stainless-custom-poll-interval,"
    " x-stainless-helper-method, x-stainless-lang, x-stainless-os,"
    " x-stainless-package-version, x-stainless-poll-helper, x-stainless-retry-count,"
    " x-stainless-runtime, x-stainless-runtime-version, x-stainless-timeout"
)
_SUFFIXES = (".localhost", ".local", ".internal")
_MAX_AGE_S = 43200


@dataclass(frozen=True, slots=True)
class Guard:
    """What the server accepts.

    Attributes:
        hosts: further names that a Host header may have, beside loopback and private addresses.
        origins: patterns that an Origin header may match, beside `DEFAULT_ORIGINS`.
    """

    hosts: frozenset[str] = frozenset()
    origins: tuple[str, ...] = ()

    @classmethod
    def of(cls, *, hosts: Iterable[str] = (), origins: Iterable[str] = ()) -> Guard:
        """A guard with further hosts and origins."""
        return cls(frozenset(host.lower() for host in hosts), tuple(origins))

    def allows_host(self, header: str) -> bool:
        """Whether a Host header names this machine.

        >>> guard = Guard()
        >>> guard.allows_host("localhost:11434"), guard.allows_host("evil.example")
        (True, False)
        """
        name = _host_of(header)
        if name in ("", "localhost") or name in self.hosts or name.endswith(_SUFFIXES):
            return bool(name)
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or address.is_private or address.is_unspecified

    def allows_origin(self, origin: str, host: str) -> bool:
        """Whether a page of that origin may read answers: the allow list, or the server's own."""
        if urlsplit(origin).netloc.lower() == host.lower() != "":
            return True
        return any(
            fnmatch.fnmatchcase(origin.lower(), pattern.lower())
            for pattern in (*DEFAULT_ORIGINS, *self.origins)
        )

    def refuses(self, method: str, headers: Mapping[str, str]) -> bool:
        """Whether a request is one that a foreign page may not make."""
        if not self.allows_host(headers.get("Host", "")):
            return True
        origin = headers.get("Origin")
        if origin is not None:
            return not self.allows_origin(origin, headers.get("Host", ""))
        is_link = method in ("GET", "HEAD") and headers.get("Sec-Fetch-Mode") == "navigate"
        return headers.get("Sec-Fetch-Site") in ("cross-site", "same-site") and not is_link


def cors_headers(origin: str) -> dict[str, str]:
    """What lets a page of an allowed origin read an answer."""
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Allow-Headers": _HEADERS,
        "Access-Control-Expose-Headers": _EXPOSED,
        "Access-Control-Max-Age": str(_MAX_AGE_S),
        "Vary": "Origin",
    }


def _host_of(header: str) -> str:
    """The name or address in a Host header, lower case, without port and brackets."""
    value = header.strip().lower()
    if value.startswith("["):
        return value[1:].partition("]")[0]
    return value.partition(":")[0].rstrip(".")
