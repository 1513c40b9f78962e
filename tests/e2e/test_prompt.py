"""`pannier run` at a real terminal: what is typed, what is shown, how one leaves."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import PROGRAM, Pannier
from support.models import smollm2

TIMEOUT_S = 60.0
SYSTEM = "SYSTEM You are a helpful assistant. You answer in one short sentence."

pytestmark = [pytest.mark.engine, pytest.mark.slow]


class Typist:
    """Somebody at a terminal."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self.process = process
        self._terminal = terminal
        self._seen = ""

    def types(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def sees(self, text: str) -> None:
        """Wait until the text is shown; what came before it is forgotten."""
        deadline = time.monotonic() + TIMEOUT_S
        while text not in self._seen:
            ready, _, _ = select.select([self._terminal], [], [], deadline - time.monotonic())
            assert ready, f"no {text!r} in {self._seen!r}"
            try:
                self._seen += os.read(self._terminal, 4096).decode(errors="replace")
            except OSError:
                pytest.fail(f"ended without {text!r}: {self._seen!r}")
        self._seen = self._seen.partition(text)[2]


@pytest.fixture
def typist(pannier: Pannier) -> Iterator[Typist]:
    pannier.create("smollm2", smollm2(), "PARAMETER temperature 0", SYSTEM)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [PROGRAM, "run", "smollm2"],
        env=pannier.environment | {"TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=_take_terminal,
    )
    os.close(theirs)
    try:
        yield Typist(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _take_terminal() -> None:
    """Make standard input the controlling terminal, so that Ctrl-C is a signal."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_a_conversation(typist: Typist, pannier: Pannier) -> None:
    typist.sees(">>> ")
    typist.types("What is the capital of France?\r")
    typist.sees("Paris")
    typist.sees(">>> ")
    typist.types('"""What is\r')
    typist.sees("...")
    typist.types('the capital of Italy?"""\r')
    typist.sees("Rome")
    typist.sees(">>> ")
    typist.types("/set parameter nonsense 1\r")
    typist.sees("error: unknown parameter")
    typist.types("/bye\r")
    assert typist.process.wait(TIMEOUT_S) == 0
    assert "capital of France" in (pannier.home / "history").read_text()


def test_ctrl_c_stops_an_answer_and_ctrl_d_leaves(typist: Typist) -> None:
    typist.sees(">>> ")
    typist.types("\x03")
    typist.sees("/bye")
    typist.sees(">>> ")
    typist.types("Write a poem of a thousand lines about the sea.\r")
    typist.sees("\x1b[?2004l")
    typist.sees(" ")
    typist.types("\x03")
    typist.sees(">>> ")
    typist.types("\x04")
    assert typist.process.wait(TIMEOUT_S) == 0


def test_the_weights_are_loaded_before_the_first_question(typist: Typist) -> None:
    typist.sees(">>> ")
    children = Path(f"/proc/{typist.process.pid}/task/{typist.process.pid}/children").read_text()
    assert children.split()
