"""Leaves the oldest messages out of a prompt that is too long, and says how many. Pure.

The rule is Ollama's: system messages and the last message always stay, and of the others the
longest run of newest ones that fits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from .errors import TemplateError
from .messages import Message
from .request import Segment


class Fit(Protocol):
    """How much fits, and how much something is; both in tokens. Asking may take long."""

    @property
    def sure(self) -> int:
        """Tokens that fit for sure, known without asking."""

    def limit(self) -> int:
        """The most tokens that a prompt may have."""

    def count(self, segments: Sequence[Segment]) -> int:
        """Tokens of a prompt's texts."""

    def count_images(self, images: Sequence[bytes]) -> int:
        """Tokens of a prompt's images."""


class Rendered(Protocol):
    """What a rendering is to trimming."""

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The pieces."""

    @property
    def images(self) -> tuple[bytes, ...]:
        """The images."""


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What was left out of a prompt: whole messages, and the tokens that they took in it."""

    messages: int
    tokens: int


_R = TypeVar("_R", bound=Rendered)


def trim(
    turns: Sequence[Message],
    whole: _R,
    render: Callable[[Sequence[Message]], _R],
    fit: Fit,
) -> tuple[_R, Trimmed | None]:
    """The rendering of as many messages as fit, and what was left out; None where all fit.

    Where not even the last message fits, it is rendered all the same: the engine decides then.

    Raises:
        TemplateError: where the template refuses even the last message alone.
    """
    # A token has at least one byte, so that a short text needs no counting.
    letters = sum(len(segment.text.encode("utf-8", "replace")) for segment in whole.segments)
    if not whole.images and letters < fit.sure:
        return whole, None
    limit = fit.limit()
    if not whole.images and letters < limit:
        return whole, None
    total = _size(whole, fit)
    droppable = [i for i, turn in enumerate(turns[:-1]) if turn.role != "system"]
    if total <= limit or not droppable:
        return whole, None
    count, rendered = _fewest(turns, droppable, render, fit, limit)
    return rendered, Trimmed(count, max(0, total - _size(rendered, fit)))


def _fewest(
    turns: Sequence[Message],
    droppable: Sequence[int],
    render: Callable[[Sequence[Message]], _R],
    fit: Fit,
    limit: int,
) -> tuple[int, _R]:
    """How many of the oldest messages must go, and the rendering without them.

    A template may want turns to alternate, and refuse every second number: then the next one is
    tried.
    """
    low, high = 1, len(droppable)
    best: tuple[int, _R] | None = None
    while low < high:
        count = middle = (low + high) // 2
        candidate = _attempt(turns, droppable[:count], render)
        if candidate is None and count + 1 < high:
            count += 1
            candidate = _attempt(turns, droppable[:count], render)
        if candidate is not None and _size(candidate, fit) <= limit:
            best, high = (count, candidate), middle
        else:
            low = count + 1
    if best is None:
        return len(droppable), render(_without(turns, droppable))
    if low < best[0]:
        candidate = _attempt(turns, droppable[:low], render)
        if candidate is not None and _size(candidate, fit) <= limit:
            return low, candidate
    return best


def _attempt(
    turns: Sequence[Message], dropped: Sequence[int], render: Callable[[Sequence[Message]], _R]
) -> _R | None:
    """A rendering, None where the template refuses to begin with these messages."""
    try:
        return render(_without(turns, dropped))
    except TemplateError:
        return None


def _without(turns: Sequence[Message], dropped: Sequence[int]) -> list[Message]:
    gone = frozenset(dropped)
    return [turn for index, turn in enumerate(turns) if index not in gone]


def _size(rendered: Rendered, fit: Fit) -> int:
    return fit.count(rendered.segments) + fit.count_images(rendered.images)
