"""`pannier doctor`: what it says of devices and isolation, and all of it on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pannier.api.commands_doctor import confinement_finding, devices_finding
from pannier.api.main import EXIT_CODES, command_line
from pannier.pkgmgr.cli.app import run
from pannier.runtime.devices import Device, DeviceKind


def test_gpus_are_listed_with_what_they_have_free() -> None:
    gpus = [Device("CUDA0", "a card", DeviceKind.GPU, 20 * 10**9, 24 * 10**9)]
    found = devices_finding(gpus)
    assert (found.ok, found.detail) == (True, "CUDA0 (a card), 20 GB of 24 GB free")
    assert devices_finding([]).ok is None


def test_what_the_kernel_lacks_is_said_with_what_it_means() -> None:
    assert confinement_finding({"seccomp": True, "landlock": True}).ok
    found = confinement_finding({"seccomp": False, "landlock": True})
    assert found.ok is None
    assert "no seccomp: runners could use the network" in found.detail
    assert "no Landlock" in confinement_finding({"landlock": False}).detail


@pytest.mark.engine
def test_this_machine_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PANNIER_HOME", str(tmp_path))
    monkeypatch.setenv("PANNIER_HOST", "127.0.0.1:1")
    assert run(command_line(), ["doctor", "--json"], exit_codes=EXIT_CODES) == 0
    checks = {check["check"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert list(checks) == ["program", "store", "engine", "devices", "isolation", "server"]
    assert checks["engine"]["ok"]
    assert checks["server"]["ok"] is None
