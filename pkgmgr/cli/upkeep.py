"""Commands that keep a store healthy: verify, prune, df, blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from ..errors import CorruptStore, InvalidOption
from ..settings import Settings
from ..store.collect import is_manifest
from ..store.store import Store
from .bundle import parse_size
from .names import Name, parse_name
from .network import with_tls
from .options import Json, Quiet, Yes
from .output import Output, human_size

if TYPE_CHECKING:
    from ..upkeep.repair import Mended
    from ..upkeep.verify import Fault, Verified

_MINUTES = 60.0
# Of damaged tensors in a line for people; --json has all.
_MAX_NAMED = 8


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("verify")(with_tls(verify))
    app.command("prune")(prune)
    app.command("df")(disk_usage)
    app.command("blocks")(blocks)


def verify(
    settings: Settings,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every model (as without a name).")] = False,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Skip files verified before and not written since; goes on after a stop.",
        ),
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Fetch what is damaged, block by block if possible.")
    ] = False,
    from_: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="BUNDLE|NAME", help="Where to repair from; repeatable."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Files at a time.")] = 2,
    limit_rate: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Bytes per second, such as 200M.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Hash models again, and say what rotted.

    Down to the blob and the tensor; --repair mends it.
    """
    from ..upkeep import verify as checking

    if names and all_:
        raise InvalidOption("names and --all exclude each other")
    store = Store.open()
    output = Output(as_json=as_json, quiet=quiet)

    def check(*, fresh_is_enough: bool) -> Verified:
        with output.progress("verifying") as on_event:
            return checking.verify(
                store,
                [parse_name(name) for name in names] if names else None,
                fresh_is_enough=fresh_is_enough,
                jobs=jobs,
                rate=float(parse_size(limit_rate)) if limit_rate else None,
                on_event=on_event,
            )

    found = check(fresh_is_enough=quick)
    mended: tuple[Mended, ...] = ()
    if repair:
        found, mended = _mend_all(
            found, check, lambda faults: _repair(store, faults, from_ or [], settings, output)
        )
    left = [item.fault for item in mended if item.place is None] if mended else found.faults
    _print_verified(output, found, mended, num_left=len(left))
    if left:
        raise CorruptStore(
            store.path(left[0].descriptor.digest),
            f"{len(left)} damaged or missing",
            hint=None if repair else "pannier verify --repair fetches what is damaged",
        )


