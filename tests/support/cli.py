"""The installed `pannier` program, run as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = Path(sys.executable).with_name("pannier")
TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def fails(self, code: int, text: str) -> None:
        """Check that it failed as commands fail: one error line, perhaps a hint, no result."""
        assert self.code == code, (self.code, self.out, self.err)
        lines = self.err.splitlines()
        assert lines[0].startswith("error: "), self.err
        assert text in lines[0], self.err
        assert all(line.startswith("hint: ") for line in lines[1:]), self.err
        assert len(lines) <= 2, self.err
        assert self.out == ""


@dataclass(frozen=True)
class Pannier:
    """The program over one store, with nothing of this machine's configuration."""

    home: Path

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        return kept | {"PANNIER_HOME": str(self.home), "HOME": str(self.home.parent)}

    def __call__(self, *arguments: str | Path, stdin: str = "", **environment: str) -> Result:
        """Run a command to its end."""
        done = subprocess.run(
            [PROGRAM, *arguments],
            env=self.environment | environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return Result(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
        """Begin a command; the caller ends it."""
        return subprocess.Popen(
            [PROGRAM, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def names(self) -> list[str]:
        """What `list` has."""
        return [model["name"] for model in self.list()]

    def list(self) -> list[dict[str, Any]]:
        """What `list --json` prints."""
        result = self("list", "--json")
        assert result.code == 0, result.err
        value: list[dict[str, Any]] = json.loads(result.out)
        return value

    def create(self, name: str, weights: Path, *lines: str) -> str:
        """Make a model and return its digest."""
        text = "\n".join([f"FROM {weights}", *lines, ""])
        result = self("create", name, "-f", "-", stdin=text)
        assert result.code == 0, result.err
        return result.out.strip()

    def blobs(self) -> Sequence[Path]:
        """Every file of the store that is not one of its few fixed ones."""
        fixed = {"oci-layout", "index.json", ".lock"}
        files = (path for path in self.home.rglob("*") if path.is_file())
        return sorted(path for path in files if path.name not in fixed)
