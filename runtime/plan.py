"""What the scheduler decides, and what it weighs in deciding. Pure values."""

from __future__ import annotations

from dataclasses import dataclass, field

from .backend import ImageRows, Row
from .sequence import Sequence


@dataclass(frozen=True, slots=True)
class Tuning:
    """What the scheduler weighs, in tokens and steps.

    Attributes:
        growth_reserve: cells that a request must find free beyond its prompt, so that it does not
            stall at once.
        min_common: a common beginning that another request is about to compute is worth waiting
            for from here on.
        min_swept: a prompt with so much to compute, beside which nothing runs, is worth moving what
            is finished out of the cells.
        min_saved: states of fewer cells are computed again as fast as they are restored.
        group_patience: steps that a request with other adapters lets those pass that can join the
            running ones.
        min_point: a checkpoint must spare so many tokens.
        max_points: checkpoints that one running request is asked for at a time.
        burst_share: prompts per stream from which on all of them are computed in one step, where
            they fit: one long gap for a few instead of many gaps and later starts. From one per
            stream on where they fill no more than half of it.
        prefill_ageing: how much sooner a prompt is continued for each step that it is under way.
    """

    growth_reserve: int = 32
    min_common: int = 16
    min_swept: int = 512
    min_saved: int = 64
    group_patience: int = 100
    burst_share: int = 2
    prefill_ageing: int = 32
    min_point: int = 32
    max_points: int = 8


@dataclass(slots=True)
class Plan:
    """One step: rows to decode, and the sequences that draw tokens from rows' logits.

    Attributes:
        advanced: sequences with the number of their tokens that become computed.
        image: rows of an image, which are a step of their own: there are no other rows then.
        draws: sequences with the index of the row of their last token; a sequence with a draft
            of n tokens draws from n more rows after it.
    """

    rows: list[Row] = field(default_factory=list)
    advanced: list[tuple[Sequence, int]] = field(default_factory=list)
    draws: list[tuple[Sequence, int]] = field(default_factory=list)
    image: ImageRows | None = None
    num_streams: int = 0
    num_drafted: int = 0
