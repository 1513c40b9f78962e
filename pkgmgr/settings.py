"""What the user fixed beforehand: settings.toml, environment and flags, as one frozen value.

The file is `settings.toml` in pannier's home (or PANNIER_SETTINGS); its members are in
docs/transfer.md. What podman's registries.conf says of mirrors and short names holds where the
file says nothing (containers-registries.conf(5); `pannier.pkgmgr.registriesconf`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from .errors import InvalidOption
from .reference import DEFAULT_HOST, DEFAULT_NAMESPACE, Reference
from .transfer.retry import RetryPolicy
from .transfer.timeouts import Timeouts

DEFAULT_JOBS = 4
_MAX_JOBS = 64
_MAX_FILE = 1 << 20
_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """How one registry is spoken to; None means that nobody said, and the default holds.

    Attributes:
        location: host, with or without a path, that is asked instead of the name's own.
        mirrors: locations that are asked before it, in order, when something is pulled.
        token_host: host of a token server that may be sent this registry's credentials.
        redirect_hosts: hosts that this registry may send us to although they are private.
        upload: `chunked` or `monolithic`.
        jobs: how many blobs move at the same time.
        limit_rate: bytes per second that the transfers with it may take together.
        dialect: what models are pushed as where nobody says.
    """

    plain_http: bool | None = None
    tls_verify: bool | None = None
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    token_host: str | None = None
    redirect_hosts: tuple[str, ...] | None = None
    location: str | None = None
    mirrors: tuple[str, ...] | None = None
    upload: str | None = None
    jobs: int | None = None
    limit_rate: int | None = None
    dialect: str | None = None
    blocked: bool | None = None

    def over(self, other: RegistrySettings) -> RegistrySettings:
        """This choice where something was chosen, the other's for the rest."""
        chosen = {
            item.name: getattr(other, item.name)
            for item in fields(self)
            if getattr(self, item.name) is None
        }
        return replace(self, **chosen)


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting. Immutable; `with_flags` gives a changed copy.

    Attributes:
        home: where pannier keeps its state (PANNIER_HOME).
        environ: the environment that proxies and credential files are looked up in.
        registries: by host, or by host and path; the longest that fits a name counts.
        short_names: names that stand for others.
        jobs: how many blobs move at the same time.
        limit_rate: bytes per second that all transfers of a process may take together.
        flags: what the command line says; it goes before what the file says of any registry.
        login: user name and password of the command line, for `login_host` and nobody else.
    """

    home: Path
    environ: Mapping[str, str]
    default_host: str = DEFAULT_HOST
    default_namespace: str = DEFAULT_NAMESPACE
    registries: Mapping[str, RegistrySettings] = field(default_factory=lambda: MappingProxyType({}))
    short_names: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    jobs: int = DEFAULT_JOBS
    limit_rate: int | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    timeouts: Timeouts = field(default_factory=Timeouts)
    flags: RegistrySettings = field(default_factory=RegistrySettings)
    login: tuple[str, str] | None = field(default=None, repr=False)
    login_host: str | None = None

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Self:
        """The settings of an environment.

        Raises:
            InvalidOption: where a settings file cannot be read or has an unknown or bad member.
        """
        from .registriesconf import load_registries_conf

        home = home_of(environ)
        path = Path(environ.get("PANNIER_SETTINGS") or home / "settings.toml")
        said = cls(home, environ)
        try:
            said = replace(said, **_parse(read_toml(path)))
        except (ValueError, TypeError, InvalidOption) as error:
            raise InvalidOption(f"{path}: {error}") from error
        shared = load_registries_conf(environ)
        registries = dict(shared.registries)
        for prefix, registry in said.registries.items():
            registries[prefix] = registry.over(registries.get(prefix, RegistrySettings()))
        names = {**shared.short_names, **said.short_names}
        return replace(
            said,
            registries=MappingProxyType(registries),
            short_names=MappingProxyType(names),
        )

    def registry(self, host: str, repository: str = "") -> RegistrySettings:
        """How to speak to a host about a repository: flags, then the longest prefix that fits."""
        name = f"{host}/{repository}/"
        said = self.flags
        for prefix in sorted(self.registries, key=len, reverse=True):
            if name.startswith(f"{prefix}/") or fits_wildcard(prefix, host):
                said = said.over(self.registries[prefix])
        return said

    def with_flags(self, flags: RegistrySettings) -> Self:
        """These settings under a command line's flags."""
        return replace(self, flags=flags.over(self.flags))

    def parse(self, name: str) -> Reference:
        """A name as the user types it, by the short names and defaults of these settings.

        Raises:
            InvalidReference: where it is none.
            InvalidOption: where its host is blocked.
        """
        reference = Reference.parse(
            self._expanded(name),
            default_host=self.default_host,
            default_namespace=self.default_namespace,
        )
        if self.registry(reference.host, reference.repository).blocked:
            raise InvalidOption(f"registry {reference.host} is blocked by the settings")
        return reference

    def _expanded(self, name: str) -> str:
        """A short name replaced; its own tag or digest goes before the long name's tag."""
        end = min((at for at in (name.find(":"), name.find("@")) if at >= 0), default=len(name))
        long = self.short_names.get(name[:end])
        if long is None:
            return name
        head, slash, last = long.rpartition("/")
        return f"{head}{slash}{last.partition(':')[0]}{name[end:]}" if name[end:] else long


