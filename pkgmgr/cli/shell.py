"""Commands about pannier itself: completion, version."""

from __future__ import annotations

from importlib import metadata

import typer

from .options import Json
from .output import Output


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("version")(version)


def version(as_json: Json = False) -> None:
    """Print the version."""
    Output(as_json=as_json).result({"version": version_number()}, lines=[version_text()])


def version_text() -> str:
    """The line that `--version` prints."""
    return f"pannier {version_number()}"


def version_number() -> str:
    """The installed version."""
    return metadata.version("pannier")
