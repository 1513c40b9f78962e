"""Commands between this machine and registries: push, pull."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import operations
from ..store.store import Store
from .names import Name, parse_name, settings_for
from .options import Insecure, Json, PlainHttp, Quiet
from .output import Output


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("push")(push)
    app.command("pull")(pull)


def push(
    name: Name,
    destination: Annotated[
        str | None,
        typer.Argument(metavar="DESTINATION", help="Where to, if not where the name says."),
    ] = None,
    plain_http: PlainHttp = False,
    insecure: Insecure = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Copy a model to a registry, and print its digest."""
    reference = parse_name(name)
    target = parse_name(destination) if destination else reference
    output = Output(as_json=as_json, quiet=quiet)
    with output.progress(f"pushing {target.familiar}") as on_event:
        descriptor = operations.push(
            Store.open(),
            reference,
            target,
            settings=settings_for(plain_http=plain_http, insecure=insecure),
            on_event=on_event,
        )
    output.result(
        {"name": target.familiar, "digest": str(descriptor.digest)},
        lines=[str(descriptor.digest)],
    )


def pull(
    name: Name,
    plain_http: PlainHttp = False,
    insecure: Insecure = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Copy a model from a registry into the store, and print its digest."""
    reference = parse_name(name)
    output = Output(as_json=as_json, quiet=quiet)
    with output.progress(f"pulling {reference.familiar}") as on_event:
        descriptor = operations.pull(
            Store.open(),
            reference,
            settings=settings_for(plain_http=plain_http, insecure=insecure),
            on_event=on_event,
        )
    output.result(
        {"name": reference.familiar, "digest": str(descriptor.digest)},
        lines=[str(descriptor.digest)],
    )
