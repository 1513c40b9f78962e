"""Commands about pannier itself: completion, version."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import InvalidOption, PannierError
from .options import Json
from .output import Output


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("completion")(completion)
    app.command("version")(version)
    app.command("__complete", hidden=True)(complete)


def completion(
    shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Print the script that lets a shell complete commands.

    For bash: pannier completion bash > ~/.local/share/bash-completion/completions/pannier
    """
    from .completion import SCRIPTS

    if shell not in SCRIPTS:
        raise InvalidOption(f"no completion for {shell!r}", hint="one of bash, zsh and fish")
    print(SCRIPTS[shell].strip("\n"))


def complete(
    ctx: typer.Context, words: Annotated[list[str] | None, typer.Argument()] = None
) -> None:
    """Print what may come next; for the scripts of `completion`."""
    from .completion import candidates

    root = ctx.find_root()
    for candidate in candidates(root.command, root, words or [], _model_names()):
        print(candidate)


def version(as_json: Json = False) -> None:
    """Print the version."""
    Output(as_json=as_json).result({"version": version_number()}, lines=[version_text()])


def version_text() -> str:
    """The line that `--version` prints."""
    return f"pannier {version_number()}"


def version_number() -> str:
    """The installed version."""
    from importlib import metadata

    return metadata.version("pannier")


def _model_names() -> list[str]:
    from ..attachments import model_entries
    from ..store.store import Store

    try:
        return [entry.reference.familiar for entry in model_entries(Store.open())]
    except (PannierError, OSError):
        return []
