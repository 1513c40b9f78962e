"""`pannier doctor`: what works on this machine and what does not, proved and not guessed."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pannier.pkgmgr.cli.options import Json
from pannier.pkgmgr.cli.output import Output, human_size, one_line
from pannier.pkgmgr.errors import PannierError

if TYPE_CHECKING:
    from pannier.runtime.devices import Device

# With less than this free, the first pull of a common model fails.
_LITTLE_SPACE = 5 << 30
# What a runner can do where the kernel lacks the means against it.
_WITHOUT = {
    "seccomp": "no seccomp: runners could use the network and start programs",
    "landlock": "no Landlock: runners could read and write the user's files",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `ok` is None for what is good to know and no more."""

    subject: str
    ok: bool | None
    detail: str
    hint: str | None = None

    def record(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "check": self.subject,
            "ok": self.ok,
            "detail": self.detail,
            "hint": self.hint,
        }


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command("doctor")(doctor)


def doctor(
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="Decode with this model, not a tiny one."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check this machine: store, engine, server."""
    checks: tuple[Callable[[], Finding], ...] = (
        _program,
        _store,
        lambda: _engine(model),
        _devices,
        _confinement,
        _server,
    )
    findings = [check() for check in checks]
    Output(as_json=as_json).result(
        {
            "ok": all(item.ok is not False for item in findings),
            "checks": [item.record() for item in findings],
        },
        lines=[line for item in findings for line in _lines(item)],
    )
    if any(item.ok is False for item in findings):
        raise typer.Exit(1)


def _lines(finding: Finding) -> list[str]:
    mark = {True: "ok", False: "FAILED", None: "note"}[finding.ok]
    lines = [f"{mark:<7} {finding.subject:<8} {one_line(finding.detail)}"]
    if finding.hint:
        lines.append(f"{'':<16} hint: {one_line(finding.hint)}")
    return lines


def _program() -> Finding:
    from pannier.pkgmgr.cli.shell import version_text

    return Finding(
        "program",
        True,
        f"{version_text()}, Python {platform.python_version()}, {platform.platform()}",
    )


def _store() -> Finding:
    from pannier.pkgmgr.cli.names import load_settings
    from pannier.pkgmgr.store.store import Store

    try:
        store = Store.open(load_settings().home)
        with store.lock():
            count = len(store.entries())
    except (PannierError, OSError) as error:
        return Finding("store", False, str(error), getattr(error, "hint", None))
    free = shutil.disk_usage(store.root).free
    detail = f"{store.root}, models: {count}, {human_size(free)} free"
    if not os.access(store.root, os.W_OK):
        return Finding("store", False, f"{store.root} cannot be written to")
    hint = "little space; set PANNIER_HOME to a larger disk" if free < _LITTLE_SPACE else None
    return Finding("store", True, detail, hint)


def _engine(name: str | None) -> Finding:
    from pannier.runtime.canary import run_canary

    try:
        path = _weights(name) if name is not None else None
    except PannierError as error:
        return Finding("engine", False, error.message, error.hint)
    result = run_canary(path)
    if result.problem is not None:
        return Finding("engine", False, result.problem, result.hint)
    return Finding("engine", True, f"llama.cpp decodes; {result.report}")


def _weights(name: str) -> Any:
    from pannier.pkgmgr import operations
    from pannier.pkgmgr.cli.names import load_settings
    from pannier.pkgmgr.store.store import Store

    settings = load_settings()
    store = Store.open(settings.home)
    model = operations.read_model(store, settings.parse(name))
    return model.spec.files(store.path).weights[0]


def _devices() -> Finding:
    from pannier.runtime.devices import probe_devices, usable_gpus
    from pannier.runtime.errors import EngineError
    from pannier.runtime.native import is_installed

    if not is_installed():
        return Finding("devices", None, "the engine is not installed")
    try:
        return devices_finding(usable_gpus(probe_devices()))
    except EngineError as error:
        return Finding("devices", False, error.message, "PANNIER_NUM_GPU=0 leaves GPUs alone")


def devices_finding(gpus: Sequence[Device]) -> Finding:
    """The GPUs that models can be put on."""
    if not gpus:
        return Finding("devices", None, "this build of the engine finds no GPU; models run on CPUs")
    listed = "; ".join(
        f"{gpu.name} ({gpu.description}), {human_size(gpu.free)} of {human_size(gpu.total)} free"
        for gpu in gpus
    )
    return Finding("devices", True, listed)


def _confinement() -> Finding:
    from pannier.runtime.confine import describe

    return confinement_finding(describe())


def confinement_finding(offered: Mapping[str, bool]) -> Finding:
    """Whether the kernel lets runners give up network and files, and what it costs where not."""
    missing = [name for name, is_there in offered.items() if not is_there]
    if not missing:
        return Finding(
            "isolation", True, "runners have no network and see no files but the model's"
        )
    lacks = "; ".join(_WITHOUT[name] for name in missing)
    return Finding("isolation", None, f"this kernel has {lacks}")


def _server() -> Finding:
    from .address import server_address
    from .client import HTTPClient

    address = server_address(os.environ)
    try:
        version = HTTPClient(address).request("GET", "/api/version").get("version", "unknown")
    except PannierError:
        return Finding("server", None, f"nobody answers at {address}", "`pannier serve` starts one")
    return Finding("server", True, f"{address} answers, version {version}")
