"""When to try again, and after how long: temporary errors, with jitter, as the registry asks."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from ..errors import Cancelled, PannierError, RegistryError, TransferError

# A registry that asks for more patience than this gets an error instead of a silent wait.
MAX_RETRY_AFTER_S = 300.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long. Waits double from `first_wait_s`, each by a random half to whole."""

    attempts: int = 5
    first_wait_s: float = 0.4
    max_wait_s: float = 20.0

    def wait_s(self, error: PannierError, failures: int) -> float | None:
        """Seconds to wait after the `failures`-th failure in a row, None to give up."""
        if not isinstance(error, TransferError) or not error.temporary or failures >= self.attempts:
            return None
        asked = error.retry_after_s if isinstance(error, RegistryError) else None
        if asked is not None:
            return asked if asked <= MAX_RETRY_AFTER_S else None
        most = min(self.first_wait_s * 2.0 ** (failures - 1), self.max_wait_s)
        return most * random.uniform(0.5, 1.0)


class Stop:
    """A wish to end, seen by every thread of a transfer; waits through it end at once."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask everyone to end."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether the end was asked for."""
        return self._event.is_set()

    def check(self) -> None:
        """End here if it was asked.

        Raises:
            Cancelled: if so.
        """
        if self._event.is_set():
            raise Cancelled

    def wait(self, seconds: float) -> None:
        """Pause, at most that long.

        Raises:
            Cancelled: as soon as the end is asked for.
        """
        if self._event.wait(seconds):
            raise Cancelled


def retry_after_s(value: str | None, *, now: Callable[[], datetime] | None = None) -> float | None:
    """Read a Retry-After header: seconds or a date (RFC 9110 §10.2.3); None if it says neither."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    present = now() if now is not None else datetime.now(UTC)
    return max(0.0, (when - present).total_seconds())
