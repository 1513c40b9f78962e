"""Where credentials come from, and where `login` puts them.

Reads what docker and containers tools share: docker-config-json (docker/cli, cli/config/configfile)
and containers-auth.json(5), with credential helpers (docker-credential-helpers, README). The
first file that has an entry for the host wins. Nothing here talks to a registry.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InvalidOption, PannierError

_log = logging.getLogger(__name__)

DOCKER_HUB = "docker.io"
# What docker calls Docker Hub in its files, for historical reasons.
_DOCKER_HUB_KEY = "https://index.docker.io/v1/"
_HELPER_TIMEOUT_S = 30
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_MAX_FILE = 4 << 20


@dataclass(frozen=True, slots=True)
class Credential:
    """A way to prove who asks. One of the three pairs is set; `repr` shows no secret.

    Attributes:
        identity_token: an OAuth2 refresh token, traded for access tokens.
        registry_token: an access token to send as it is.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of a Basic Authorization header."""
        pair = f"{self.username}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode()


class Keychain:
    """Looks credentials up in the files and helpers of a machine. Thread-safe, reads each time."""

    def __init__(self, environ: Mapping[str, str], *, home: Path, own: Path | None = None) -> None:
        """Use the standard places.

        Args:
            environ: of the process.
            home: the user's home directory.
            own: pannier's own file, where `login` writes if no docker config is there.
        """
        self._environ = environ
        self._home = home
        self._own = own

    def find(self, host: str, repository: str) -> Credential | None:
        """The credential for a repository, None where there is none.

        Raises:
            PannierError: where a helper that is configured for the host fails.
        """
        for file in self._files():
            config = _load(file)
            helper = _helper_for(config, host)
            if helper and (found := self._ask_helper(helper, host)):
                return found
            if found := _from_auths(config.get("auths"), host, repository):
                return found
        return None

    def store(self, host: str, credential: Credential) -> str:
        """Keep a credential, in the configured helper or else in the file; says where.

        Raises:
            PannierError: where it cannot be written.
        """
        file = self._login_file()
        config = _load(file)
        helper = _helper_for(config, host)
        if helper:
            secret = credential.identity_token or credential.password
            user = "<token>" if credential.identity_token else credential.username
            value = {"ServerURL": _key(host), "Username": user, "Secret": secret}
            self._run_helper(helper, "store", json.dumps(value))
            return f"docker-credential-{helper}"
        entry: dict[str, str] = {"auth": credential.basic.removeprefix("Basic ")}
        if credential.identity_token:
            entry = {"identitytoken": credential.identity_token}
        config.setdefault("auths", {})[_key(host)] = entry
        _save(file, config)
        return str(file)

    def erase(self, host: str) -> bool:
        """Forget a host everywhere that `find` looks; whether there was anything."""
        found = False
        for file in self._files():
            config = _load(file)
            helper = _helper_for(config, host)
            if helper and self._ask_helper(helper, host):
                self._run_helper(helper, "erase", _key(host))
                found = True
            keys = [key for key in config.get("auths", {}) if _normal(key) == host]
            for key in keys:
                del config["auths"][key]
            if keys:
                _save(file, config)
                found = True
        return found

    def _files(self) -> Iterator[Path]:
        if named := self._environ.get("REGISTRY_AUTH_FILE"):
            yield Path(named)
        if self._own is not None:
            yield self._own
        yield self._docker_config()
        if runtime := self._environ.get("XDG_RUNTIME_DIR"):
            yield Path(runtime, "containers", "auth.json")
        base = self._environ.get("XDG_CONFIG_HOME") or str(self._home / ".config")
        yield Path(base, "containers", "auth.json")

    def _docker_config(self) -> Path:
        folder = self._environ.get("DOCKER_CONFIG") or str(self._home / ".docker")
        return Path(folder, "config.json")

    def _login_file(self) -> Path:
        if named := self._environ.get("REGISTRY_AUTH_FILE"):
            return Path(named)
        docker = self._docker_config()
        return self._own if self._own is not None and not docker.exists() else docker

    def _ask_helper(self, helper: str, host: str) -> Credential | None:
        for server in (_key(host), host):
            try:
                reply = json.loads(self._run_helper(helper, "get", server))
                user, secret = str(reply["Username"]), str(reply["Secret"])
            except _NoEntry:
                continue
            except (ValueError, KeyError, TypeError) as error:
                raise PannierError(
                    f"docker-credential-{helper} gave no valid answer for {host}"
                ) from error
            if user == "<token>":
                return Credential(identity_token=secret)
            return Credential(user, secret) if secret else None
        return None

    def _run_helper(self, helper: str, verb: str, text: str) -> str:
        """Run a credential helper. Its secrets go through pipes, never through arguments."""
        program = f"docker-credential-{helper}"
        try:
            done = subprocess.run(
                [program, verb],
                input=text.encode(),
                capture_output=True,
                timeout=_HELPER_TIMEOUT_S,
                check=False,
                env={**self._environ},
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PannierError(f"cannot run {program}: {error}") from error
        if done.returncode != 0:
            said = (done.stdout + done.stderr).decode(errors="replace").strip()
            if verb == "get" and "not found" in said.lower():
                raise _NoEntry
            raise PannierError(f"{program} {verb} failed: {said[:200] or done.returncode}")
        return done.stdout.decode(errors="replace")


class _NoEntry(Exception):
    """A helper that has nothing for the host."""


def _load(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > _MAX_FILE:
            raise InvalidOption(f"credentials file {file} is too large")
        value = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    except ValueError as error:
        raise InvalidOption(f"credentials file {file} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidOption(f"credentials file {file} is not a JSON object")
    for key in ("auths", "credHelpers"):
        if not isinstance(value.get(key) or {}, dict):
            raise InvalidOption(f"credentials file {file}: {key} is not an object")
    return value


def _save(file: Path, config: Mapping[str, Any]) -> None:
    from ..store.files import disk_errors, replace_file

    with disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # A link to a file elsewhere stays a link.
        real = Path(os.path.realpath(file))
        replace_file(real, json.dumps(config, indent="\t").encode() + b"\n", mode=0o600)


def _helper_for(config: Mapping[str, Any], host: str) -> str | None:
    helpers = config.get("credHelpers") or {}
    name = next((item for key, item in helpers.items() if _normal(key) == host), None)
    name = name or config.get("credsStore")
    if name is None or name == "":
        return None
    if not isinstance(name, str) or not _HELPER_NAME.fullmatch(name):
        raise InvalidOption(f"invalid credential helper name {str(name)[:40]!r}")
    return name


def _from_auths(auths: object, host: str, repository: str) -> Credential | None:
    """The entry whose key is the longest prefix of host/repository (containers-auth.json(5))."""
    if not isinstance(auths, dict):
        return None
    best: tuple[int, Credential] | None = None
    for key, entry in auths.items():
        name = _normal(key)
        if name != host and not f"{host}/{repository}/".startswith(f"{name}/"):
            continue
        credential = _credential(entry)
        if credential is not None and (best is None or len(name) > best[0]):
            best = len(name), credential
    return best[1] if best else None


def _credential(entry: object) -> Credential | None:
    if not isinstance(entry, dict):
        return None
    user, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if auth := entry.get("auth"):
        try:
            pair = base64.b64decode(str(auth), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            _log.warning("an auth entry of a credentials file is not valid base64")
            return None
        user, _, password = pair.rstrip("\0").partition(":")
    identity, registry = entry.get("identitytoken"), entry.get("registrytoken")
    if identity or registry:
        return Credential(user, password, str(identity or ""), str(registry or ""))
    return Credential(user, password) if password else None


def _normal(key: str) -> str:
    """A key of `auths` as host or host/path: docker writes URLs for some, bare hosts for others."""
    if key == _DOCKER_HUB_KEY:
        return DOCKER_HUB
    name = re.sub(r"^https?://", "", key).rstrip("/").lower()
    if key != name:
        name = re.sub(r"/v[12]$", "", name)
    return DOCKER_HUB if name in ("index.docker.io", "registry-1.docker.io") else name


def _key(host: str) -> str:
    return _DOCKER_HUB_KEY if host == DOCKER_HUB else host
