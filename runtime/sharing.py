"""What a request finds computed already, and how its cells come to hold it.

Three kinds of models, by what their backend can do:

- all cells stay and can be cut anywhere (`can_share`): any common beginning is shared;
- cells of sliding windows go when nobody sees them any more (`reaches`, `cuttable`): a beginning is
  shared where its end still has its window;
- states that cannot be cut: whole ones are copied, and in the middle of texts `Checkpoints`.

An image is shared as a whole or not at all: its rows may have one position, or see each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .backend import Backend
from .checkpoints import Checkpoints, places
from .hoststates import HostStates
from .plan import Tuning
from .prefix import CellTree, Match
from .sequence import Sequence


class Beginning(NamedTuple):
    """Computed tokens that a request begins with.

    Attributes:
        match: where they are in the tree.
        slot: whose cells they are; -1 where there are none.
        point: the state after them where that of `slot` is further on; None where it is not.
    """

    match: Match
    slot: int = -1
    point: bytes | None = None

    @property
    def length(self) -> int:
        """How many tokens they are."""
        return self.match.length


class Sharing:
    """Beginnings in cells, in saved states and in checkpoints of one backend."""

    def __init__(
        self,
        backend: Backend,
        tree: CellTree,
        *,
        states: HostStates,
        checkpoints: Checkpoints,
        tuning: Tuning,
    ) -> None:
        self._backend = backend
        self._tree = tree
        self._states = states
        self._checkpoints = checkpoints
        self._tuning = tuning
        self._has_points = backend.has_points and not checkpoints.is_off

    def find(self, sequence: Sequence) -> Beginning:
        """The longest beginning of a request that can be shared; its last token is left out."""
        tokens, group, limit = sequence.tokens, sequence.group, len(sequence.tokens) - 1
        cells = self._tree.match(tokens, limit=limit, group=group)
        while sequence.whole(cells.length) < cells.length:
            limit = sequence.whole(cells.length)
            cells = self._tree.match(tokens, limit=limit, group=group)
        if self._backend.can_share:
            return self._in_sight(sequence, cells)
        whole = self._tree.match_whole(tokens, limit=limit, group=group)
        while sequence.whole(whole.length) < whole.length:
            limit = sequence.whole(whole.length)
            whole = self._tree.match_whole(tokens, limit=limit, group=group)
        if cells.length > whole.length:
            point = self._checkpoints.longest(tokens, limit=cells.length, group=group)
            if point is not None and point.length > whole.length:
                match = self._tree.match(tokens, limit=point.length, group=group)
                return Beginning(match, match.slot, point.state)
        return Beginning(whole, self._tree.slot_ending_at(whole) if whole.length else -1)

    def _in_sight(self, sequence: Sequence, cells: Match) -> Beginning:
        """The longest part of a match of which some holder still has all that its end sees."""
        for match, slot in self._tree.holders(cells):
            length = match.length
            is_whole = sequence.whole(length) == length
            if is_whole and self._backend.reaches(slot, sequence.position(length)):
                return Beginning(match, slot)
        return Beginning(self._tree.nothing(cells))

    def copy(self, sequence: Sequence, beginning: Beginning) -> int:
        """Let a request's empty slot hold a beginning; returns how much of it that became."""
        slot, length = sequence.slot, beginning.length
        if length:
            self._backend.copy(beginning.slot, slot, sequence.position(length))
        if beginning.point is not None and not self._backend.restore_point(slot, beginning.point):
            self._backend.remove(slot, 0)
            beginning = Beginning(self._tree.nothing(beginning.match))
        self._tree.attach(slot, beginning.match)
        return beginning.length

    def is_slow(self, sequence: Sequence, beginning: Beginning) -> bool:
        """Whether cells that a long prompt has no use for are better saved before it is computed.

        Attention goes over all cells up to the last one in use, for each token.
        """
        if self._states.is_off or self._backend.cuttable < self._backend.num_cells:
            return False
        wanted = len(sequence.tokens) - beginning.length
        return self._tuning.min_swept <= wanted <= self._tree.used - beginning.length

    def keep(self, sequence: Sequence, beginning: Beginning) -> None:
        """Two requests share this and go on differently: a system prompt, worth keeping."""
        length = beginning.length
        if not length or self._tree.length(beginning.slot) == length:
            return
        tokens = sequence.tokens[:length]
        if self._states.wants(tokens, sequence.group):
            state = self._backend.save(sequence.slot)
            if state is not None:
                self._states.keep(tokens, state, sequence.group)

    def restore(
        self, sequence: Sequence, shared: int, *, room: int, make_room: Callable[[int], bool]
    ) -> int:
        """Put a saved state into a slot where that is longer than the `shared` tokens there.

        Returns how many tokens the slot then holds. `room` are cells that it may take.
        """
        tokens, group, slot = sequence.tokens, sequence.group, sequence.slot
        saved = self._states.match(
            tokens,
            least=shared + self._tuning.min_saved,
            limit=len(tokens) - 1,
            group=group,
            usable=lambda common, size: self._usable(sequence, common, size),
        )
        if saved is None:
            return shared
        if len(saved.tokens) > room or not make_room(len(saved.tokens)):
            return shared
        self._backend.remove(slot, 0)
        self._tree.cut(slot, 0)
        if not self._backend.restore(slot, saved.state):
            self._backend.remove(slot, 0)
            return 0
        self._tree.extend(slot, saved.tokens)
        if saved.length < len(saved.tokens):
            return self.rewind(sequence, saved.length)
        return saved.length

    def _usable(self, sequence: Sequence, common: int, size: int) -> int:
        """How much of a saved state of `size` tokens serves one with so many in common."""
        common = sequence.whole(common)
        if common == size or size <= self._backend.cuttable:
            return common
        point = self._checkpoints.longest(sequence.tokens, limit=common, group=sequence.group)
        return 0 if point is None else point.length

    def rewind(self, sequence: Sequence, length: int) -> int:
        """Take a request back to `length` tokens, or to fewer where it cannot go on from there."""
        slot, backend = sequence.slot, self._backend
        if backend.can_share:
            length = sequence.whole(length)
            length = length if backend.reaches(slot, sequence.position(length)) else 0
        else:
            point = self._checkpoints.longest(sequence.tokens, limit=length, group=sequence.group)
            restored = point is not None and backend.restore_point(slot, point.state)
            length = point.length if point is not None and restored else 0
        backend.remove(slot, sequence.position(length))
        self._tree.cut(slot, length)
        return length

    def plan_points(self, sequence: Sequence) -> None:
        """Choose where a request that begins shall leave checkpoints."""
        if not self._has_points or sequence.is_exclusive:
            return
        tokens, group = sequence.tokens, sequence.group
        parting = self._tree.match(tokens, limit=len(tokens) - 1, group=group).length
        wanted = (*sequence.marks, sequence.whole(parting), sequence.num_prompt - 1)
        least = self._tuning.min_point
        chosen = places(wanted, start=sequence.computed, end=len(tokens), least=least)
        sequence.points = [at for at in chosen if not self._checkpoints.has(tokens[:at], group)]

    def expect(self, sequence: Sequence, common: int) -> int:
        """How much of its first `common` tokens a running request will leave to others.

        Where that takes a checkpoint, one is planned.
        """
        common = sequence.whole(common)
        if self._backend.can_share:
            return common
        if not self._has_points or sequence.is_exclusive:
            return 0
        points = sequence.points
        near = max((at for at in points if at <= common), default=0)
        if common - near < self._tuning.min_point or len(points) >= self._tuning.max_points:
            return near
        sequence.points = sorted([*points, common])
        return common

    def note(self, sequence: Sequence) -> None:
        """A request was computed further; leave a checkpoint where one is due."""
        points, computed = sequence.points, sequence.computed
        if points and points[0] <= computed:
            if points[0] == computed:
                state = self._backend.save_point(sequence.slot)
                if state is not None:
                    self._checkpoints.add(sequence.tokens[:computed], state, sequence.group)
            sequence.points = [at for at in points if at > computed]
