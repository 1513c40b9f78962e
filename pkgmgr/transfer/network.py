"""Sockets for registries: which addresses may be dialled, TLS material, timeouts, proxies.

The guard looks at the address that a connection really goes to, after name resolution, so that a
DNS name cannot lead where a literal address would be refused.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import NetworkError
from .origin import Origin, Zone, zone

if TYPE_CHECKING:
    import requests

# urllib3 sends bodies in pieces of this many bytes; its own 16 KiB costs a third of the speed.
_SEND_SIZE = 1 << 20
_POOL_SIZE = 32


@dataclass(frozen=True, slots=True)
class Tls:
    """What a connection is verified with. `verify=False` accepts every certificate."""

    verify: bool = True
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None


class AddressGuard:
    """Decides whether an address may be dialled. Thread-safe.

    Hosts that the user named are dialled wherever they are. Others, which a registry named, must
    be public, or of the zone in which the registry itself is: a registry on a private network may
    have its storage there, but cannot send us to loopback; link-local is never allowed.
    """

    def __init__(self, named: frozenset[tuple[str, int]]) -> None:
        self._named = named
        self._zones: set[Zone] = set()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    def check(self, host: str, port: int, address: str) -> None:
        """Allow the connection, or raise.

        Raises:
            NetworkError: where a registry chose an address that it may not choose.
        """
        found = zone(address)
        if (host, port) in self._named:
            self._zones.add(found)
        elif found is Zone.FORBIDDEN or (found is not Zone.PUBLIC and found not in self._zones):
            shown = host if host == address else f"{host} ({address})"
            raise NetworkError(
                f"a registry sent us to the private address {shown}; not followed",
                hint="name that host in settings.toml if this registry needs it",
            )

    def track(self, connection: socket.socket) -> None:
        """Remember an open connection for `cut`."""
        self._sockets.add(connection)

    def cut(self) -> None:
        """Break every open connection, so that whoever waits for one comes back."""
        for connection in list(self._sockets):
            _cut(connection)

    def check_literal(self, origin: Origin) -> None:
        """`check` for a request that a proxy will make: names cannot be looked up here."""
        try:
            address = ipaddress.ip_address(origin.host)
        except ValueError:
            if origin.host == "localhost" or origin.host.endswith(".localhost"):
                self.check(origin.host, origin.port, "127.0.0.1")
        else:
            self.check(origin.host, origin.port, str(address))


def open_session(guard: AddressGuard, tls: Tls) -> requests.Session:
    """A session that dials through `guard`, keeps no cookies and reads no netrc; thread-safe."""
    import requests
    import urllib3
    from requests.adapters import HTTPAdapter
    from requests.cookies import RequestsCookieJar
    from urllib3 import HTTPConnectionPool, HTTPSConnectionPool

    class Http(HTTPConnectionPool):
        ConnectionCls = _connection_class(HTTPConnectionPool.ConnectionCls, guard)

    class Https(HTTPSConnectionPool):
        ConnectionCls = _connection_class(HTTPSConnectionPool.ConnectionCls, guard)

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, blocksize=_SEND_SIZE, **kwargs)
            self.poolmanager.pool_classes_by_scheme = {"http": Http, "https": Https}

    class NoCookies(RequestsCookieJar):
        def extract_cookies(self, response: Any, request: Any) -> None:
            """Registries that set cookies take us for a browser (Harbor's CSRF check)."""

    session = requests.Session()
    session.trust_env = False
    session.cookies = NoCookies()
    session.headers.clear()
    adapter = Adapter(pool_connections=8, pool_maxsize=_POOL_SIZE)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    if not tls.verify:
        # The user asked for it by name; a warning with each request tells nothing more.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    session.verify = str(tls.ca_file) if tls.verify and tls.ca_file else tls.verify
    if tls.client_cert:
        cert = str(tls.client_cert)
        session.cert = (cert, str(tls.client_key)) if tls.client_key else cert
    return session


def proxies_for(url: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The proxy of a URL by HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, either case."""
    from requests.utils import should_bypass_proxies

    def said(name: str) -> str | None:
        return environ.get(name.lower()) or environ.get(name.upper())

    origin = Origin.of(url)
    proxy = said(f"{origin.scheme}_proxy") or said("all_proxy")
    if not proxy or should_bypass_proxies(url, no_proxy=said("no_proxy") or ""):
        return {}
    return {origin.scheme: proxy if "://" in proxy else f"http://{proxy}"}


def _connection_class(base: Any, guard: AddressGuard) -> Any:
    """urllib3's connection class with a checked dial and a deadline for the whole header."""
    from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

    class Guarded(base):  # type: ignore[misc]  # the base is chosen at run time
        def _new_conn(self) -> socket.socket:
            host = self._dns_host.strip("[]")
            try:
                return _dial(guard, host, self.port, self.timeout, self.socket_options)
            except socket.gaierror as error:
                raise NameResolutionError(self.host, self, error) from error
            except TimeoutError as error:
                raise ConnectTimeoutError(self, f"connection to {host} timed out") from error
            except OSError as error:
                raise NewConnectionError(self, error.strerror or str(error)) from error

        def connect(self) -> None:
            super().connect()
            guard.track(self.sock)

        def getresponse(self) -> Any:
            # A socket timeout restarts with each byte, so a header could drip in for ever.
            late = threading.Event()
            timer = threading.Timer(self.timeout or 60.0, _cut, (self.sock, late))
            timer.daemon = True
            timer.start()
            try:
                answer = super().getresponse()
            finally:
                timer.cancel()
            if late.is_set():
                # http.client takes a header that was cut off for a whole one.
                answer.close()
                raise TimeoutError("the header took too long")
            return answer

    return Guarded


def _dial(
    guard: AddressGuard, host: str, port: int, timeout: float | None, options: Any
) -> socket.socket:
    """Connect to the first address of a host that answers; each is checked before it is tried."""
    failed: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host.rstrip("."), port, type=socket.SOCK_STREAM
    ):
        guard.check(host.rstrip(".").lower(), port, str(address[0]))
        connection = socket.socket(family, kind, protocol)
        try:
            for option in options or ():
                connection.setsockopt(*option)
            connection.settimeout(timeout)
            connection.connect(address)
        except OSError as error:
            connection.close()
            failed = error
            continue
        return connection
    raise failed or OSError("the name has no address")


def _cut(connection: socket.socket | None, done: threading.Event | None = None) -> None:
    if done is not None:
        done.set()
    try:
        if connection is not None:
            connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
