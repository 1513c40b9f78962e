"""One request inside the engine: its tokens, how many are computed, where it stands. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .pictures import Span, position_of
from .request import SamplingParams


class Phase(StrEnum):
    """Where a sequence stands."""

    WAITING = "waiting"
    RUNNING = "running"
    OVER = "over"


@dataclass(slots=True, eq=False)
class Sequence:
    """What the scheduler knows of a request.

    Attributes:
        key: the number by which the other side of the process boundary knows it.
        tokens: prompt, then what was drawn. The last one is not computed yet while it runs.
        num_prompt: how many of `tokens` are the prompt.
        sampling: how its tokens are drawn.
        priority: lower goes first.
        client: whose it is, for fairness; requests without one share one queue.
        group: what its cells may be shared within, and a batch may hold: its adapters.
        is_exclusive: whether it runs alone, on empty cells.
        order: its place in the queue, set by the scheduler.
        computed: how many of `tokens` are in cells.
        slot: the backend's number of it, -1 while it has none.
        cached: of the prompt, how many tokens were in cells already.
        marks: places in the prompt where a checkpoint may be of use to others.
        points: places that are still to be computed where one will be made, in order.
        spans: where images stand among `tokens`, in order; never at their very end.
        draft: guessed tokens after the last one, which the next step checks.
        work: whatever the engine hangs on to it; the scheduler never looks.
    """

    key: int
    tokens: list[int]
    num_prompt: int
    sampling: SamplingParams = field(default_factory=SamplingParams)
    priority: int = 0
    client: str = ""
    group: str = ""
    is_exclusive: bool = False
    phase: Phase = Phase.WAITING
    order: tuple[float, int] = (0.0, 0)
    computed: int = 0
    slot: int = -1
    cached: int = 0
    arrived_step: int = 0
    admitted_step: int = 0
    marks: tuple[int, ...] = ()
    points: list[int] = field(default_factory=list)
    spans: tuple[Span, ...] = ()
    draft: tuple[int, ...] = ()
    work: Any = None

    @property
    def remaining(self) -> int:
        """Tokens that wait to be computed."""
        return len(self.tokens) - self.computed

    @property
    def stretch(self) -> int:
        """Tokens that can be computed in one go: up to the next checkpoint or image, or all."""
        end = self.points[0] if self.points else len(self.tokens)
        if self.spans:
            starts = (span.start for span in self.spans if span.end > self.computed)
            end = max(self.computed, min(end, next(starts, end)))
        return end - self.computed

    @property
    def is_prefilling(self) -> bool:
        """Whether more than the last token is missing."""
        return self.remaining > 1

    def position(self, length: int) -> int:
        """The position after so many tokens, which do not end inside an image."""
        return position_of(length, self.spans) if self.spans else length

    def span_at(self, index: int) -> Span | None:
        """The image that a token is a row of."""
        return next((span for span in self.spans if span.start <= index < span.end), None)

    def whole(self, length: int) -> int:
        """So many tokens, or fewer where they would end inside an image."""
        inside = (span.start for span in self.spans if span.start < length < span.end)
        return next(inside, length)
