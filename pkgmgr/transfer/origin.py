"""Origins and addresses: where a URL that a registry chose may lead, and what may go along.

A secret belongs to one origin (scheme, host, port). Addresses fall into zones, and a registry
cannot send us from its own zone into a more private one.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import IntEnum
from urllib.parse import urljoin, urlsplit

from ..errors import NetworkError

_PORTS = {"http": 80, "https": 443}
MAX_URL = 16 << 10


class Zone(IntEnum):
    """How private an address is."""

    PUBLIC = 0
    PRIVATE = 1
    LOOPBACK = 2
    FORBIDDEN = 3


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host (lower case, without brackets) and port of a URL (RFC 6454 §4)."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """The origin of an http or https URL.

        Raises:
            NetworkError: for other schemes, a user name in the URL, or no host.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or _PORTS.get(parts.scheme, 0)
        except ValueError as error:
            raise NetworkError(f"a registry gave a malformed URL: {url[:80]!r}") from error
        if parts.scheme not in _PORTS or not parts.hostname or len(url) > MAX_URL:
            raise NetworkError(f"a registry gave a URL that is not followed: {url[:80]!r}")
        if "@" in parts.netloc:
            raise NetworkError("a registry gave a URL with a user name in it; not followed")
        return cls(parts.scheme, parts.hostname.rstrip(".").lower(), port)

    @property
    def netloc(self) -> str:
        """Host with port, the port left out where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}"


def follow(base: str, location: str) -> str:
    """The absolute URL of a Location or Link that came from `base`, its query untouched.

    Raises:
        NetworkError: where it may not be followed, such as from https to http.
    """
    if any(ord(character) < 0x21 or ord(character) == 0x7F for character in location):
        raise NetworkError("a registry gave a URL with control characters; not followed")
    try:
        url = location if "://" in location[:16] else urljoin(base, location)
    except ValueError as error:
        raise NetworkError(f"a registry gave a malformed URL: {location[:80]!r}") from error
    before, after = Origin.of(base), Origin.of(url)
    if before.scheme == "https" and after.scheme == "http":
        raise NetworkError(f"{before.netloc} redirects to unencrypted {after}; not followed")
    return url


def zone(address: str) -> Zone:
    """The zone of a resolved IP address, textual."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_loopback:
        return Zone.LOOPBACK
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip.is_reserved:
        return Zone.FORBIDDEN
    return Zone.PUBLIC if ip.is_global else Zone.PRIVATE
