"""Which rows the next decode call computes. Pure Python, no ctypes; one thread owns it.

Decode first: each running stream gets its one row, then prompts share what is left of the batch in
chunks. A request is admitted when the cells that its prompt needs are free, not those that it might
need one day; when the cells run out the youngest is put back and computed again later, so that a
full cache makes requests slow and never fails them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from .backend import Backend, Row
from .sequence import Phase, Sequence

# Cells that a request must find free beyond its prompt, so that it does not stall at once.
GROWTH_RESERVE = 32
# Prompt tokens in one step while streams are running: on a CPU the step's length, and so the gap
# between their tokens, grows with it.
PREFILL_BESIDE_STREAMS = 128


@dataclass(slots=True)
class Plan:
    """One step: rows to decode, and the sequences that draw a token from a row's logits."""

    rows: list[Row] = field(default_factory=list)
    advanced: list[tuple[Sequence, int]] = field(default_factory=list)
    draws: list[tuple[Sequence, int]] = field(default_factory=list)


class Scheduler:
    """Queues and cells of one backend."""

    def __init__(self, backend: Backend, *, max_running: int) -> None:
        self._backend = backend
        self._max_running = min(max_running, backend.num_sequences)
        self._free_slots = list(range(backend.num_sequences - 1, -1, -1))
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.used_cells = 0

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to compute."""
        return not self.running and not self.waiting

    def add(self, sequence: Sequence) -> None:
        """Queue a request. Its prompt must fit the cells with a token to spare."""
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take a request out, wherever it stands; its cells are free at once. Idempotent."""
        if sequence.phase is Phase.RUNNING:
            self._release(sequence)
        elif sequence.phase is Phase.WAITING:
            self.waiting.remove(sequence)
        sequence.phase = Phase.OVER

    def plan(self) -> Plan:
        """The next step's rows; empty only where nothing can run."""
        self._make_room()
        self._admit()
        plan = Plan()
        streams = [sequence for sequence in self.running if not sequence.is_prefilling]
        for sequence in streams[: self._backend.batch_size]:
            self._take(plan, sequence, 1)
        budget = self._backend.batch_size - len(plan.rows)
        if plan.rows:
            budget = min(budget, PREFILL_BESIDE_STREAMS)
        for sequence in self._prefill_order():
            if budget <= 0:
                break
            budget -= self._take(plan, sequence, min(budget, sequence.remaining))
        return plan

    def applied(self, plan: Plan) -> None:
        """The plan's rows were computed."""
        for sequence, count in plan.advanced:
            sequence.computed += count
            self.used_cells += count

    def preempt_youngest(self) -> bool:
        """Put the youngest running request back into the queue; False where there is only one."""
        if len(self.running) < 2:
            return False
        self._preempt(self.running[-1])
        return True

    def restart_all(self) -> None:
        """After a failed decode: forget all cells and compute every running request anew."""
        for sequence in reversed(tuple(self.running)):
            self._preempt(sequence)

    def _take(self, plan: Plan, sequence: Sequence, count: int) -> int:
        start, end = sequence.computed, sequence.computed + count
        last = end == len(sequence.tokens)
        rows = plan.rows
        slot = sequence.slot
        for position in range(start, end - 1):
            rows.append(Row(sequence.tokens[position], position, slot, False))
        rows.append(Row(sequence.tokens[end - 1], end - 1, slot, last))
        plan.advanced.append((sequence, count))
        if last:
            plan.draws.append((sequence, len(rows) - 1))
        return count

    def _prefill_order(self) -> list[Sequence]:
        """Prompts under way, the one with the least left first: it starts to answer soonest."""
        prefilling = [sequence for sequence in self.running if sequence.is_prefilling]
        return sorted(prefilling, key=lambda sequence: sequence.remaining)

    def _make_room(self) -> None:
        """See to it that each running stream has a cell for its next token."""
        while self._backend.num_cells - self.used_cells < len(self.running):
            if not self.preempt_youngest():
                return

    def _admit(self) -> None:
        while self.waiting and len(self.running) < self._max_running and self._free_slots:
            sequence = self.waiting[0]
            promised = sum(other.remaining for other in self.running)
            free = self._backend.num_cells - self.used_cells - promised
            reserve = GROWTH_RESERVE if self.running else 0
            if sequence.remaining + reserve > free:
                return
            self.waiting.popleft()
            sequence.slot = self._free_slots.pop()
            sequence.phase = Phase.RUNNING
            self.running.append(sequence)

    def _preempt(self, sequence: Sequence) -> None:
        self._release(sequence)
        sequence.phase = Phase.WAITING
        self.waiting.appendleft(sequence)

    def _release(self, sequence: Sequence) -> None:
        self._backend.remove(sequence.slot, 0)
        self.used_cells -= sequence.computed
        self._free_slots.append(sequence.slot)
        self.running.remove(sequence)
        sequence.computed = 0
        sequence.slot = -1
