"""The queue of requests: by priority, fair between clients, and nobody waits for ever. Pure.

Start-time fair queueing: each request gets a virtual start, the later of the queue's own time and
the end of its client's last request, which is that one's start plus its tokens. So a client's
hundred requests stand behind the one that somebody else has sent. Waiting makes up for both: each
`AGEING_STEPS` engine steps count as one level of priority.
"""

from __future__ import annotations

from collections.abc import Iterator

from .sequence import Sequence

AGEING_STEPS = 2000


class WaitingRoom:
    """Requests that have no cells yet, or lost them."""

    def __init__(self) -> None:
        self._sequences: list[Sequence] = []
        self._ends: dict[str, float] = {}
        self._now = 0.0
        self._count = 0

    def add(self, sequence: Sequence, *, step: int) -> None:
        """Queue a new request, which arrives at an engine step."""
        self._count += 1
        start = max(self._now, self._ends.get(sequence.client, 0.0))
        self._ends[sequence.client] = start + len(sequence.tokens)
        sequence.order = (start, self._count)
        sequence.arrived_step = step
        self._sequences.append(sequence)

    def put_back(self, sequence: Sequence) -> None:
        """Queue a request again that was running; it keeps its place."""
        self._sequences.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take a request out."""
        self._sequences.remove(sequence)
        if not self._sequences:
            self._ends.clear()

    def in_order(self, *, step: int) -> list[Sequence]:
        """All requests, the one whose turn it is first."""

        def rank(sequence: Sequence) -> tuple[int, float, int]:
            age = (step - sequence.arrived_step) // AGEING_STEPS
            return (sequence.priority - age, *sequence.order)

        return sorted(self._sequences, key=rank)

    def admitted(self, sequence: Sequence) -> None:
        """Take out the request whose turn came; virtual time goes on to its start."""
        self._now = max(self._now, sequence.order[0])
        self.remove(sequence)

    def __len__(self) -> int:
        return len(self._sequences)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._sequences)
