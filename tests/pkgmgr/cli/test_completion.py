"""Completion: commands, options, and the names of models."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pannier.api.main import command_line
from pannier.pkgmgr.cli.completion import SCRIPTS, candidates

NAMES = ["smollm2:latest", "smollm2:1.0", "localhost:5000/a/b:1"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (["pu"], ["pull", "push"]),
        (["l"], ["list", "login", "logout"]),
        (["--ver"], ["--verbose", "--version"]),
        (["list", "--j"], ["--json"]),
        (["rm", "smol"], ["smollm2:1.0", "smollm2:latest"]),
        (["rm", "smollm2:1.0", "localhost:5000/"], ["localhost:5000/a/b:1"]),
        (["show", "smollm2:1"], ["smollm2:1.0"]),
        (["run", "--verbose", "smollm2:l"], ["smollm2:latest"]),
        (["run", "--format", "s"], []),
        (["run", "smollm2:1.0", "s"], []),
        (["login", "s"], []),
        (["nothing", "s"], []),
    ],
    ids=" ".join,
)
def test_what_may_come_next(line: list[str], found: list[str]) -> None:
    group = command_line()
    with group.make_context("pannier", [], resilient_parsing=True) as ctx:
        got = candidates(group, ctx, line, NAMES)
    assert set(found) <= set(got)
    assert all(item.startswith(line[-1]) for item in got)
    assert found or not got


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_scripts_are_valid(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        assert "pannier __complete" in SCRIPTS[shell]
        return
    script = tmp_path / "script"
    script.write_text(SCRIPTS[shell])
    subprocess.run([shell, "-n", str(script)], check=True)


def test_bash_completes_names_with_colons(tmp_path: Path) -> None:
    program = tmp_path / "pannier"
    program.write_text('#!/bin/sh\nprintf "smollm2:1.0\\nsmollm2:latest\\n"\n')
    program.chmod(0o755)
    ask = (
        'COMP_LINE="pannier rm smollm2:"; COMP_POINT=19; _pannier; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    result = subprocess.run(
        ["bash", "-c", f"{SCRIPTS['bash']}\n{ask}"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == ["1.0", "latest"]
