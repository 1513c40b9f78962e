"""The part of `pannier key` that is about who may use this node's registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InvalidOption
from .names import load_settings
from .options import Json, Quiet
from .output import Output

if TYPE_CHECKING:
    from ..access import Keyring

KeyName = Annotated[str | None, typer.Option("--name", help="What `key list` calls it.")]
PullOnly = Annotated[bool, typer.Option("--pull-only", help="It may not push or delete.")]


def add_access_commands(group: typer.Typer) -> None:
    """Add these commands to the group `key`, which `pannier.pkgmgr.cli.trust` makes."""
    group.command("add")(add)
    group.command("add-ollama")(add_ollama)
    group.command("list")(list_keys)
    group.command("rm")(remove)


def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who will use it.")],
    pull_only: PullOnly = False,
    as_json: Json = False,
) -> None:
    """Make a key that lets somebody use the registry.

    It is a password for docker login, skopeo, oras and pannier login.
    """
    key, text = _keyring().add_secret(name=name, scopes=_scopes(pull_only))
    output = Output(as_json=as_json)
    output.result({"id": key.id, "name": key.name, "key": text}, lines=[text])
    output.notice("shown only now; it is the password, with any user name")


def add_ollama(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.pub", help="~/.ollama/id_ed25519.pub of a client.")
    ],
    name: KeyName = None,
    pull_only: PullOnly = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Let an Ollama installation in, by its own key."""
    try:
        line = file.read_text(encoding="ascii")
    except UnicodeDecodeError as error:
        raise InvalidOption(f"{file} is no public key") from error
    key = _keyring().add_ollama(line, name=name, scopes=_scopes(pull_only))
    output = Output(as_json=as_json, quiet=quiet)
    output.result({"id": key.id, "name": key.name})
    if not as_json:
        output.notice(f"added {key.name} as {key.id}")


def list_keys(as_json: Json = False) -> None:
    """List the keys; secrets are not kept."""
    keys = list(_keyring().keys().values())
    Output(as_json=as_json).table(
        ("ID", "NAME", "KIND", "MAY"),
        [(key.id, key.name, key.kind, ", ".join(key.scopes)) for key in keys],
        records=[
            {"id": key.id, "name": key.name, "kind": key.kind, "scopes": list(key.scopes)}
            for key in keys
        ],
    )


def remove(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `key list` shows it.")],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Forget a key, at once. Without any key left, nobody gets in."""
    keyring = _keyring()
    key = keyring.remove(key_id)
    output = Output(as_json=as_json, quiet=quiet)
    output.result({"id": key.id, "name": key.name})
    if not as_json:
        output.notice(f"removed {key.name}; remove {keyring.path} to let everybody in")


def _keyring() -> Keyring:
    from ..access import Keyring

    return Keyring(load_settings().home)


def _scopes(pull_only: bool) -> tuple[str, ...]:
    from ..access import PULL, PUSH

    return (PULL,) if pull_only else (PULL, PUSH)
