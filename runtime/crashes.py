"""Which models crash the engine, how long to wait before the next try, and when to stop. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from pannier.pkgmgr.digest import Digest

from .errors import Quarantined

# Three crashes on one model in ten minutes are no accident.
MAX_CRASHES = 3
WINDOW_S = 600.0
FIRST_DELAY_S = 1.0


class CrashLog:
    """Times of crashes by model. Not thread-safe: its owner holds a lock."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._times: defaultdict[Digest, list[float]] = defaultdict(list)

    def add(self, digest: Digest) -> None:
        """A model crashed its process while it had work."""
        self._times[digest] = [*self._recent(digest), self._clock_s()]

    def clear(self, digest: Digest) -> None:
        """Somebody says that it may be tried again."""
        self._times.pop(digest, None)

    def check(self, digest: Digest, name: str) -> None:
        """Raise Quarantined where a model is not to be loaded."""
        recent = self._recent(digest)
        if len(recent) >= MAX_CRASHES:
            left = recent[-MAX_CRASHES] + WINDOW_S - self._clock_s()
            raise Quarantined(
                f"{name} crashed the engine {len(recent)} times and is not loaded for "
                f"{left:.0f} more seconds",
                hint=f"`pannier stop {name}` lifts this; `pannier doctor` checks the engine",
            )

    def delay_s(self, digest: Digest) -> float:
        """How long to wait before a model is loaded: nothing after the first crash, then more."""
        recent = self._recent(digest)
        if len(recent) < 2:
            return 0.0
        delay: float = FIRST_DELAY_S * 2 ** (len(recent) - 2)
        return max(0.0, recent[-1] + delay - self._clock_s())

    def _recent(self, digest: Digest) -> list[float]:
        since = self._clock_s() - WINDOW_S
        return [time for time in self._times.get(digest, ()) if time > since]
