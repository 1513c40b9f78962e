from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pannier.runtime.confine import describe


def run_confined(code: str, allowed: Path) -> str:
    """Run code in a confined process; what it prints."""
    script = textwrap.dedent(
        f"""
        import ctypes, socket, subprocess, sys
        from pathlib import Path
        from pannier.runtime.confine import confine, give_up_privileges

        def ring():
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.syscall(425, 2, ctypes.create_string_buffer(120)) < 0:
                raise OSError(ctypes.get_errno(), "io_uring")

        give_up_privileges()
        confine([Path({str(allowed)!r})])
        try:
            {code}
            print("done")
        except OSError as error:
            print(type(error).__name__)
        """
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def allowed(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_text("x")
    (tmp_path / "secret").write_text("y")
    return path


@pytest.mark.parametrize(
    ("needs", "code"),
    [
        ("seccomp", "socket.socket(socket.AF_INET)"),
        ("seccomp", "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)"),
        ("seccomp", "subprocess.run(['true'])"),
        ("seccomp", "ring()"),
        ("landlock", "Path({secret!r}).read_text()"),
        ("landlock", "Path({model!r}).write_text('z')"),
        ("landlock", "Path({new!r}).write_text('z')"),
    ],
)
def test_what_was_given_up_is_refused(needs: str, code: str, allowed: Path) -> None:
    names = {name: str(allowed.parent / name) for name in ("secret", "new")}
    result = run_confined(code.format(model=str(allowed), **names), allowed)
    # On kernels without the feature the process has to go on without it.
    assert result == ("PermissionError" if describe()[needs] else "done")


@pytest.mark.parametrize(
    "code",
    ["Path({model!r}).read_text()", "socket.socketpair()", "import json, numpy"],
)
def test_what_a_runner_needs_still_works(code: str, allowed: Path) -> None:
    assert run_confined(code.format(model=str(allowed)), allowed) == "done"
