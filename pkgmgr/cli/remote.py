"""Commands about places elsewhere: copy, tags, search."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from ..settings import Settings
from .names import Name
from .network import with_network
from .options import Json, Quiet
from .output import Output

Place = Annotated[str, typer.Argument(metavar="PLACE", help="A name, or oci:DIRECTORY[:TAG].")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("copy")(with_network(copy))
    app.command("tags")(with_network(tags))
    app.command("search")(with_network(search))


def copy(
    source: Place,
    destination: Place,
    settings: Settings,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Copy a model between registries and OCI layouts."""
    from ..places import copy_between, parse_place

    origin, goal = parse_place(source, settings), parse_place(destination, settings)
    settings = replace(settings, login_host=goal.reference.host)
    output = Output(as_json=as_json, quiet=quiet)
    with output.progress(f"copying {source}") as on_event:
        root = copy_between(origin, goal, settings=settings, on_event=on_event)
    record = {"source": source, "destination": destination, "digest": str(root.digest)}
    output.result(record, lines=[str(root.digest)])


def tags(name: Name, settings: Settings, as_json: Json = False, quiet: Quiet = False) -> None:
    """Print the tags of a repository."""
    from .. import places

    reference = settings.parse(name)
    settings = replace(settings, login_host=reference.host)
    found = places.tags(reference, settings=settings)
    place = f"{reference.host}/{reference.repository}"
    Output(as_json=as_json, quiet=quiet).result({"name": place, "tags": list(found)}, lines=found)


def search(
    host: Annotated[str, typer.Argument(metavar="REGISTRY", help="Host of a registry.")],
    settings: Settings,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[WORD]…", help="What names must hold.")
    ] = None,
    limit: Annotated[int, typer.Option(help="At most so many names.")] = 100,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Print the repositories of a registry that lists them."""
    from .. import places

    settings = replace(settings, login_host=host)
    found = places.search(host, tuple(words or ()), settings=settings, limit=limit)
    Output(as_json=as_json, quiet=quiet).result({"repositories": list(found)}, lines=found)
