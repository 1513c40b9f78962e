"""How many prompt tokens a step may compute beside running streams, from measured step times. Pure.

A prompt chunk makes the step longer and so opens a gap in every stream. The chunk is chosen such
that the gap stays near `GAP` times what the streams were used to before prompts came, or `SHORT_NS`
where that is longer: nobody notices it, and tiny chunks compute slowly. Rows cost more the longer
their prompt is, and streams the more cells are in use, so both estimates follow.
"""

from __future__ import annotations

# Three times the usual gap is what nobody shall see; a quarter of it is left for what varies.
GAP = 2.3
SHORT_NS = 25_000_000
# A prompt goes on at least so fast, however little time the streams leave.
MIN_ROWS = 4
FIRST_ROWS = 64
# After so many steps beside prompts one of streams alone tells anew what they take.
PROBE_STEPS = 32
_WEIGHT = 0.3
# What is usual is slow to follow single steps, and slower those between steps with prompts: where
# prompts never end, in a minute.
_USUAL_WEIGHT = 0.1
_PROBE_WEIGHT = 0.05


class Pace:
    """Running estimates of what a step of streams and a row of a prompt take."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._stream_step_ns = 0.0
        self._usual_ns = 0.0
        self._usual_streams = 0
        self._is_probe = False
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
            self._is_probe = True
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
        return max(0.0, max(GAP * min(self._usual_ns, step), SHORT_NS) - step)

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
            self._note_usual(step_ns, streams)
        elif prefill >= MIN_ROWS:
            rest = step_ns - (self._stream_step_ns if streams else 0)
            self._prefill_row_ns = _mean(self._prefill_row_ns, max(rest, 1) / prefill)

    def _note_usual(self, step_ns: int, streams: int) -> None:
        """A step was of streams alone; one between those with prompts says little of the usual."""
        usual, step = self._usual_ns, self._stream_step_ns
        if streams > self._usual_streams:
            usual = step_ns
        elif self._is_probe:
            usual = min(step, _mean(usual, step, _PROBE_WEIGHT))
        else:
            usual = _mean(usual, step, _USUAL_WEIGHT)
        self._usual_ns, self._usual_streams = usual, streams
        self._is_probe = False


def _mean(old: float, new: float, weight: float = _WEIGHT) -> float:
    return new if old <= 0 else (1 - weight) * old + weight * new
