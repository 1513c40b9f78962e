"""Where the server is: PANNIER_HOST, else OLLAMA_HOST, else the loopback interface.

Reads what Ollama reads: a bare host gets port 11434, `http://x` port 80, `https://x` port 443; a
path stays. A wrong port is an error here and not, as there, silently the default.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from pannier.pkgmgr.errors import InvalidOption

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 11434
VARIABLES = ("PANNIER_HOST", "OLLAMA_HOST")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """A server's address. `host` has no brackets; `path` has no slash at its end."""

    scheme: str
    host: str
    port: int
    path: str = ""

    @property
    def netloc(self) -> str:
        """Host and port as URLs have them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def client(self) -> Address:
        """Where a client connects: a server on every interface is asked on the loopback one."""
        try:
            address = ipaddress.ip_address(self.host)
        except ValueError:
            return self
        if not address.is_unspecified:
            return self
        host = DEFAULT_HOST if address.version == 4 else "::1"
        return Address(self.scheme, host, self.port, self.path)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}{self.path}"


def parse_address(text: str) -> Address:
    """Read an address as users type it.

    Raises:
        InvalidOption: where the scheme is no HTTP one or the port is no port.
    """
    text = text.strip().strip("\"'").strip()
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    if scheme not in _PORTS:
        raise InvalidOption(f"server address {text!r}: the scheme must be http or https")
    try:
        parts = urlsplit(f"//{_bracketed(rest)}")
        port = parts.port
    except ValueError as error:
        raise InvalidOption(
            f"server address {text!r}: host and port are wrong", hint="write HOST:PORT"
        ) from error
    if port is None:
        port = _PORTS[scheme] if separator else DEFAULT_PORT
    return Address(scheme, parts.hostname or DEFAULT_HOST, port, parts.path.rstrip("/"))


def configured_address(environment: Mapping[str, str]) -> Address | None:
    """The address that the environment names, None where it names none."""
    for variable in VARIABLES:
        if environment.get(variable, "").strip():
            return parse_address(environment[variable])
    return None


def server_address(environment: Mapping[str, str]) -> Address:
    """The address that the environment names, else the default one."""
    return configured_address(environment) or Address("http", DEFAULT_HOST, DEFAULT_PORT)


def _bracketed(rest: str) -> str:
    """`::1` as `[::1]`, which is how a URL has it; everything else as it is."""
    host, slash, path = rest.partition("/")
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return rest
    return f"[{host}]{slash}{path}"
