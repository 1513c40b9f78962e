"""What only a room above can tell, for commands of this one."""

from __future__ import annotations

import importlib
from typing import Any

import typer

from ..errors import InvalidOption


def service(context: typer.Context, name: str, *, option: str) -> Any:
    """A function that the whole program has (`LazyGroup.services`).

    Raises:
        InvalidOption: the package manager runs alone, so `option` cannot be served.
    """
    place = getattr(context.find_root().command, "services", {}).get(name)
    if place is None:
        raise InvalidOption(f"{option} needs pannier's runtime")
    module, _, function = place.partition(":")
    return getattr(importlib.import_module(module), function)
