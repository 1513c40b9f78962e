"""Which rows the next decode call computes. Pure Python, no ctypes; one thread owns it.

Decode first: each running stream gets its row, then prompts share what is left of the batch. A
request is admitted when the cells that its prompt needs are free, not those that it might need one
day. What another sequence has computed is shared at once, also while that one runs; what another is
about to compute is waited for. Cells of finished requests stay until they are needed, the least
recently used go first. When nothing is left to evict the youngest running request is put back and
goes on later, so that a full cache makes requests slow and never fails them.
"""

from __future__ import annotations

from collections import OrderedDict

from .backend import Backend, Row
from .checkpoints import Checkpoints
from .commons import Commons
from .hoststates import HostStates
from .looks import look, looking
from .pace import MIN_ROWS, Pace
from .plan import Plan, Tuning
from .prefix import CellTree
from .sequence import Phase, Sequence
from .sharing import Beginning, Sharing
from .waiting import WaitingRoom


class Scheduler:
    """Queues and cells of one backend."""

    def __init__(
        self,
        backend: Backend,
        *,
        max_running: int,
        pace: Pace | None = None,
        states: HostStates | None = None,
        checkpoints: Checkpoints | None = None,
        tuning: Tuning | None = None,
    ) -> None:
        self._backend = backend
        self._max_running = min(max_running, backend.num_sequences)
        self._free_slots = list(range(backend.num_sequences - 1, -1, -1))
        self._finished: OrderedDict[int, str] = OrderedDict()
        self._pace = pace or Pace(backend.batch_size)
        self._tuning = tuning or Tuning()
        self.states = states or HostStates(0)
        self.tree = CellTree()
        self._sharing = Sharing(
            backend,
            self.tree,
            states=self.states,
            checkpoints=checkpoints or Checkpoints(0),
            tuning=self._tuning,
        )
        self._commons = Commons(self._sharing.expect)
        self.waiting = WaitingRoom()
        self.running: list[Sequence] = []
        self.step = 0
        self.preemptions = 0
        self._looked = False
        self.prompt_computed = 0
        self.prompt_shared = 0

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to compute."""
        return not self.running and not self.waiting

    @property
    def free_cells(self) -> int:
        """Cells that hold nothing."""
        return self._backend.num_cells - self.tree.used

    def add(self, sequence: Sequence) -> None:
        """Queue a request. Its prompt must fit the cells with one to spare."""
        self.waiting.add(sequence, step=self.step)

    def remove(self, sequence: Sequence) -> None:
        """Take a request out, wherever it stands; its cells can be shared or evicted."""
        if sequence.phase is Phase.RUNNING:
            self._retire(sequence)
        elif sequence.phase is Phase.WAITING:
            self.waiting.remove(sequence)
        sequence.phase = Phase.OVER

    def plan(self) -> Plan:
        """The next step's rows; empty only where nothing can run."""
        self.step += 1
        self._admit()
        if (images := self._look()) is not None:
            return images
        while True:
            streams = [sequence for sequence in self.running if not sequence.is_prefilling]
            if not self._make_room(len(streams)):
                self._preempt(self.running[-1])
                continue
            plan = self._fill(streams)
            if plan.rows or len(self.running) < 2:
                return plan
            self._preempt(self.running[-1])

    def applied(self, plan: Plan) -> None:
        """The plan's rows were computed, all drafts among them."""
        for sequence, count in plan.advanced:
            start = sequence.computed
            computed = sequence.tokens[start : start + count]
            if sequence.draft:
                computed += sequence.draft
            sequence.computed = start + len(computed)
            self.prompt_computed += max(0, min(start + count, sequence.num_prompt) - start)
            self.tree.extend(sequence.slot, computed)
            self._sharing.note(sequence)

    def cut(self, sequence: Sequence, length: int) -> None:
        """Forget what is computed of a running request from position `length` on, at least."""
        sequence.computed = self._sharing.rewind(sequence, length)

    def shift(self, sequence: Sequence, keep: int, discard: int) -> None:
        """Drop `discard` tokens after the first `keep` of a running request; the rest moves up.

        Cells that others share cannot move, so what follows `keep` is then computed again.
        """
        del sequence.tokens[keep : keep + discard]
        slot, computed = sequence.slot, sequence.computed
        if not (self._backend.can_shift and self.tree.is_exclusive(slot, keep)):
            self.cut(sequence, keep)
            return
        self._backend.remove(slot, keep, keep + discard)
        self._backend.shift(slot, keep + discard, computed, -discard)
        self.tree.cut(slot, keep)
        sequence.computed = computed - discard
        self.tree.extend_hidden(slot, sequence.tokens[keep : sequence.computed])
        if not self._backend.reaches(slot, sequence.computed):
            self.cut(sequence, keep)

    def preempt_youngest(self) -> bool:
        """Put the youngest running request back into the queue; False where there is only one."""
        if len(self.running) < 2:
            return False
        self._preempt(self.running[-1])
        return True

    def restart_all(self) -> None:
        """After a failed decode: forget all cells and compute every running request anew."""
        for sequence in reversed(tuple(self.running)):
            self._release(sequence.slot)
            self._put_back(sequence)
        while self._finished:
            self._release(self._finished.popitem()[0])

    def _fill(self, streams: list[Sequence]) -> Plan:
        plan = Plan()
        size = self._backend.batch_size
        for sequence in streams[:size]:
            self._take(plan, sequence, 1)
        plan.num_streams = len(plan.rows)
        self._add_drafts(plan)
        budget = size - len(plan.rows)
        prefilling = self._prefill_order()
        if plan.rows and not self._is_burst(prefilling, plan.num_streams, budget):
            crowd = len(prefilling) / plan.num_streams
            budget = min(budget, self._pace.prefill_rows(crowd))
        for sequence in prefilling:
            wanted = min(budget, sequence.stretch)
            if not self._make_room(len(plan.rows) + wanted):
                wanted = min(wanted, self.free_cells - len(plan.rows))
            if wanted <= 0:
                break
            budget -= self._take(plan, sequence, wanted)
        return plan

    def _is_burst(self, prefilling: list[Sequence], num_streams: int, room: int) -> bool:
        """Whether all prompts go into this step, since those who wait outnumber the streams.

        Chunk by chunk the few streams would see as long a delay, in pieces, and the many would
        start one after the other instead of together.
        """
        crowd = len(prefilling)
        if crowd < max(2, num_streams):
            return False
        if crowd < self._tuning.burst_share * num_streams:
            room //= 2
        return sum(sequence.remaining for sequence in prefilling) <= room

    def _look(self) -> Plan | None:
        """A step for rows of an image, every other one where there is other work."""
        lookers = looking(self.running)
        if not lookers or (self._looked and len(lookers) < len(self.running)):
            self._looked = False
            return None
        is_alone = len(lookers) == len(self.running)
        most = self._backend.batch_size
        beside = max(MIN_ROWS, self._pace.prefill_rows())
        plan = look(lookers[0], most if is_alone else min(most, beside))
        while not self._make_room(plan.advanced[0][1]):
            self._preempt(self.running[-1])
            if lookers[0] not in self.running:
                return None
        self._looked = True
        return plan

    def _take(self, plan: Plan, sequence: Sequence, count: int) -> int:
        start, end = sequence.computed, sequence.computed + count
        last = end == len(sequence.tokens)
        rows, tokens, slot = plan.rows, sequence.tokens, sequence.slot
        at = sequence.position(start)
        for position, token in enumerate(tokens[start : end - 1], start=at):
            rows.append(Row(token, position, slot, False))
        rows.append(Row(tokens[end - 1], at + count - 1, slot, last))
        plan.advanced.append((sequence, count))
        if last:
            plan.draws.append((sequence, len(rows) - 1))
        return count

    def _add_drafts(self, plan: Plan) -> None:
        """Put drafts behind their streams' rows, as far as there is room for all of one."""
        if not any(sequence.draft for sequence, _ in plan.draws):
            return
        rows: list[Row] = []
        draws: list[tuple[Sequence, int]] = []
        spare = self._backend.batch_size - len(plan.rows)
        for (sequence, at), row in zip(plan.draws, plan.rows, strict=True):
            assert plan.rows[at] is row
            draws.append((sequence, len(rows)))
            rows.append(row)
            draft = sequence.draft
            if len(draft) > min(spare, self.free_cells - len(plan.rows) - plan.num_drafted):
                sequence.draft = draft = ()
            spare -= len(draft)
            plan.num_drafted += len(draft)
            for number, token in enumerate(draft, start=row.position + 1):
                rows.append(Row(token, number, row.sequence, True))
        plan.rows, plan.draws = rows, draws

    def _prefill_order(self) -> list[Sequence]:
        """Prompts under way, the one with the least left first: it starts to answer soonest."""
        prefilling = [s for s in self.running if s.is_prefilling and s.stretch]
        if len(prefilling) < 2:
            return prefilling
        now = self.step
        return sorted(
            prefilling,
            key=lambda s: s.remaining - self._tuning.prefill_ageing * (now - s.admitted_step),
        )

    def _admit(self) -> None:
        if not self.waiting or len(self.running) >= self._max_running:
            return
        for sequence in self.waiting.in_order(step=self.step):
            if len(self.running) >= self._max_running:
                return
            if self.running and not self._may_join(sequence):
                if (
                    self.step - sequence.arrived_step > self._tuning.group_patience
                    or sequence.is_exclusive
                ):
                    return
                continue
            if self.running and self._is_worth_waiting(sequence):
                continue
            if not self._try_admit(sequence):
                return

    def _may_join(self, sequence: Sequence) -> bool:
        """Whether a request may run beside those that do."""
        first = self.running[0]
        if sequence.is_exclusive or first.is_exclusive:
            return False
        return sequence.group == first.group

    def _is_worth_waiting(self, sequence: Sequence) -> bool:
        """Whether another request is computing a longer common beginning than there is now."""
        best = self._commons.longest(sequence, self.running)
        if best < self._tuning.min_common:
            return False
        return best >= self._sharing.find(sequence).length + self._tuning.min_common

    def _try_admit(self, sequence: Sequence) -> bool:
        if sequence.is_exclusive:
            while self._finished:
                self._release(self._finished.popitem()[0])
            self._backend.clear()
        beginning = self._sharing.find(sequence)
        promised = sum(other.remaining for other in self.running)
        available = self._backend.num_cells - self.tree.active - promised
        reserve = self._tuning.growth_reserve if self.running else 0
        # Cells of finished requests count as free, but not those that this one would share.
        shared = self.tree.active_length(beginning.match)
        if len(sequence.tokens) + reserve > available + shared:
            return False
        self._sweep(sequence, beginning)
        slot = self._take_slot(beginning)
        if slot is None:
            return False
        self.waiting.admitted(sequence)
        sequence.phase = Phase.RUNNING
        sequence.slot = slot
        is_new = not sequence.admitted_step
        sequence.admitted_step = self.step
        self.running.append(sequence)
        self._begin(sequence, self._sharing.find(sequence))
        if is_new:
            # What it shares with itself after it had to leave is none of its prompt's doing.
            sequence.cached = sequence.computed
            self.prompt_shared += sequence.cached
        return True

    def _begin(self, sequence: Sequence, beginning: Beginning) -> None:
        """Let an admitted request share or restore what is computed of it."""
        if beginning.slot in self._finished:
            self._finished.move_to_end(beginning.slot)
        length = self._sharing.copy(sequence, beginning)
        self._sharing.keep(sequence, beginning)
        if not sequence.is_exclusive:
            promised = sum(other.remaining for other in self.running if other is not sequence)
            room = self._backend.num_cells - self.tree.active - promised
            length = self._sharing.restore(sequence, length, room=room, make_room=self._make_room)
        sequence.computed = length
        self._sharing.plan_points(sequence)

    def _take_slot(self, beginning: Beginning) -> int | None:
        """A free slot, if need be that of a finished request, if possible not the matching one."""
        if not self._free_slots:
            kept = beginning.slot
            victims = [slot for slot in self._finished if slot != kept] or list(self._finished)
            if not victims:
                return None
            self._evict(victims[0])
        return self._free_slots.pop()

    def _sweep(self, sequence: Sequence, beginning: Beginning) -> None:
        """Move what is finished to main memory where it slows a long prompt down."""
        if self.running or not self._sharing.is_slow(sequence, beginning):
            return
        for slot in [slot for slot in self._finished if slot != beginning.slot]:
            room = self.states.room
            self._evict(slot)
            if 2 * self.states.room < room:
                break

    def _make_room(self, cells: int) -> bool:
        """Evict finished requests until so many cells are free; False where that is not enough."""
        while self.free_cells < cells:
            if not self._finished:
                return False
            self._evict(next(iter(self._finished)))
        return True

    def _evict(self, slot: int) -> None:
        group = self._finished.pop(slot)
        self._save(slot, group)
        self._release(slot)

    def _save(self, slot: int, group: str) -> None:
        if self.states.is_off or self.tree.own_cells(slot) < self._tuning.min_saved:
            return
        tokens = self.tree.tokens(slot)
        if self.states.covers(tokens, group):
            return
        state = self._backend.save(slot)
        if state is not None:
            self.states.add(tokens, state, group)

    def _preempt(self, sequence: Sequence) -> None:
        """Put a running request back; its cells can be evicted, or shared by itself again."""
        self.preemptions += 1
        self._retire(sequence, reset=False)
        self._put_back(sequence)

    def _put_back(self, sequence: Sequence) -> None:
        if sequence in self.running:
            self.running.remove(sequence)
        sequence.phase = Phase.WAITING
        sequence.computed = 0
        sequence.slot = -1
        sequence.draft = ()
        sequence.points = []
        self.waiting.put_back(sequence)

    def _retire(self, sequence: Sequence, *, reset: bool = True) -> None:
        """End the run of a request and keep its cells, as far as they may be of use."""
        slot = sequence.slot
        self.running.remove(sequence)
        self._commons.forget(sequence)
        self.tree.retire(slot)
        if self.tree.is_useless(slot) or sequence.is_exclusive:
            self._release(slot)
        else:
            self._finished[slot] = sequence.group
        if reset:
            sequence.computed = 0
            sequence.slot = -1

    def _release(self, slot: int) -> None:
        self._backend.remove(slot, 0)
        self.tree.release(slot)
        self._free_slots.append(slot)
