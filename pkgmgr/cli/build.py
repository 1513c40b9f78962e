"""The command that makes models: create."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ModelfileError
from .names import Name, parse_name
from .options import Json, Quiet
from .output import Output

# A Modelfile is text that somebody wrote; more than this is some other file, given by mistake.
_MAX_MODELFILE = 64 << 20
_STDIN = Path("-")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("create")(create)


def create(
    name: Name,
    file: Annotated[
        Path, typer.Option("--file", "-f", help="The Modelfile; `-` reads standard input.")
    ] = Path("Modelfile"),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a model from a Modelfile, and print its digest."""
    from ..modelfile.build import create as build
    from ..modelfile.syntax import parse
    from ..store.store import Store

    reference = parse_name(name)
    modelfile = parse(_read(file))
    base_dir = Path.cwd() if file == _STDIN else file.parent
    output = Output(as_json=as_json, quiet=quiet)
    with output.progress(f"creating {reference.familiar}") as on_event:
        descriptor = build(Store.open(), modelfile, reference, base_dir=base_dir, on_event=on_event)
    output.result(
        {"name": reference.familiar, "digest": str(descriptor.digest)},
        lines=[str(descriptor.digest)],
    )


def _read(path: Path) -> str:
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
    if len(raw) > _MAX_MODELFILE:
        raise ModelfileError("too long for a Modelfile", path=path)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        hint = None
        if raw.startswith(b"GGUF"):
            hint = f"this is a model file; write a Modelfile with the line FROM {path}"
        raise ModelfileError("not UTF-8 text", path=path, hint=hint) from error