def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    grace: Annotated[
        float, typer.Option("--grace", min=0, metavar="MINUTES", help="Spare what is younger.")
    ] = 60.0,
    yes: Yes = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Remove content that no model needs.

    Left-overs of removed models and of broken downloads.
    """
    import sys

    from ..upkeep.usage import prune as collect

    store = Store.open()
    if not dry_run and not yes and sys.stdin.isatty() and sys.stderr.isatty():
        would = collect(store, grace_s=grace * _MINUTES, dry_run=True)
        if would.count:
            typer.confirm(
                f"Remove {would.count} files, {human_size(would.size)}?", abort=True, err=True
            )
    done = collect(store, grace_s=grace * _MINUTES, dry_run=dry_run)
    output = Output(as_json=as_json, quiet=quiet)
    verb = "would remove" if dry_run else "removed"
    output.result(
        {"files": done.count, "size": done.size, "dry_run": dry_run},
        lines=[f"{verb} {done.count} files, {human_size(done.size)}"],
    )


def disk_usage(as_json: Json = False) -> None:
    """Say how much disk models use and share.

    And what a prune would free.
    """
    from ..upkeep.usage import usage

    used = usage(Store.open())
    output = Output(as_json=as_json)
    record = {
        "models": [
            {"name": model.reference.familiar, "size": model.size, "own": model.own}
            for model in used.models
        ],
        "blobs": used.num_blobs,
        "size": used.blobs,
        "unnamed": used.unnamed,
        "unfinished": used.unfinished,
        "states": used.states,
        "free": used.free,
    }
    if as_json:
        output.result(record)
        return
    output.table(
        ("NAME", "SIZE", "ITS OWN"),
        (
            (model.reference.familiar, human_size(model.size), human_size(model.own))
            for model in used.models
        ),
        records=(),
    )
    output.notice(
        f"{used.num_blobs} blobs, {human_size(used.blobs)}; {human_size(used.unnamed)} unnamed, "
        f"{human_size(used.unfinished)} unfinished, {human_size(used.states)} saved states, "
        f"{human_size(used.free)} free"
    )


def blocks(name: Name, as_json: Json = False, quiet: Quiet = False) -> None:
    """Index a model's weights by blocks.

    Later pulls, repairs and deltas then fetch parts.
    """
    from ..bundle.blocks import index_model

    reference = parse_name(name)
    indexes = index_model(Store.open(), reference)
    Output(as_json=as_json, quiet=quiet).result(
        {
            "name": reference.familiar,
            "indexes": [
                {"blob": str(index.digest), "size": index.size, "blocks": len(index.blocks)}
                for index in indexes
            ],
        },
        lines=[f"{index.digest} {len(index.blocks)} blocks" for index in indexes],
    )


class _Check(Protocol):
    def __call__(self, *, fresh_is_enough: bool) -> Verified: ...


def _mend_all(
    found: Verified, check: _Check, mend: Callable[[tuple[Fault, ...]], tuple[Mended, ...]]
) -> tuple[Verified, tuple[Mended, ...]]:
    """Mend what was found, and what then comes to light behind manifests that could not be read."""
    faults, mended = found.faults, mend(found.faults)
    last = mended
    while any(item.place and is_manifest(item.fault.descriptor) for item in last):
        more = check(fresh_is_enough=True)
        tried = {item.fault.descriptor.digest for item in mended}
        new = tuple(fault for fault in more.faults if fault.descriptor.digest not in tried)
        last = mend(new)
        faults, mended = faults + new, mended + last
        found = replace(more, hashed=found.hashed + more.hashed, skipped=found.skipped)
    return replace(found, faults=faults), mended


def _repair(
    store: Store,
    faults: tuple[Fault, ...],
    sources: list[str],
    settings: Settings,
    output: Output,
) -> tuple[Mended, ...]:
    from ..upkeep.repair import repair

    if not faults:
        return ()
    paths, others = _sources(sources)
    references = [parse_name(text) for text in others]
    with output.progress("repairing") as on_event:
        return repair(
            store,
            faults,
            bundles=paths,
            references=references,
            settings=settings,
            on_event=on_event,
        )


def _print_verified(
    output: Output, found: Verified, mended: tuple[Mended, ...], *, num_left: int
) -> None:
    output.result(
        {
            "blobs": found.num_blobs,
            "hashed": found.hashed,
            "skipped": found.skipped,
            "faults": [_fault_record(fault) for fault in found.faults],
            "repaired": [_mended_record(item) for item in mended if item.place],
        },
        lines=[
            *(_fault_line(fault) for fault in found.faults),
            *(_mended_line(item) for item in mended),
            f"{found.num_blobs} blobs, {human_size(found.hashed)} hashed, {num_left} damaged",
        ],
    )


def _sources(texts: list[str]) -> tuple[list[Path], list[str]]:
    from ..bundle.volumes import volume_path

    paths = [
        Path(text) for text in texts if Path(text).exists() or volume_path(Path(text), 1).exists()
    ]
    return paths, [text for text in texts if Path(text) not in paths]


def _fault_record(fault: Fault) -> dict[str, Any]:
    return {
        "digest": str(fault.descriptor.digest),
        "size": fault.descriptor.size,
        "reason": fault.reason,
        "models": [reference.familiar for reference in fault.models],
        "where": list(fault.where),
    }


def _fault_line(fault: Fault) -> str:
    what = {"missing": "is missing", "size": "has a wrong size, damaged"}.get(
        fault.reason, "is damaged"
    )
    more = f" and {len(fault.where) - _MAX_NAMED} more" if len(fault.where) > _MAX_NAMED else ""
    where = f" in {', '.join(fault.where[:_MAX_NAMED])}{more}" if fault.where else ""
    models = ", ".join(reference.familiar for reference in fault.models)
    return f"{fault.descriptor.digest} {what}{where} ({models})"


def _mended_record(item: Mended) -> dict[str, Any]:
    return {
        "digest": str(item.fault.descriptor.digest),
        "from": item.place,
        "fetched": item.fetched,
    }


def _mended_line(item: Mended) -> str:
    digest = item.fault.descriptor.digest
    if item.place is None:
        return f"{digest} could not be repaired: {item.reason}"
    return f"{digest} repaired from {item.place}, {human_size(item.fetched)} fetched"
