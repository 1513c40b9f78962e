"""What commands get from the user: names, and the settings that complete them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from ..reference import Reference

if TYPE_CHECKING:
    from ..settings import Settings

_GRAMMAR = "[HOST[:PORT]/]PATH[:TAG][@sha256:DIGEST]"
Name = Annotated[str, typer.Argument(metavar="NAME", help=_GRAMMAR)]
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help=_GRAMMAR)]


def load_settings() -> Settings:
    """The settings of this process's environment."""
    from ..settings import Settings

    return Settings.load(os.environ)


def parse_name(text: str) -> Reference:
    """A name as the user typed it, completed with the settings' defaults."""
    return load_settings().parse(text)


def settings_for(*, plain_http: bool, insecure: bool) -> Settings:
    """The settings, with what a command's flags say of the registries that it speaks to."""
    from ..settings import RegistrySettings

    flags = RegistrySettings(
        plain_http=True if plain_http else None, tls_verify=False if insecure else None
    )
    return load_settings().with_flags(flags)