def home_of(environ: Mapping[str, str]) -> Path:
    """Where an environment puts pannier's state."""
    return Path(environ.get("PANNIER_HOME") or "~/.pannier").expanduser().absolute()


def parse_rate(text: str) -> int:
    """Bytes per second from ``20M``, ``512k``, ``1.5Gi`` or a plain number.

    Raises:
        InvalidOption: for anything else, and for nothing per second.
    """
    number = text.strip().lower().removesuffix("/s").removesuffix("b")
    digits = number.rstrip("kmgi")
    try:
        rate = int(float(digits) * _UNITS[number[len(digits) :]])
    except (ValueError, KeyError, OverflowError) as error:
        raise InvalidOption(f"invalid rate {text!r}", hint="rates look like 20M or 512k") from error
    if rate < 1:
        raise InvalidOption(f"invalid rate {text!r}: it would never end")
    return rate


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file, empty where there is none.

    Raises:
        ValueError: where it is not TOML, too long, or cannot be read.
    """
    import tomllib

    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from error
    if len(raw) > _MAX_FILE:
        raise ValueError("it is too long")
    return tomllib.loads(raw.decode())


def fits_wildcard(prefix: str, host: str) -> bool:
    """Whether a prefix ``*.example.com`` covers a host."""
    return prefix.startswith("*.") and host.endswith(prefix[1:])


def _parse(value: dict[str, Any]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for key, item in value.items():
        if key == "default_registry":
            host, _, namespace = _text(key, item).partition("/")
            changes |= {"default_host": host, "default_namespace": namespace}
        elif key == "jobs":
            changes[key] = int(_number(key, item, 1, _MAX_JOBS))
        elif key == "limit_rate":
            changes[key] = parse_rate(str(item))
        elif key == "timeouts":
            changes[key] = _timeouts(item)
        elif key == "short_names":
            names = {name: _text(name, long) for name, long in _table(key, item).items()}
            changes[key] = MappingProxyType(names)
        elif key == "registry":
            changes["registries"] = MappingProxyType(
                {host: _registry(host, said) for host, said in _table(key, item).items()}
            )
        else:
            raise ValueError(f"unknown setting {key!r}")
    return changes


def _registry(host: str, value: object) -> RegistrySettings:
    said: dict[str, Any] = {}
    for key, item in _table(host, value).items():
        if key in ("plain_http", "tls_verify", "blocked"):
            if not isinstance(item, bool):
                raise ValueError(f"{key} of {host} is not true or false")
            said[key] = item
        elif key in ("ca_file", "client_cert", "client_key"):
            said[key] = Path(_text(key, item)).expanduser()
        elif key in ("token_host", "location", "dialect"):
            said[key] = _text(key, item)
        elif key == "jobs":
            said[key] = int(_number(key, item, 1, _MAX_JOBS))
        elif key == "limit_rate":
            said[key] = parse_rate(str(item))
        elif key in ("mirrors", "redirect_hosts"):
            if not isinstance(item, list):
                raise ValueError(f"{key} of {host} is not a list")
            said[key] = tuple(_text(key, entry) for entry in item)
        elif key == "upload" and item in ("chunked", "monolithic"):
            said[key] = item
        else:
            raise ValueError(f"registry {host} has a bad or unknown setting {key!r}")
    return RegistrySettings(**said)


def _timeouts(value: object) -> Timeouts:
    known = {item.name for item in fields(Timeouts)}
    said = {key: _number(key, item, 0.001, 1e9) for key, item in _table("timeouts", value).items()}
    if unknown := sorted(said.keys() - known):
        raise ValueError(f"unknown timeout {unknown[0]!r}")
    return Timeouts(**said)


def _table(key: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{key} is not a table")
    return value


def _text(key: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key} is not a string")
    return value


def _number(key: str, value: object, low: float, high: float) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{key} is not a number from {low} to {high}")
    return value
