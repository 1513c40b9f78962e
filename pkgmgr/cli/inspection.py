"""Commands that look at models and Modelfiles: inspect, diff, lint, fmt."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ModelfileError, ModelNotFound
from ..settings import Settings
from ..store.store import Store
from .exits import DONE, FAILED
from .names import Name
from .network import with_network
from .options import Json, Quiet
from .output import Output, human_size, one_line, plain

if TYPE_CHECKING:
    from ..compare import Change, Side
    from ..inspecting import Annotated as InspectedManifest

ModelfilePath = Annotated[Path, typer.Argument(metavar="MODELFILE")]
_DEFAULT = Path("Modelfile")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("inspect")(with_network(inspect))
    app.command("diff")(with_network(diff))
    app.command("lint")(lint)
    app.command("fmt")(format_modelfile)


def inspect(
    name: Name,
    settings: Settings,
    as_json: Json = False,
    remote: Annotated[
        bool, typer.Option("--remote", help="Ask the registry; nothing is stored.")
    ] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="The manifest's bytes exactly as they are stored.")
    ] = False,
) -> None:
    """Print the manifest of a model, and what it means."""
    from ..inspecting import annotate_remote, annotate_stored

    reference = settings.parse(name)
    if remote:
        settings = replace(settings, login_host=reference.host)
        found = annotate_remote(reference, settings=settings)
    else:
        found = annotate_stored(Store.open(settings.home), reference)
    if raw:
        sys.stdout.buffer.write(found.document.content.raw)
        return
    Output(as_json=as_json).result(_record(found), lines=_inspect_lines(found))


def diff(
    old: Name,
    new: Name,
    settings: Settings,
    shapes: Annotated[
        bool, typer.Option("--shapes", help="Do not read tensors: compare shapes only.")
    ] = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 1 where there is a difference.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Tell what differs between two models.

    What is not in the store is asked of its registry.
    """
    from ..compare import compare

    with ExitStack() as closing:
        store = Store.open(settings.home)
        sides = [_side(closing, store, name, settings) for name in (old, new)]
        changes = compare(*sides, tensors=not shapes)
    Output(as_json=as_json).result(
        {
            "old": str(sides[0].manifest.descriptor.digest),
            "new": str(sides[1].manifest.descriptor.digest),
            "changes": [
                {"kind": item.kind, "key": item.key, "old": item.old, "new": item.new}
                for item in changes
            ],
        },
        lines=[line for item in changes for line in _lines(item)],
    )
    if changes and exit_code:
        raise typer.Exit(FAILED)


def lint(path: ModelfilePath = _DEFAULT, as_json: Json = False) -> None:
    """Look through a Modelfile.

    Exits with 1 where it cannot be built.
    """
    from ..modelfile.lint import Severity
    from ..modelfile.lint import lint as look

    findings = look(_read(path), base_dir=path.parent, path=path)
    Output(as_json=as_json).result(
        {
            "findings": [
                {"severity": str(item.severity), "line": item.line, "message": item.message}
                for item in findings
            ]
        },
        lines=[
            f"{path}:{f'{item.line}:' if item.line else ''} {item.severity}: {plain(item.message)}"
            for item in findings
        ],
    )
    failed = any(item.severity is Severity.ERROR for item in findings)
    raise typer.Exit(FAILED if failed else DONE)


def format_modelfile(
    path: ModelfilePath = _DEFAULT,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit with 1 where it would change.")
    ] = False,
    stdout: Annotated[bool, typer.Option("--stdout", help="Print it instead.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a Modelfile in its plain form.

    `-` goes from standard input to standard output.
    """
    from ..modelfile.syntax import parse, render
    from ..store.files import disk_errors, replace_file

    before = _read(path)
    after = render(parse(before, path=path))
    is_changed = before != after
    if stdout or str(path) == "-":
        sys.stdout.write(after)
        return
    output = Output(as_json=as_json, quiet=quiet)
    if is_changed and not check:
        with disk_errors(path):
            replace_file(path, after.encode(), mode=path.stat().st_mode & 0o777)
    output.result({"path": str(path), "changed": is_changed})
    if is_changed and not as_json:
        output.notice(f"{path} {'would change' if check else 'is written in plain form'}")
    if is_changed and check:
        raise typer.Exit(FAILED)


def _record(found: InspectedManifest) -> dict[str, Any]:
    document = found.document
    return {
        "name": document.reference.familiar,
        "digest": str(document.descriptor.digest),
        "size": document.descriptor.size,
        "media_type": document.descriptor.media_type or document.content.descriptor.media_type,
        "dialect": found.dialect,
        "problem": found.problem,
        "layers": [
            {
                "role": str(part.role),
                "file": part.filename,
                "media_type": part.descriptor.media_type,
                "digest": str(part.descriptor.digest),
                "size": part.descriptor.size,
                "packed": part.is_packed,
            }
            for part in found.parts
        ],
        "variants": [
            {
                "digest": str(item.descriptor.digest),
                "size": item.size,
                "labels": list(item.labels),
            }
            for item in found.variants
        ],
        "provenance": dict(found.provenance),
        "manifest": json.loads(document.content.raw),
    }


def _inspect_lines(found: InspectedManifest) -> Iterator[str]:
    document = found.document
    yield f"{one_line(document.reference.familiar)} {document.descriptor.digest}"
    yield f"dialect {found.dialect}" + (f": {one_line(found.problem)}" if found.problem else "")
    for part in found.parts:
        size = human_size(part.descriptor.size)
        name = one_line(part.filename or part.descriptor.media_type)
        packed = " (packed)" if part.is_packed else ""
        yield f"  {part.role:<15} {part.descriptor.digest.short}  {size:>8}  {name}{packed}"
    for item in found.variants:
        yield f"  variant         {item.descriptor.digest.short}  {one_line(str(item))}"
    for key, value in found.provenance.items():
        yield f"  {one_line(key)}: {one_line(value)}"
    value = json.loads(document.content.raw)
    yield plain(json.dumps(value, ensure_ascii=False, indent=2))


def _read(path: Path) -> str:
    from ..modelfile.syntax import decode

    try:
        raw = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise ModelfileError(str(error.strerror), path=path) from error
    return decode(raw, path=path)


def _side(closing: ExitStack, store: Store, name: str, settings: Settings) -> Side:
    from .. import operations
    from ..compare import Side
    from ..inspecting import remote_side

    reference = settings.parse(name)
    try:
        model = operations.read_model(store, reference)
    except ModelNotFound:
        return remote_side(closing, reference, settings=settings)
    return Side(
        reference.familiar,
        model.manifest,
        model.spec,
        lambda item, offset: store.fetch(item, offset=offset),
    )


def _lines(change: Change) -> list[str]:
    if change.diff:
        return [f"{change.kind} {change.key}", *(f"  {plain(line)}" for line in change.diff)]
    head = f"{change.kind} {plain(change.key)}"
    if change.old is None or change.new is None:
        sign, value = ("+", change.new) if change.old is None else ("-", change.old)
        return [f"{sign} {head}: {plain(value or '')}"]
    return [f"~ {head}", f"    - {plain(change.old)}", f"    + {plain(change.new)}"]
