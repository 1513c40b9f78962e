"""What a runner tells of each step: pieces of answers, and now and then the engine's counters."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from . import frames
from .answer import Piece
from .engine import Engine

# Seconds between two words about the counters while streams run: each token would pay for them,
# in both processes.
STATS_EACH_S = 0.1


class News:
    """Makes the messages of one engine's steps. For one thread."""

    def __init__(self, engine: Engine, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._told: list[int] = []
        self._told_s = -STATS_EACH_S

    def of(self, pieces: Sequence[Piece]) -> frames.Message | None:
        """The message of a step that brought these; None where there is nothing to say."""
        message: frames.Message = {"op": "step", "pieces": [*map(frames.encode_piece, pieces)]}
        now = self._clock()
        is_end = any(piece.finish is not None or piece.error is not None for piece in pieces)
        if is_end or not pieces or now - self._told_s >= STATS_EACH_S:
            stats = frames.encode_stats(self._engine.stats())
            if stats != self._told:
                self._told, self._told_s = stats, now
                message["stats"] = stats
        return message if pieces or "stats" in message else None
