"""What the user fixed beforehand: settings.toml, environment and flags, as one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Self

from .errors import InvalidOption
from .reference import DEFAULT_HOST, DEFAULT_NAMESPACE, Reference


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """How one registry is spoken to; None means that nobody said, and the default holds."""

    plain_http: bool | None = None
    tls_verify: bool | None = None
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    token_host: str | None = None
    blocked: bool = False

    def over(self, other: RegistrySettings) -> RegistrySettings:
        """This choice where something was chosen, the other's for the rest."""
        mine, theirs = asdict(self), asdict(other)
        chosen = {key: theirs[key] if value is None else value for key, value in mine.items()}
        return RegistrySettings(**chosen | {"blocked": self.blocked or other.blocked})


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting. Immutable; `with_registry` gives a changed copy.

    Attributes:
        home: where pannier keeps its state (PANNIER_HOME).
        environ: the environment that proxies and credential files are looked up in.
        flags: what the command line says; it goes before what the file says of any registry.
    """

    home: Path
    environ: Mapping[str, str]
    default_host: str = DEFAULT_HOST
    default_namespace: str = DEFAULT_NAMESPACE
    registries: Mapping[str, RegistrySettings] = field(default_factory=lambda: MappingProxyType({}))
    flags: RegistrySettings = field(default_factory=RegistrySettings)

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Self:
        """The settings of an environment.

        Raises:
            InvalidOption: where something in them is wrong.
        """
        return cls(home_of(environ), environ)

    def registry(self, host: str) -> RegistrySettings:
        """How to speak to a host."""
        return self.flags.over(self.registries.get(host) or RegistrySettings())

    def with_flags(self, flags: RegistrySettings) -> Self:
        """These settings under a command line's flags."""
        return replace(self, flags=flags.over(self.flags))

    def parse(self, name: str) -> Reference:
        """A name as the user types it, by the defaults of these settings.

        Raises:
            InvalidReference: where it is none.
            InvalidOption: where its host is blocked.
        """
        reference = Reference.parse(
            name, default_host=self.default_host, default_namespace=self.default_namespace
        )
        if self.registry(reference.host).blocked:
            raise InvalidOption(f"registry {reference.host} is blocked by the settings")
        return reference


def home_of(environ: Mapping[str, str]) -> Path:
    """Where an environment puts pannier's state."""
    return Path(environ.get("PANNIER_HOME") or "~/.pannier").expanduser().absolute()
