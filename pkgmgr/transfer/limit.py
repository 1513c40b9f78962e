"""A rate limit that all connections of a process share."""

from __future__ import annotations

import threading
import time

from .retry import Stop


class RateLimit:
    """Lets `rate` bytes per second pass, with bursts of a quarter second. Thread-safe."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free_at = time.monotonic()
        self._lock = threading.Lock()

    def spend(self, count: int, stop: Stop) -> None:
        """Account for bytes that were moved, and pause for as long as they were too many.

        Raises:
            Cancelled: where the end was asked for meanwhile.
        """
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - 0.25) + count / self._rate
            pause_s = self._free_at - now
        if pause_s > 0:
            stop.wait(pause_s)
