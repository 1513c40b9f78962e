"""The options of every command that speaks to a registry, added to it by a decorator.

A command that takes `settings: Settings` and is wrapped in `with_network` gets the options below
instead of that parameter; one that is wrapped in `with_tls` only those about TLS.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .names import load_settings

if TYPE_CHECKING:
    from ..settings import Settings

_HELP = {
    "plain_http": "Speak HTTP, not HTTPS, to the registry.",
    "tls_verify": "Check the registry's certificate (true or false).",
    "insecure": "The same as --tls-verify=false.",
    "ca_file": "Certificate authorities to trust, PEM.",
    "cert_file": "Client certificate, PEM.",
    "key_file": "Key of the client certificate, PEM.",
    "username": "User name at the registry.",
    "password_stdin": "Read the password from standard input.",
    "jobs": "How many layers move at the same time.",
    "limit_rate": "Bytes per second at most, such as 20M.",
}
_TYPES: dict[str, tuple[Any, Any]] = {
    "plain_http": (bool, False),
    "tls_verify": (str | None, None),
    "insecure": (bool, False),
    "ca_file": (Path | None, None),
    "cert_file": (Path | None, None),
    "key_file": (Path | None, None),
    "username": (str | None, None),
    "password_stdin": (bool, False),
    "jobs": (int | None, None),
    "limit_rate": (str | None, None),
}
_UNSAID = {name: default for name, (_, default) in _TYPES.items()}
_TLS = ("plain_http", "tls_verify", "insecure", "ca_file", "cert_file", "key_file")
_MAX_PASSWORD = 64 << 10


def with_network(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with all options in place of its parameter `settings`."""
    return _with(command, tuple(_TYPES))


def with_tls(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with the options about TLS in place of its parameter `settings`."""
    return _with(command, _TLS)


def _with(command: Callable[..., None], names: tuple[str, ...]) -> Callable[..., None]:
    @functools.wraps(command)
    def wrapper(**values: Any) -> None:
        flags = {name: values.pop(name) for name in names}
        return command(**values, settings=settings_from(_UNSAID | flags))

    signature = inspect.signature(command, eval_str=True)
    kept = [item for item in signature.parameters.values() if item.name != "settings"]
    added = [_parameter(name) for name in names]
    wrapper.__signature__ = signature.replace(  # type: ignore[attr-defined]  # typer reads it
        parameters=[item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in (*kept, *added)]
    )
    wrapper.__annotations__ = {item.name: item.annotation for item in (*kept, *added)}
    return wrapper


def settings_from(flags: dict[str, Any]) -> Settings:
    """This machine's settings under a command's flags.

    Raises:
        InvalidOption: where flags contradict each other or have bad values.
    """
    from ..errors import InvalidOption
    from ..settings import RegistrySettings, parse_rate

    jobs, rate = flags["jobs"], flags["limit_rate"]
    if jobs is not None and not 0 < jobs <= 64:
        raise InvalidOption(f"--jobs is {jobs}, not 1 to 64")
    settings = load_settings().with_flags(
        RegistrySettings(
            plain_http=True if flags["plain_http"] else None,
            tls_verify=False if flags["insecure"] else _truth(flags["tls_verify"]),
            ca_file=flags["ca_file"],
            client_cert=flags["cert_file"],
            client_key=flags["key_file"],
            jobs=jobs,
            limit_rate=parse_rate(rate) if rate else None,
        )
    )
    return replace(settings, login=_login(flags["username"], flags["password_stdin"]))


def _truth(text: str | None) -> bool | None:
    from ..errors import InvalidOption

    if text is not None and text.lower() not in ("true", "false"):
        raise InvalidOption(f"--tls-verify is {text!r}, not true or false")
    return None if text is None else text.lower() == "true"


def _login(username: str | None, password_stdin: bool) -> tuple[str, str] | None:
    from ..errors import InvalidOption

    if username is None:
        if password_stdin:
            raise InvalidOption("--password-stdin needs --username")
        return None
    if password_stdin:
        return username, sys.stdin.read(_MAX_PASSWORD).rstrip("\r\n")
    if not sys.stdin.isatty():
        raise InvalidOption("no password", hint="use --password-stdin")
    return username, str(typer.prompt("Password", hide_input=True, err=True))


def _parameter(name: str) -> inspect.Parameter:
    kind, default = _TYPES[name]
    option = typer.Option(f"--{name.replace('_', '-')}", help=_HELP[name])
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, option],
    )
