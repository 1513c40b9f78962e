"""Commands about credentials: login, logout."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ..errors import InvalidOption, NotFound
from ..reference import Reference
from ..settings import Settings
from .names import load_settings
from .network import with_tls
from .options import Json, Quiet
from .output import Output

Host = Annotated[str, typer.Argument(metavar="HOST[:PORT]", help="The registry.")]
_MAX_PASSWORD = 64 << 10


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("login")(with_tls(login))
    app.command("logout")(logout)


def login(
    host: Host,
    settings: Settings,
    username: Annotated[str | None, typer.Option("--username", "-u", help="Who you are.")] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check and keep the credentials of a registry."""
    from ..transfer.credentials import Credential
    from ..transfer.open import open_keychain, open_registry

    reference = _some_name(host)
    if username is None:
        if not sys.stdin.isatty():
            raise InvalidOption("no user name", hint="use --username, and --password-stdin")
        username = typer.prompt("Username", err=True)
    credential = Credential(str(username), _password(password_stdin))
    with open_registry(reference, settings=settings, credential=credential) as registry:
        registry.ping()
    place = open_keychain(settings).store(reference.host, credential)
    output = Output(as_json=as_json, quiet=quiet)
    output.result({"host": reference.host, "stored_in": place})
    if not as_json:
        output.notice(f"logged in to {reference.host}; credentials are in {place}")


def logout(host: Host, as_json: Json = False, quiet: Quiet = False) -> None:
    """Forget the credentials of a registry."""
    from ..transfer.open import open_keychain

    reference = _some_name(host)
    if not open_keychain(load_settings()).erase(reference.host):
        raise NotFound(f"no credentials for {reference.host}")
    output = Output(as_json=as_json, quiet=quiet)
    output.result({"host": reference.host})
    if not as_json:
        output.notice(f"logged out of {reference.host}")


def _some_name(host: str) -> Reference:
    """A name on that host, so that hosts are read by the rules of names."""
    host = host.removeprefix("https://").rstrip("/")
    if "/" in host:
        raise InvalidOption(f"{host!r} is no registry host", hint="credentials are kept by host")
    if not any(sign in host for sign in ".:") and host != "localhost":
        raise InvalidOption(f"{host!r} is no registry host", hint="did you mean a full host name?")
    return Reference.parse(f"{host}/x")


def _password(from_stdin: bool) -> str:
    if from_stdin:
        password = sys.stdin.read(_MAX_PASSWORD).rstrip("\r\n")
    elif sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, err=True)
    else:
        raise InvalidOption("no password", hint="use --password-stdin")
    if not password:
        raise InvalidOption("the password is empty")
    return str(password)
