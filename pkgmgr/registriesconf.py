"""What podman, buildah and skopeo are told of mirrors, blocked registries and short names.

Reads containers-registries.conf(5), version 2: the first main file that is there and the drop-ins
beside it, in order. What a program of another kind needs (credential helpers, search lists for
unqualified images) is passed over.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .settings import RegistrySettings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RegistriesConf:
    """Registries by prefix, and short names."""

    registries: Mapping[str, RegistrySettings]
    short_names: Mapping[str, str]


def load_registries_conf(environ: Mapping[str, str]) -> RegistriesConf:
    """Everything that the files of this user or machine say; files that are not TOML say nothing.

    Args:
        environ: CONTAINERS_REGISTRIES_CONF names another main file; HOME, XDG_CONFIG_HOME.
    """
    from .settings import read_toml

    registries: dict[str, RegistrySettings] = {}
    names: dict[str, str] = {}
    for path in _files(environ):
        try:
            value = read_toml(path)
            registries |= dict(_registries(value))
            names |= {str(key): str(long) for key, long in (value.get("aliases") or {}).items()}
        except (ValueError, TypeError, AttributeError) as error:
            _log.warning("%s is passed over: %s", path, error)
    return RegistriesConf(registries, {key: long for key, long in names.items() if long})


def _files(environ: Mapping[str, str]) -> Iterator[Path]:
    if named := environ.get("CONTAINERS_REGISTRIES_CONF"):
        yield Path(named)
        return
    base = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME") or "~", ".config"))
    folders = [Path("/etc/containers"), Path(base).expanduser() / "containers"]
    main = [folder / "registries.conf" for folder in reversed(folders)]
    yield from [path for path in main if path.is_file()][:1]
    for folder in folders:
        yield from sorted((folder / "registries.conf.d").glob("*.conf"))


def _registries(value: dict[str, Any]) -> Iterator[tuple[str, RegistrySettings]]:
    from .settings import RegistrySettings

    for item in value.get("registry") or []:
        prefix = item.get("prefix") or item.get("location")
        if not isinstance(prefix, str):
            continue
        location = item.get("location")
        mirrors = tuple(
            str(mirror["location"])
            for mirror in item.get("mirror") or []
            if mirror.get("location") and mirror.get("pull-from-mirror") != "digest-only"
        )
        yield (
            prefix,
            RegistrySettings(
                tls_verify=False if item.get("insecure") else None,
                location=location if location and location != prefix else None,
                mirrors=mirrors or None,
                blocked=True if item.get("blocked") else None,
            ),
        )
        for mirror in item.get("mirror") or []:
            if mirror.get("insecure") and mirror.get("location"):
                yield str(mirror["location"]), RegistrySettings(tls_verify=False)
