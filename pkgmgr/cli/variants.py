"""Commands on the shapes of models: convert, index create."""

from __future__ import annotations

from typing import Annotated

import typer

from ..store.store import Store
from .names import Name, parse_name
from .options import Json, Quiet, Strict
from .output import Output


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("convert")(convert)
    inside = typer.Typer(help="One name for several models, such as quantizations of one.")
    inside.callback()(_index)
    inside.command("create")(create_index)
    app.add_typer(inside, name="index")


def _index() -> None:
    """Keeps `index` a group although it has one command."""


def convert(
    source: Name,
    destination: Name,
    dialect: Annotated[
        str, typer.Option("--as", metavar="DIALECT", help="modelpack, ollama or docker.")
    ],
    strict: Strict = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a stored model in another dialect.

    Gives it a name and prints its digest.
    """
    from ..conversion import convert_stored

    store, target = Store.open(), parse_name(destination)
    output = Output(as_json=as_json, quiet=quiet)
    with store.lease():
        converted = convert_stored(store, parse_name(source), dialect, strict=strict)
        store.tag(converted.descriptor, target)
    for line in converted.dropped:
        output.notice(f"as {dialect} it loses {line}")
    output.result(
        {
            "name": target.familiar,
            "digest": str(converted.descriptor.digest),
            "dialect": dialect,
            "dropped": list(converted.dropped),
        },
        lines=[str(converted.descriptor.digest)],
    )


def create_index(
    name: Name,
    sources: Annotated[
        list[str],
        typer.Option("--from", metavar="NAME", help="A stored model; repeat for each."),
    ],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make one name stand for several stored models.

    Prints the digest of the index.
    """
    from .. import variants

    reference = parse_name(name)
    descriptor = variants.create_index(
        Store.open(), reference, [parse_name(source) for source in sources]
    )
    Output(as_json=as_json, quiet=quiet).result(
        {"name": reference.familiar, "digest": str(descriptor.digest)},
        lines=[str(descriptor.digest)],
    )
