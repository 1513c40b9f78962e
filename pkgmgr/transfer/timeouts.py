"""How long a transfer waits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds, and bytes per second. There is no total one: large models take long.

    Attributes:
        idle_s: between two bytes, and for a whole header.
        commit_s: for an answer to an upload, during which the registry may hash everything.
        min_speed: bytes per second that a body must reach, measured over `speed_window_s`.
    """

    connect_s: float = 15.0
    idle_s: float = 60.0
    commit_s: float = 900.0
    min_speed: float = 1024
    speed_window_s: float = 60.0
