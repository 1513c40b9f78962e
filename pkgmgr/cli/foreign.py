"""The halves of export and import that speak other tools' forms: Ollama's store, Docker's tar."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..errors import InvalidOption
from ..store.store import Store
from .names import parse_name
from .output import Output

if TYPE_CHECKING:
    from ..reference import Reference

_PIPE = "-"
_DOCKER = "docker"


def export(
    names: Sequence[str],
    out: str,
    *,
    form: str,
    ollama_store: Path | None,
    link: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write models into an Ollama store, or one into the tar that Docker loads."""
    references = [parse_name(name) for name in names]
    output = Output(as_json=as_json, quiet=quiet)
    if ollama_store is not None:
        _export_ollama(references, ollama_store.expanduser(), link, output)
    elif form != _DOCKER:
        raise typer.BadParameter("it is `oci` or `docker`", param_hint="--format")
    elif len(references) != 1 or not out:
        raise typer.BadParameter("docker's tar holds one model; name the file with -o")
    else:
        _export_docker(references[0], out, output)


def import_ollama(
    root: Path, names: Sequence[Reference], *, everything: bool, link: bool, output: Output
) -> None:
    """Take models from an Ollama store; without names and --all, tell which there are."""
    from ..ollama_store import import_models, list_models

    if not names and not everything:
        found = ", ".join(item.reference.familiar for item in list_models(root)[:20])
        raise InvalidOption(
            "name the models to import from the Ollama store, or say --all",
            hint=f"it has {found}" if found else "it has none",
        )
    with output.progress(f"importing from {root}") as on_event:
        done = import_models(
            Store.open(), root, None if everything else names, link=link, on_event=on_event
        )
    output.result(
        {
            "models": [
                {"name": reference.familiar, "digest": str(descriptor.digest)}
                for reference, descriptor in done
            ],
            "lacking": [],
        },
        lines=[f"{descriptor.digest} {reference.familiar}" for reference, descriptor in done],
    )


def _export_ollama(references: Sequence[Reference], root: Path, link: bool, output: Output) -> None:
    from ..ollama_store import export_models

    with output.progress(f"exporting to {root}") as on_event:
        done = export_models(Store.open(), references, root, link=link, on_event=on_event)
    output.result(
        {"models": [{"name": ref.familiar, "digest": str(digest)} for ref, digest in done]},
        lines=[f"{digest} {ref.familiar}" for ref, digest in done],
    )


def _export_docker(reference: Reference, out: str, output: Output) -> None:
    from ..bundle.export import output_file
    from ..docker_tar import write_docker_tar

    with output.progress(f"exporting to {out}") as on_event:
        if out == _PIPE:
            write_docker_tar(Store.open(), reference, sys.stdout.buffer, on_event=on_event)
            return
        with output_file(Path(out)) as stream:
            converted = write_docker_tar(Store.open(), reference, stream, on_event=on_event)
    digest = str(converted.descriptor.digest)
    output.result({"file": out, "digest": digest}, lines=[f"{digest} {out}"])
