"""How many requests are in work at a time; the rest is refused at once and told when to come back.

A request holds a worker thread until the last byte of its answer. Without this bound a crowd that
waits for a model would hold them all, and nobody could even ask what the server is doing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pannier.runtime.errors import QueueFull

# As many as Ollama lets wait (its OLLAMA_MAX_QUEUE); the setting MAX_QUEUE changes it.
MAX_REQUESTS = 512
# A client is never told to stay away for longer; by then a thousand other things have changed.
_MAX_WAIT_S = 60.0


class Admission:
    """Counts the requests in work. Any thread may call."""

    def __init__(
        self, limit: int = MAX_REQUESTS, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._count = 0
        self._mean_s = 1.0

    def enter(self) -> Callable[[], None]:
        """Begin a request; returns what ends it, which may be called more than once.

        Raises:
            QueueFull: there are too many; its `retry_after_s` is what one takes on average.
        """
        with self._lock:
            if self._count >= self._limit:
                wait_s = min(max(1.0, self._mean_s), _MAX_WAIT_S)
                raise QueueFull(self._count, retry_after_s=wait_s)
            self._count += 1
        began = self._clock()
        ended = False

        def leave() -> None:
            nonlocal ended
            with self._lock:
                if not ended:
                    ended = True
                    self._count -= 1
                    self._mean_s += (self._clock() - began - self._mean_s) / 8

        return leave
