"""The tutorial of docs/airgap.md, run as it stands; the isolated room has no route anywhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.cli import PROGRAM, Pannier
from support.registry import DockerRegistry

PAGE = Path(__file__).resolve().parents[2] / "docs" / "airgap.md"
_BLOCK = re.compile(r"```sh (connected|transfer|isolated)\n(.*?)```", re.DOTALL)


def namespace() -> list[str] | None:
    """The command that enters a fresh network namespace, None where that is not allowed."""
    if shutil.which("unshare") is None:
        return None
    for command in (["unshare", "-n"], ["unshare", "-Urn"]):
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
            return command
    return None


@dataclass(frozen=True)
class Room:
    """A machine of the tutorial: a home, a working directory, perhaps no network."""

    root: Path
    prefix: tuple[str, ...] = ()

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        self.root.mkdir(exist_ok=True)
        return subprocess.run(
            [*self.prefix, "bash", "-euo", "pipefail", "-c", script],
            cwd=self.root,
            env={
                "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}",
                "HOME": str(self.root),
                "PANNIER_KEY_PASSPHRASE": "correct horse",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.registry
def test_the_tutorial_of_three_rooms_works(
    tmp_path: Path, registry: DockerRegistry, pannier: Pannier, tiny: Path
) -> None:
    isolated = namespace()
    if isolated is None:
        pytest.skip("network namespaces are not allowed here")
    name = f"{registry.host}/team/reviewer:1.0"
    pannier.create(name, tiny, "PARAMETER num_predict 4")
    assert pannier("push", name).code == 0
    rooms = {
        "connected": Room(tmp_path / "connected"),
        "transfer": Room(tmp_path / "transfer"),
        "isolated": Room(tmp_path / "isolated", tuple(isolated)),
    }
    for medium in ("usb", "keys"):
        (tmp_path / "media" / medium).mkdir(parents=True)
    blocks = _BLOCK.findall(PAGE.read_text("utf-8"))
    assert len(blocks) >= 10
    for room, script in blocks:
        text = script.replace("registry.corp", registry.host)
        done = rooms[room].run(text.replace("/media/", f"{tmp_path / 'media'}/"))
        assert done.returncode == 0, (room, script, done.stdout, done.stderr)
    away = rooms["isolated"].run(f"pannier pull {registry.host}/team/reviewer:other")
    assert away.returncode == 5, away.stderr
    update = tmp_path / "media" / "usb" / "update.tar"
    assert update.stat().st_size < (tmp_path / "media" / "usb" / "reviewer.tar").stat().st_size / 3


@pytest.mark.slow
def test_the_isolated_room_refuses_what_nobody_signed(
    tmp_path: Path, pannier: Pannier, tiny: Path
) -> None:
    pannier.create("reviewer", tiny)
    bundle = tmp_path / "b.tar"
    assert pannier("export", "reviewer", "-o", str(bundle)).code == 0
    other = Pannier(tmp_path / "other")
    assert other("list").code == 0
    (other.home / "policy.toml").write_text('version = 1\ndefault = "enforce"\n')
    other("import", str(bundle)).fails(4, "trust policy refuses reviewer")
    assert other.list() == []
    (other.home / "policy.toml").write_text("version = 1\n")
    other("import", str(bundle)).fails(2, "trust policy")
