"""The command that makes models: create."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .. import operations
from ..errors import ModelfileError
from .names import Name, load_settings
from .options import Json
from .output import Output
from .services import service

# A Modelfile is text that somebody wrote; more than this is some other file, given by mistake.
_MAX_MODELFILE = 64 << 20
_STDIN = Path("-")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("create")(create)


def create(
    context: typer.Context,
    name: Name,
    file: Annotated[
        Path, typer.Option("--file", "-f", help="The Modelfile; `-` reads standard input.")
    ] = Path("Modelfile"),
    kind: Annotated[
        str | None,
        typer.Option(
            "--quantize", "-q", metavar="TYPE", help="Make the weights smaller: q4_K_M, q8_0, …"
        ),
    ] = None,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress and no notes.")] = False,
) -> None:
    """Make a model from a Modelfile, and print its digest."""
    from ..modelfile.build import create as build
    from ..modelfile.syntax import decode, parse
    from ..store.store import Store

    settings = load_settings()
    reference = settings.parse(name)
    is_stdin = file == _STDIN
    modelfile = parse(decode(_read(file)), path=None if is_stdin else file)
    store = Store.open(settings.home)
    output = Output(as_json=as_json, quiet=quiet)
    quantizer = None
    if kind is not None:
        quantizer = service(context, "quantizer", option="--quantize")(kind, output.steps)
    with output.progress(f"creating {reference.familiar}") as on_event:
        descriptor = build(
            store,
            modelfile,
            reference,
            base_dir=Path.cwd() if is_stdin else file.parent,
            on_event=on_event,
            fetch=lambda base: operations.pull(store, base, settings=settings, on_event=on_event),
            quantizer=quantizer,
        )
    output.result(
        {"name": reference.familiar, "digest": str(descriptor.digest)},
        lines=[str(descriptor.digest)],
    )


def _read(path: Path) -> bytes:
    try:
        if path == _STDIN:
            raw = sys.stdin.buffer.read(_MAX_MODELFILE + 1)
        else:
            with path.open("rb") as stream:
                raw = stream.read(_MAX_MODELFILE + 1)
    except OSError as error:
        raise ModelfileError(
            str(error.strerror), path=path, hint="name the Modelfile with -f PATH"
        ) from error
    if raw.startswith(b"GGUF"):
        hint = f"write a Modelfile with the line: FROM {path}"
        raise ModelfileError("this is a model, not a Modelfile", path=path, hint=hint)
    if len(raw) > _MAX_MODELFILE:
        raise ModelfileError("too long for a Modelfile", path=path)
    return raw
