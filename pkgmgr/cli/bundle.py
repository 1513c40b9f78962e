"""Commands for bundles: export, import, bundle list, bundle verify."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InvalidOption, NoSpace, NotFound
from ..store.store import Store
from .names import Names, parse_name
from .options import Json, Quiet
from .output import Output, human_size

if TYPE_CHECKING:
    from ..bundle.load import Loaded
    from ..bundle.plan import Plan
    from ..bundle.source import Item
    from ..reference import Reference

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([KMGT]?)(i?)B?", re.IGNORECASE)
_POWERS = " KMGT"
_PIPE = "-"
_STDOUT = "/dev/stdout"

Link = Annotated[
    bool, typer.Option("--link", help="With an Ollama store: share files by hard link.")
]
BundlePath = Annotated[Path, typer.Argument(metavar="FILE|DIR", help="A bundle or OCI layout.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("export")(export)
    app.command("import")(import_bundle)
    inside = typer.Typer(help="Look into bundles without importing them.")
    inside.command("list")(list_bundle)
    inside.command("verify")(verify_bundle)
    app.add_typer(inside, name="bundle")


def export(
    names: Names,
    out: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE|DIR/|-", help="Where to write.")
    ] = "",
    split: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Write volumes of this size (4G fits FAT32)."),
    ] = None,
    since: Annotated[
        list[str] | None,
        typer.Option(
            metavar="BUNDLE|NAME", help="Leave out what the other side has; may be repeated."
        ),
    ] = None,
    bare: Annotated[
        bool, typer.Option("--bare", help="Without signatures and other attachments.")
    ] = False,
    form: Annotated[
        str, typer.Option("--format", metavar="oci|docker", help="docker: for its `model load`.")
    ] = "oci",
    ollama_store: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write into Ollama's store (its models directory)."),
    ] = None,
    link: Link = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write models into a bundle.

    An OCI archive, volumes of one, or (DIR/) an OCI layout.
    """
    if ollama_store is not None or form != "oci":
        from . import foreign

        foreign.export(
            names,
            out,
            form=form,
            ollama_store=ollama_store,
            link=link,
            as_json=as_json,
            quiet=quiet,
        )
        return
    from ..bundle.export import is_device

    if not out:
        raise typer.BadParameter("name a FILE, a DIR/ or - with -o", param_hint="--output")
    if split and (out == _PIPE or _is_directory(out) or is_device(Path(out))):
        raise InvalidOption("--split makes volumes of a file, not of a pipe or a directory")
    out = _PIPE if out == _STDOUT else out
    store = Store.open()
    volume_size = parse_size(split) if split else None
    made = _plan(
        store, [parse_name(name) for name in names], since or [], with_attachments=not bare
    )
    output = Output(as_json=as_json, quiet=quiet)
    files = _write(store, made, out, volume_size, output)
    if out != _PIPE:
        _report(output, made, files)


def _write(
    store: Store, made: Plan, out: str, volume_size: int | None, output: Output
) -> list[str]:
    """Write a planned bundle to where `out` says; gives the names of its files."""
    from ..bundle import export as writer

    with output.progress(f"exporting to {out}") as on_event, _room_hint():
        if out == _PIPE:
            writer.write_tar(made, store, sys.stdout.buffer, on_event=on_event)
            sys.stdout.buffer.flush()
        elif _is_directory(out):
            writer.write_directory(made, store, Path(out), on_event=on_event)
        elif volume_size is not None:
            volumes = writer.write_volumes(
                made, store, Path(out), size=volume_size, on_event=on_event
            )
            return [str(path) for path in volumes]
        else:
            writer.write_file(made, store, Path(out), on_event=on_event)
    return [out]


@contextmanager
def _room_hint() -> Iterator[None]:
    """What to do about a full medium is not what to do about a full store."""
    try:
        yield
    except NoSpace as error:
        error.hint = "make room there, or write volumes for several media with --split"
        raise


def _is_directory(out: str) -> bool:
    return out.endswith("/") or Path(out).is_dir()


