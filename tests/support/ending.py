"""Waiting for processes to end."""

import os
import select
import signal


def wait_for_end(pid: int) -> None:
    """Return when a process is gone; the test's own time limit bounds the wait."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(descriptor, 0)
        assert select.select([descriptor], [], [], 20)[0], "the runner is still there"
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)
