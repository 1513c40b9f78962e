"""Killing a child process between any two of its acts on the file system.

The child counts what changes files (writes, syncs, renames, unlinks, …) and sends itself SIGKILL
before the n-th; n runs from 1 until the child comes to its end unharmed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
_CALLS = (
    "write",
    "pwrite",
    "fsync",
    "fdatasync",
    "copy_file_range",
    "rename",
    "replace",
    "unlink",
    "remove",
    "fchmod",
    "chmod",
    "ftruncate",
    "truncate",
    "mkdir",
    "utime",
    "link",
)


def die_before_act(number: int) -> None:
    """In the child: be killed before the `number`-th act from now on, counting from 1."""
    count = 0
    lock = threading.Lock()

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            with lock:
                count += 1
                if count == number:
                    os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return wrapper

    for name in _CALLS:
        setattr(os, name, counted(getattr(os, name)))


def killed_children(
    script: str, arguments: Sequence[str], *, step: int = 1, most: int = 2000
) -> Iterator[int]:
    """Run `script` again and again, killed one act later each time; yields after each kill.

    The script finds `die` (to be called when its set-up is done) and `sys.argv[1:]`.
    """
    head = (
        f"import sys; sys.path.insert(0, {str(TESTS)!r})\n"
        "from support.killing import die_before_act\n"
        "die = lambda: die_before_act(int(sys.argv.pop()))\n"
    )
    for number in range(1, most, step):
        command = [sys.executable, "-c", head + script, *arguments, str(number)]
        done = subprocess.run(command, check=False, capture_output=True)
        if done.returncode == 0:
            return
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
        yield number
    raise AssertionError(f"still not at its end after {most} acts")