def import_bundle(
    source: Annotated[
        str, typer.Argument(metavar="FILE|DIR|-", help="A bundle, an OCI layout, or a pipe.")
    ],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Only these models.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every model of an Ollama store.")
    ] = False,
    link: Link = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Bring models in from a bundle, and print their digests.

    Everything is verified; a model comes whole or not at all.
    """
    from ..ollama_store import find_ollama_store

    wanted = [parse_name(name) for name in names or []]
    output = Output(as_json=as_json, quiet=quiet)
    if root := find_ollama_store(source):
        from . import foreign

        foreign.import_ollama(root, wanted, everything=everything, link=link, output=output)
        return
    done = _load(source, wanted, output)
    output.result(
        {
            "models": [
                {"name": reference.familiar, "digest": str(descriptor.digest)}
                for reference, descriptor in done.models
            ],
            "lacking": list(done.lacking),
        },
        lines=[f"{descriptor.digest} {ref.familiar}" for ref, descriptor in done.models],
    )
    done.require_complete()


def list_bundle(path: BundlePath, as_json: Json = False) -> None:
    """List the models of a bundle, and what it left out."""
    from ..bundle.look import held
    from ..bundle.source import open_bundle

    with _found(path), open_bundle(path) as bundle:
        models = held(bundle)
        damage = bundle.damage
        if bundle.damaged and not damage:
            damage = f"a manifest is damaged: `pannier bundle verify {path}` says whose"
    output = Output(as_json=as_json)
    output.table(
        ("NAME", "DIGEST", "SIZE", "ATTACHED", "LEFT OUT"),
        (
            (
                _called(model.item),
                model.item.descriptor.digest.short,
                human_size(model.size),
                str(model.num_attachments),
                human_size(sum(part.size for part in model.absent)) if model.absent else "-",
            )
            for model in models
        ),
        records=(
            {
                "name": _called(model.item),
                "digest": str(model.item.descriptor.digest),
                "size": model.size,
                "attachments": model.num_attachments,
                "absent": [str(part.digest) for part in model.absent],
                "from_delta": [str(part.digest) for part in model.from_delta],
            }
            for model in models
        ),
    )
    if damage:
        output.notice(f"note: {damage}")


def _called(item: Item) -> str:
    return item.reference.familiar if item.reference else item.name


def verify_bundle(path: BundlePath, as_json: Json = False, quiet: Quiet = False) -> None:
    """Say what is damaged or missing in a bundle."""
    from ..bundle.look import verify_path
    from ..errors import InvalidBundle

    output = Output(as_json=as_json, quiet=quiet)
    with _found(path), output.progress(f"verifying {path}") as on_event:
        problems = verify_path(path, on_event=on_event)
    output.result(
        {"bundle": str(path), "problems": list(problems)},
        lines=problems or [f"{path} is in good order"],
    )
    if problems:
        raise InvalidBundle(str(path), "it is damaged; see above")


def parse_size(text: str) -> int:
    """Bytes from `700M` (powers of 1000) or `4GiB` (powers of 1024).

    Raises:
        InvalidOption: for anything else.

    >>> parse_size("4G"), parse_size("1KiB"), parse_size("123")
    (4000000000, 1024, 123)
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidOption(f"{text!r} is no size", hint="sizes look like 700M, 4G or 4GiB")
    base = 1024 if match[3] else 1000
    return int(float(match[1]) * base ** _POWERS.index(match[2].upper() or " "))


def _plan(
    store: Store, references: list[Reference], since: list[str], *, with_attachments: bool
) -> Plan:
    from ..bundle import delta
    from ..bundle.plan import plan
    from ..bundle.since import known_digests
    from ..bundle.volumes import volume_path

    paths = [Path(text) for text in since]
    bundles = [path for path in paths if path.exists() or volume_path(path, 1).exists()]
    others = [
        _base(store, text) for text, path in zip(since, paths, strict=True) if path not in bundles
    ]
    known = known_digests(store, bundles, others)
    extras = [x for ref in references for x in delta.make(store, ref, known=known)] if known else []
    return plan(store, references, known=known, extras=extras, with_attachments=with_attachments)


def _base(store: Store, text: str) -> Reference:
    """The model that --since names where there is no such file."""
    reference = parse_name(text)
    try:
        store.find(reference)
    except NotFound as error:
        raise NotFound(
            f"--since {text}: there is no such bundle, and no model of that name in the store"
        ) from error
    return reference


def _report(output: Output, made: Plan, files: list[str]) -> None:
    left_out = sum(part.size for part in made.left_out)
    output.result(
        {
            "files": files,
            "models": [
                {"name": model.reference.familiar, "digest": str(model.descriptor.digest)}
                for model in made.models
            ],
            "size": made.size,
            "left_out": left_out,
        },
        lines=[f"{model.descriptor.digest} {model.reference.familiar}" for model in made.models],
    )
    if not output.as_json:
        rest = f", {human_size(left_out)} left out" if left_out else ""
        where = f"{len(files)} volumes, {files[0]} to {files[-1]}" if files[1:] else files[0]
        output.notice(f"wrote {human_size(made.size)} into {where}{rest}")


def _load(source: str, wanted: list[Reference], output: Output) -> Loaded:
    from ..bundle.export import is_device
    from ..bundle.load import load
    from ..bundle.stream import load_stream

    store = Store.open()
    place = "standard input" if source == _PIPE else source
    with output.progress(f"importing {place}") as on_event, _found(Path(source)):
        if source == _PIPE:
            return load_stream(store, sys.stdin.buffer, wanted, place=place, on_event=on_event)
        if is_device(Path(source)):
            with open(source, "rb") as stream:
                return load_stream(store, stream, wanted, place=place, on_event=on_event)
        return load(store, Path(source), wanted, on_event=on_event)


@contextmanager
def _found(path: Path) -> Iterator[None]:
    """Turn an absent file into an error of ours."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(
            f"there is no bundle {path}", hint="pannier export NAME -o FILE writes one"
        ) from error
