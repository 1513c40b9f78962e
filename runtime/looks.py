"""The next rows of an image that a scheduler's step may compute. Pure.

An image is never in one step with tokens: its rows are numbers where theirs are ids, and some
models let the rows of an image see each other both ways.
"""

from __future__ import annotations

from collections.abc import Sequence as Sequenced

from .backend import ImageRows
from .plan import Plan
from .sequence import Sequence


def looking(running: Sequenced[Sequence]) -> list[Sequence]:
    """The requests whose next token is a row of an image."""
    return [one for one in running if one.spans and one.span_at(one.computed)]


def look(sequence: Sequence, most: int) -> Plan:
    """A step for the image that a request is at; at most `most` rows where it can be parted."""
    span = sequence.span_at(sequence.computed)
    assert span is not None
    left = span.end - sequence.computed
    count = min(left, most) if span.slice.is_causal else left
    first, position = sequence.computed - span.start, sequence.position(span.start)
    rows = ImageRows(span.slice, first, count, position, sequence.slot)
    return Plan(image=rows, advanced=[(sequence, count)])
