"""Locks between processes and threads by flock(2), which the kernel drops when a holder dies.

Locks here save work and order the writers of names; integrity never rests on one alone, because
some network file systems grant every flock.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import StoreBusy

# The index is held for milliseconds; a holder beyond this is stopped or on a hung file system.
DEFAULT_WAIT_S = 30.0
_POLL_S = 0.005
_MAX_POLL_S = 0.1


@contextmanager
def flocked(path: Path, *, shared: bool = False, wait_s: float = DEFAULT_WAIT_S) -> Iterator[None]:
    """Hold the lock file `path`, made where absent, until the block ends.

    Two threads of one process exclude each other as two processes do.

    Raises:
        StoreBusy: where another holder did not let go within `wait_s` seconds.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _acquire(fd, path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, wait_s)
        yield
    finally:
        os.close(fd)


def try_flock(fd: int) -> bool:
    """Take the exclusive lock of an open file now, or say that somebody alive holds it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _acquire(fd: int, path: Path, kind: int, wait_s: float) -> None:
    deadline, pause_s = time.monotonic() + wait_s, _POLL_S
    while True:
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise StoreBusy(path) from None
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _MAX_POLL_S)
