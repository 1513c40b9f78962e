"""Repositories that are being pushed to, and the store's lease that protects what they brought.

Between the first blob of a push and its manifest nothing names the blobs; without a lease, a
`pannier rm` at that moment would sweep them away. A push ends with its manifest, or by silence.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

from pannier.pkgmgr.store.store import Store

# A client that has been silent for this long has given up.
SILENCE_S = 3600.0


class Pushes:
    """The pushes that go on. Thread-safe; close it.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[str, float] = {}
        self._lease = ExitStack()
        self._is_held = False

    def note(self, name: str) -> None:
        """A push to a repository goes on."""
        with self._lock:
            self._seen[name] = self._clock()
            self._forget_silent()
            if not self._is_held:
                self._lease.enter_context(self._store.lease())
                self._is_held = True

    def end(self, name: str) -> None:
        """The manifest of a push is here and named."""
        with self._lock:
            self._seen.pop(name, None)
            self._forget_silent()
            if not self._seen:
                self._release()

    def close(self) -> None:
        """Let go, whatever goes on."""
        with self._lock:
            self._release()

    def _forget_silent(self) -> None:
        limit = self._clock() - SILENCE_S
        self._seen = {name: seen for name, seen in self._seen.items() if seen >= limit}

    def _release(self) -> None:
        self._lease.close()
        self._is_held = False
