"""From a reference and the settings to a repository that can be talked to."""

from __future__ import annotations

from pathlib import Path

from ..errors import InvalidOption
from ..reference import Reference
from ..settings import Settings
from .auth import KNOWN_TOKEN_HOSTS, RegistryAuth
from .credentials import DOCKER_HUB, Credential, Keychain
from .network import AddressGuard, Tls, open_session
from .origin import Origin
from .registry import RegistryRepository
from .upload import Uploads
from .wire import Tools, Wire

# Docker Hub's API is not at the host that its names begin with.
_API_HOSTS = {DOCKER_HUB: "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}


def open_registry(
    reference: Reference, *, settings: Settings, credential: Credential | None = None
) -> RegistryRepository:
    """A repository by the settings of its registry; nothing is asked yet.

    Args:
        reference: names host and repository.
        settings: of the user.
        credential: goes before what the machine's credential files say.

    Raises:
        InvalidOption: where the settings block the host.
    """
    said = settings.registry(reference.host)
    if said.blocked:
        raise InvalidOption(f"registry {reference.host} is blocked by the settings")
    plain = reference.is_loopback if said.plain_http is None else said.plain_http
    scheme = "http" if plain else "https"
    origin = Origin.of(f"{scheme}://{_API_HOSTS.get(reference.host, reference.host)}/")
    token_host = said.token_host or KNOWN_TOKEN_HOSTS.get(origin.host)
    guard = AddressGuard(_named(origin, token_host))
    tls = Tls(said.tls_verify is not False, said.ca_file, said.client_cert, said.client_key)
    keychain = open_keychain(settings)

    def find() -> Credential | None:
        return credential or keychain.find(reference.host, reference.repository)

    auth = RegistryAuth(origin, find, token_host=token_host)
    tools = Tools(open_session(guard, tls), guard, auth, settings.environ)
    return RegistryRepository(reference, Wire(origin, tools), uploads=Uploads())


def open_keychain(settings: Settings) -> Keychain:
    """The credential files and helpers of this user."""
    home = Path(settings.environ.get("HOME") or Path.home())
    return Keychain(settings.environ, home=home, own=settings.home / "auth.json")


def _named(origin: Origin, token_host: str | None) -> frozenset[tuple[str, int]]:
    named = {(origin.host, origin.port)}
    if token_host:
        token = Origin.of(f"{origin.scheme}://{token_host}/")
        named.add((token.host, token.port))
    return frozenset(named)
