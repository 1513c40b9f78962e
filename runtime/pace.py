"""How many prompt tokens a step may compute beside running streams, from measured step times. Pure.

A prompt chunk makes the step longer and so opens a gap in every stream. The chunk is chosen such
that the gap stays near `GAP` times the streams' usual one, or `SHORT_NS` where that is longer:
nobody notices it, and tiny chunks compute slowly. Rows cost more the longer their prompt is, so the
estimate follows.
"""

from __future__ import annotations

# Three times the usual gap is what nobody shall see; a fifth of it is left for what varies.
GAP = 2.5
SHORT_NS = 25_000_000
# A prompt goes on at least so fast, however little time the streams leave.
MIN_ROWS = 4
FIRST_ROWS = 64
# After so many steps beside prompts one of streams alone tells anew what is usual.
PROBE_STEPS = 32
_WEIGHT = 0.3


class Pace:
    """Running estimates of what a step of streams and a row of a prompt take."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._stream_step_ns = 0.0
        self._prefill_row_ns = 0.0
        self._num_mixed = PROBE_STEPS

    def prefill_rows(self, crowd: float = 1.0) -> int:
        """The most prompt tokens beside streams in the next step.

        `crowd` prompts wait for each stream: the more they are, the more time is theirs. None in a
        step that is to be measured without.
        """
        if self._num_mixed >= PROBE_STEPS:
            # Once only: a step with guessed tokens is not measured, and prompts must go on.
            self._num_mixed = 0
            return 0
        if self._prefill_row_ns <= 0:
            return min(FIRST_ROWS, self._batch_size)
        extra = self.spare_ns * max(1.0, crowd)
        return max(MIN_ROWS, min(self._batch_size, int(extra / self._prefill_row_ns)))

    @property
    def stream_step_ns(self) -> float:
        """What a step of streams alone takes; 0 while unknown."""
        return self._stream_step_ns

    @property
    def spare_ns(self) -> float:
        """What may be done beside a step of streams without a gap that anybody sees."""
        step = self._stream_step_ns
        return max((GAP - 1) * step, SHORT_NS - step)

    @property
    def row_share(self) -> float:
        """What one more row costs, as a share of a step of streams alone; 0 while unknown."""
        if self._stream_step_ns <= 0:
            return 0.0
        return self._prefill_row_ns / self._stream_step_ns

    def note(self, step_ns: int, *, streams: int, rows: int) -> None:
        """A step took so long for `rows` rows, `streams` of them one per stream."""
        prefill = rows - streams
        self._num_mixed = self._num_mixed + 1 if prefill > 0 else 0
        if prefill <= 0:
            self._stream_step_ns = _mean(self._stream_step_ns, step_ns)
        elif prefill >= MIN_ROWS:
            rest = step_ns - (self._stream_step_ns if streams else 0)
            self._prefill_row_ns = _mean(self._prefill_row_ns, max(rest, 1) / prefill)


def _mean(old: float, new: float) -> float:
    return new if old <= 0 else (1 - _WEIGHT) * old + _WEIGHT * new
