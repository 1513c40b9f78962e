"""Sets of byte ranges, kept sorted and merged. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Spans:
    """Half-open ranges ``[start, stop)``; adjacent and overlapping ones become one.

    >>> spans = Spans(); spans.add(0, 4); spans.add(8, 9); spans.add(4, 8); list(spans)
    [(0, 9)]
    """

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._starts, self._stops, strict=True))

    def add(self, start: int, stop: int) -> None:
        """Cover `start` to `stop` too."""
        if start >= stop:
            return
        first = bisect_left(self._stops, start)
        last = bisect_right(self._starts, stop)
        if first < last:
            start = min(start, self._starts[first])
            stop = max(stop, self._stops[last - 1])
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]

    def covers(self, start: int, stop: int) -> bool:
        """Whether the whole of a range is covered."""
        index = bisect_right(self._starts, start) - 1
        return start >= stop or (index >= 0 and self._stops[index] >= stop)

    @property
    def prefix(self) -> int:
        """How many bytes from 0 on are covered without a gap."""
        return self._stops[0] if self._starts and self._starts[0] == 0 else 0

    @property
    def size(self) -> int:
        """How many bytes are covered."""
        return sum(self._stops) - sum(self._starts)

    def gaps(self, size: int) -> list[tuple[int, int]]:
        """What is missing below `size`, in order."""
        found, position = [], 0
        for start, stop in self:
            if start > position:
                found.append((position, min(start, size)))
            position = max(position, stop)
        if position < size:
            found.append((position, size))
        return found
