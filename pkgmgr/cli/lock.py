"""Commands for lock files: lock, sync, outdated, update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..settings import Settings
from ..store.store import Store
from .names import parse_name
from .network import with_network
from .options import Json, Quiet
from .output import Output

if TYPE_CHECKING:
    from ..lockfile import Lock, Pin
    from ..locking import Standing

LockFile = Annotated[Path, typer.Option("--file", "-f", metavar="FILE", help="The lock file.")]
_DEFAULT = Path("pannier.lock")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("lock")(lock)
    app.command("sync")(with_network(sync))
    app.command("outdated")(with_network(outdated))
    app.command("update")(with_network(update))


def lock(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only check that the store fits the lock file.")
    ] = False,
    file: LockFile = _DEFAULT,
    as_json: Json = False,
) -> None:
    """Pin models of the store to their digests in pannier.lock."""
    from .. import locking
    from ..errors import InvalidOption
    from ..lockfile import Lock

    store = Store.open()
    output = Output(as_json=as_json)
    if check:
        held = locking.read_lock(file)
        locking.require(store, held)
        _print_pins(output, file, held.pins)
        return
    if not names:
        raise InvalidOption("no model is named", hint="pannier lock NAME...")
    pins = [locking.pin(store, parse_name(name)) for name in names]
    old = locking.read_lock(file) if file.exists() else Lock()
    locking.write_lock(file, old.with_pins(pins))
    _print_pins(output, file, pins)


def sync(
    settings: Settings,
    frozen: Annotated[
        bool,
        typer.Option("--frozen", help="Fetch nothing: the store has exactly this, or it fails."),
    ] = False,
    from_: Annotated[
        list[Path] | None,
        typer.Option("--from", metavar="BUNDLE", help="Look into this bundle first; repeatable."),
    ] = None,
    file: LockFile = _DEFAULT,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make the store hold what pannier.lock pins."""
    from .. import locking

    store, pins = Store.open(), locking.read_lock(file)
    output = Output(as_json=as_json, quiet=quiet)
    brought: tuple[Pin, ...] = ()
    if not frozen:
        with output.progress("syncing") as on_event:
            brought = locking.sync(
                store,
                pins,
                bundles=from_ or [],
                settings=_with_login(settings, pins),
                on_event=on_event,
            )
    locking.require(store, pins)
    _print_pins(output, file, brought)
    if not as_json:
        count = len(pins.pins)
        what = f"{count} models are" if count != 1 else "1 model is"
        output.notice(f"{what} as {file} pins {'them' if count != 1 else 'it'}")


def outdated(
    settings: Settings,
    file: LockFile = _DEFAULT,
    as_json: Json = False,
) -> None:
    """List the pinned models that have moved on.

    Their names stand for something else in their registries now.
    """
    from .. import locking

    pins = locking.read_lock(file)
    standings = locking.outdated(pins, settings=_with_login(settings, pins))
    changed = [item for item in standings if item.state is not locking.State.SAME]
    Output(as_json=as_json).table(
        ("NAME", "LOCKED", "REGISTRY"),
        (
            (
                item.pin.reference.familiar,
                item.pin.digest.short,
                item.digest.short if item.digest else "absent",
            )
            for item in changed
        ),
        records=map(_standing_record, changed),
    )


def update(
    settings: Settings,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Default: every pinned model.")
    ] = None,
    file: LockFile = _DEFAULT,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Pull pinned models by their tags, and pin what came."""
    from .. import locking

    old = locking.read_lock(file)
    references = [settings.parse(name) for name in names or []] or [p.reference for p in old.pins]
    output = Output(as_json=as_json, quiet=quiet)
    store, login, new = Store.open(), _with_login(settings, old), old
    try:
        for reference in references:
            with output.progress(f"updating {reference.familiar}") as on_event:
                new = locking.update(store, new, [reference], settings=login, on_event=on_event)
            # One after the other, so that the lock fits the store where a later one fails.
            locking.write_lock(file, new)
    finally:
        _print_pins(output, file, [pin for pin in new.pins if pin not in old.pins])


def _with_login(settings: Settings, pins: Lock) -> Settings:
    """The settings, whose --username counts where all models come from one registry."""
    hosts = {pin.reference.host for pin in pins.pins}
    return replace(settings, login_host=hosts.pop()) if len(hosts) == 1 else settings


def _print_pins(output: Output, file: Path, pins: Sequence[Pin]) -> None:
    output.result(
        {
            "file": str(file),
            "models": [
                {
                    "name": pin.reference.familiar,
                    "digest": str(pin.digest),
                    "dialect": pin.dialect,
                    "size": pin.size,
                    "licenses": list(pin.licenses),
                }
                for pin in pins
            ],
        },
        lines=[f"{pin.digest} {pin.reference.familiar}" for pin in pins],
    )


def _standing_record(item: Standing) -> dict[str, Any]:
    return {
        "name": item.pin.reference.familiar,
        "state": str(item.state),
        "locked": str(item.pin.digest),
        "registry": str(item.digest) if item.digest else None,
    }
