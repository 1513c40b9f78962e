"""Commands between this machine and registries: push, pull."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from .. import operations
from ..settings import Settings
from ..store.store import Store
from .names import Name
from .network import with_network
from .options import Json, Quiet, Strict
from .output import Output

if TYPE_CHECKING:
    from ..reference import Reference


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("push")(with_network(push))
    app.command("pull")(with_network(pull))


def push(
    name: Name,
    settings: Settings,
    destination: Annotated[
        str | None,
        typer.Argument(metavar="DESTINATION", help="Where to, if not where the name says."),
    ] = None,
    dialects: Annotated[
        list[str] | None,
        typer.Option("--as", metavar="DIALECT", help="modelpack, ollama or docker; repeatable."),
    ] = None,
    tag_pattern: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="Tags of several dialects: {tag}-{dialect}."),
    ] = None,
    strict: Strict = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Copy a model to a registry, and print its digest."""
    reference = settings.parse(name)
    target = settings.parse(destination) if destination else reference
    settings = replace(settings, login_host=target.host)
    output = Output(as_json=as_json, quiet=quiet)
    wanted = dialects or _default_dialects(settings, target)
    if wanted:
        _push_as(output, reference, target, wanted, tag_pattern, strict, settings)
        return
    with output.progress(f"pushing {target.familiar}") as on_event:
        descriptor = operations.push(
            Store.open(),
            reference,
            target,
            settings=settings,
            on_event=on_event,
        )
    output.result(
        {"name": target.familiar, "digest": str(descriptor.digest)},
        lines=[str(descriptor.digest)],
    )


def _default_dialects(settings: Settings, target: Reference) -> list[str]:
    dialect = settings.registry(target.host, target.repository).dialect
    return [dialect] if dialect else []


def _push_as(
    output: Output,
    reference: Reference,
    target: Reference,
    dialects: list[str],
    pattern: str | None,
    strict: bool,
    settings: Settings,
) -> None:
    from ..conversion import push_as

    with output.progress(f"pushing {target.familiar}") as on_event:
        pushed = push_as(
            Store.open(),
            reference,
            target,
            dialects,
            settings=settings,
            pattern=pattern,
            strict=strict,
            on_event=on_event,
        )
    records = [
        {
            "name": name.familiar,
            "digest": str(item.descriptor.digest),
            "dialect": item.dialect,
            "dropped": list(item.dropped),
        }
        for name, item in pushed
    ]
    if len(records) == 1:
        output.result(records[0], lines=[str(records[0]["digest"])])
        return
    lines = [f"{record['digest']} {record['name']}" for record in records]
    output.result({"pushed": records}, lines=lines)


def pull(
    name: Name,
    settings: Settings,
    variant: Annotated[
        str | None,
        typer.Option(help="Which model of an index: a quantization, tag or platform, or `all`."),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Copy a model from a registry, and print its digest."""
    reference = settings.parse(name)
    output = Output(as_json=as_json, quiet=quiet)
    with output.progress(f"pulling {reference.familiar}") as on_event:
        descriptor = operations.pull(
            Store.open(),
            reference,
            settings=replace(settings, login_host=reference.host),
            on_event=on_event,
            variant=variant,
        )
    output.result(
        {"name": reference.familiar, "digest": str(descriptor.digest)},
        lines=[str(descriptor.digest)],
    )
