"""What ends a runner from within: the server's death, and the death of one of its own threads.

Without the first it would outlive the server; without the second those whose request the thread
had would wait for ever.
"""

from __future__ import annotations

import os
import threading
import traceback


def end_with_server(descriptor: int) -> None:
    """End this process when the pipe ends whose other end only the server has."""
    threading.Thread(target=_wait_for_end, args=(descriptor,), daemon=True).start()


def end_with_threads() -> None:
    """End this process when a thread ends with an exception, which is its last word."""
    threading.excepthook = _end


def _wait_for_end(descriptor: int) -> None:
    os.read(descriptor, 1)
    os._exit(0)


def _end(death: threading.ExceptHookArgs) -> None:
    try:
        traceback.print_exception(death.exc_type, death.exc_value, death.exc_traceback)
    finally:
        os._exit(1)
