"""From a reference and the settings to a repository that can be talked to."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from ..errors import InvalidOption
from ..reference import Reference
from ..settings import RegistrySettings, Settings
from .auth import KNOWN_TOKEN_HOSTS, RegistryAuth
from .credentials import DOCKER_HUB, Credential, Keychain
from .limit import RateLimit
from .mirrors import MirroredRepository
from .network import AddressGuard, Tls, open_session
from .origin import Origin
from .registry import RegistryRepository
from .reply import Tools
from .upload import Uploads
from .wire import Wire

# Docker Hub's API is not at the host that its names begin with.
_API_HOSTS = {DOCKER_HUB: "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}
_log = logging.getLogger(__name__)
_CERTS = ("/etc/containers/certs.d", "/etc/docker/certs.d")


def open_registry(
    reference: Reference,
    *,
    settings: Settings,
    credential: Credential | None = None,
    on_warning: Callable[[str], None] = _log.warning,
) -> RegistryRepository:
    """A repository by the settings of its registry; nothing is asked yet.

    Args:
        reference: names host and repository.
        settings: of the user; mirrors that they name are read from first.
        credential: goes before what environment and credential files say.
        on_warning: is told what the registry warns of, each text once.

    Raises:
        InvalidOption: where the settings block the host.
    """
    said = settings.registry(reference.host, reference.repository)
    if said.blocked:
        raise InvalidOption(f"registry {reference.host} is blocked by the settings")
    named = _at(reference, said.location) if said.location else reference
    wire = _open_wire(named, said, settings, credential, on_warning)
    uploads = Uploads(folder=settings.home / "uploads", wanted=said.upload)
    if not said.mirrors:
        return RegistryRepository(named, wire, uploads=uploads)
    mirrors = [
        open_registry(_at(reference, location), settings=settings, on_warning=on_warning)
        for location in said.mirrors
    ]
    return MirroredRepository(named, wire, uploads=uploads, mirrors=mirrors)


def _open_wire(
    named: Reference,
    said: RegistrySettings,
    settings: Settings,
    credential: Credential | None,
    on_warning: Callable[[str], None],
) -> Wire:
    plain = named.is_loopback if said.plain_http is None else said.plain_http
    host = _API_HOSTS.get(named.host, named.host)
    origin = Origin.of(f"{'http' if plain else 'https'}://{host}/")
    token_host = said.token_host or KNOWN_TOKEN_HOSTS.get(origin.host)
    guard = AddressGuard(frozenset(_named(origin, token_host, said.redirect_hosts or ())))

    def find() -> Credential | None:
        found = credential or _from_flags(settings, named.host)
        found = found or from_environ(settings.environ, named.host)
        return found or open_keychain(settings).find(named.host, named.repository)

    rate = said.limit_rate or settings.limit_rate
    tools = Tools(
        open_session(guard, tls_for(named.host, said, settings)),
        guard,
        RegistryAuth(origin, find, token_host=token_host),
        settings.environ,
        timeouts=settings.timeouts,
        retry=settings.retry,
        limit=RateLimit(rate) if rate else None,
        jobs=said.jobs or settings.jobs,
        on_warning=on_warning,
    )
    return Wire(origin, tools)


def open_keychain(settings: Settings) -> Keychain:
    """The credential files and helpers of this user."""
    home = Path(settings.environ.get("HOME") or Path.home())
    return Keychain(settings.environ, home=home, own=settings.home / "auth.json")


def from_environ(environ: Mapping[str, str], host: str) -> Credential | None:
    """PANNIER_USERNAME and PANNIER_PASSWORD, or PANNIER_TOKEN, for the host PANNIER_REGISTRY."""
    if environ.get("PANNIER_REGISTRY", "").lower() != host:
        return None
    if token := environ.get("PANNIER_TOKEN"):
        return Credential(registry_token=token)
    user, password = environ.get("PANNIER_USERNAME"), environ.get("PANNIER_PASSWORD")
    return Credential(user, password) if user and password else None


def _from_flags(settings: Settings, host: str) -> Credential | None:
    if settings.login is None or settings.login_host != host:
        return None
    return Credential(*settings.login)


def tls_for(host: str, said: RegistrySettings, settings: Settings) -> Tls:
    """TLS material: what was said, else what a certs.d folder holds for the host.

    The layout is that of docker and containers: ``<host>/ca.crt``, ``client.cert``, ``client.key``.
    """
    found = Tls(said.tls_verify is not False, said.ca_file, said.client_cert, said.client_key)
    for folder in _certs_folders(settings, host):
        authority = next(iter(sorted(folder.glob("*.crt"))), None)
        cert = next(iter(sorted(folder.glob("*.cert"))), None)
        key = cert.with_suffix(".key") if cert else None
        if found.ca_file is None and authority is not None:
            found = replace(found, ca_file=authority)
        if found.client_cert is None and cert is not None:
            found = replace(found, client_cert=cert, client_key=key)
    for path in (found.ca_file, found.client_cert, found.client_key):
        if path is not None and not path.exists():
            raise InvalidOption(f"TLS file {path} for {host} is not there")
    return found


def _certs_folders(settings: Settings, host: str) -> Iterator[Path]:
    yield settings.home / "certs.d" / host
    base = settings.environ.get("XDG_CONFIG_HOME") or f"{settings.environ.get('HOME', '~')}/.config"
    yield Path(base).expanduser() / "containers" / "certs.d" / host
    for folder in _CERTS:
        yield Path(folder) / host


def _named(
    origin: Origin, token_host: str | None, others: tuple[str, ...]
) -> Iterator[tuple[str, int]]:
    yield origin.host, origin.port
    for host in (token_host, *others):
        if host:
            for scheme in ("https", "http"):
                named = Origin.of(f"{scheme}://{host}/")
                yield named.host, named.port


def _at(reference: Reference, location: str) -> Reference:
    """The same repository at another host, below another path where the location has one."""
    host, _, path = location.partition("/")
    repository = f"{path.strip('/')}/{reference.repository}" if path else reference.repository
    moved = replace(reference, host=host.lower(), repository=repository)
    # The round trip refuses a location that is no valid host or path.
    return Reference.parse(str(moved))
