"""The radix tree of cells: which tokens are computed, and which sequences hold them. Pure.

A node is a run of cells that are always held together. A slot (a sequence id of the backend) holds
the path from the root to its leaf. Slots with a common beginning hold the same nodes, as their
cells in the backend carry both ids, so a node's cells are counted once. Where two sequences
computed the same tokens apart from each other, the second run is in the tree but is not found by
`match`; it is counted, since its cells are real.

    used   = Σ len(node) over all nodes
    active = Σ len(node) over nodes that a running slot holds; the rest can be evicted
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Node:
    """A run of computed tokens; `holders` and masks of slots are bit sets."""

    __slots__ = ("children", "holders", "parent", "start", "tokens")

    def __init__(self, tokens: list[int], start: int, parent: Node | None, holders: int) -> None:
        self.tokens = tokens
        self.start = start
        self.parent = parent
        self.holders = holders
        self.children: dict[int, Node] = {}

    @property
    def end(self) -> int:
        """The position after the last token."""
        return self.start + len(self.tokens)


class Match(NamedTuple):
    """The longest computed beginning of some tokens: `length` of them, up to inside `node`."""

    node: Node
    length: int

    @property
    def slot(self) -> int:
        """A slot that holds these cells; only where `length` is positive."""
        return (self.node.holders & -self.node.holders).bit_length() - 1


class CellTree:
    """All cells of one backend."""

    def __init__(self) -> None:
        self._roots: dict[str, Node] = {}
        self._leaves: dict[int, Node] = {}
        self._running = 0
        self.used = 0
        self.active = 0

    def match(self, tokens: Sequence[int], *, limit: int, group: str = "") -> Match:
        """The longest beginning of `tokens`, at most `limit` of them, that can be shared.

        `group` separates what may not be mixed: the same tokens under other adapters.
        """
        node = self._root(group)
        while True:
            end = node.end
            child = node.children.get(tokens[end]) if end < limit else None
            if child is None:
                return Match(node, end)
            common = common_prefix(child.tokens, tokens, child.start, limit)
            if common < len(child.tokens):
                return Match(child, child.start + common)
            node = child

    def match_whole(self, tokens: Sequence[int], *, limit: int, group: str = "") -> Match:
        """As `match`, but only what a slot holds from its beginning to its very end."""
        node = self._root(group)
        best = Match(node, 0)
        while True:
            end = node.end
            child = node.children.get(tokens[end]) if end < limit else None
            if child is None:
                return best
            if common_prefix(child.tokens, tokens, child.start, limit) < len(child.tokens):
                return best
            node = child
            if any(leaf is node for leaf in self._leaves.values()):
                best = Match(node, node.end)

    def holders(self, match: Match) -> Iterator[tuple[Match, int]]:
        """Who holds a match, then who holds shorter parts of it, with that part; not its root."""
        node, length = match
        while node.parent is not None:
            part, rest = Match(node, min(length, node.end)), node.holders
            while rest:
                slot = (rest & -rest).bit_length() - 1
                yield part, slot
                rest ^= 1 << slot
            node = node.parent

    def nothing(self, match: Match) -> Match:
        """The match of no token at all in the group of `match`."""
        node = match.node
        while node.parent is not None:
            node = node.parent
        return Match(node, 0)

    def slot_ending_at(self, match: Match) -> int:
        """A slot whose leaf is the node of a `match_whole`."""
        return next(slot for slot, leaf in self._leaves.items() if leaf is match.node)

    def active_length(self, match: Match) -> int:
        """How many of a match's cells running slots hold already."""
        node: Node | None = match.node
        while node is not None and not node.holders & self._running:
            node = node.parent
        return 0 if node is None else min(node.end, match.length)

    def attach(self, slot: int, match: Match) -> None:
        """Let a running slot that holds nothing hold a match's cells."""
        node = match.node
        if match.length < node.end:
            node = self._split(node, match.length - node.start)
        bit = 1 << slot
        self._running |= bit
        self._leaves[slot] = node
        while node.parent is not None:
            if not node.holders & self._running:
                self.active += len(node.tokens)
            node.holders |= bit
            node = node.parent

    def extend(self, slot: int, tokens: list[int]) -> None:
        """Tokens were computed at the end of a running slot."""
        leaf = self._leaves[slot]
        self.used += len(tokens)
        self.active += len(tokens)
        if leaf.holders == 1 << slot and leaf.parent is not None:
            leaf.tokens += tokens
            return
        node = Node(list(tokens), leaf.end, leaf, 1 << slot)
        leaf.children.setdefault(tokens[0], node)
        self._leaves[slot] = node

    def extend_hidden(self, slot: int, tokens: list[int]) -> None:
        """As `extend`, for cells that nobody may share: their positions have moved."""
        leaf = self._leaves[slot]
        self.used += len(tokens)
        self.active += len(tokens)
        self._leaves[slot] = Node(list(tokens), leaf.end, leaf, 1 << slot)

    def cut(self, slot: int, length: int) -> None:
        """A slot gave up its cells from position `length` on."""
        bit = 1 << slot
        node = self._leaves[slot]
        while node.start >= length and node.parent is not None:
            node = self._leave(node, bit)
        if node.end > length:
            if node.holders == bit:
                self._count(node, length - node.end)
                del node.tokens[length - node.start :]
            else:
                upper = self._split(node, length - node.start)
                self._leave(node, bit)
                node = upper
        self._leaves[slot] = node

    def release(self, slot: int) -> None:
        """A slot gave up all its cells."""
        bit = 1 << slot
        node = self._leaves.pop(slot)
        while node.parent is not None:
            node = self._leave(node, bit)
        self._running &= ~bit

    def retire(self, slot: int) -> None:
        """A running slot is done; its cells stay for others to share, and can be evicted."""
        bit = 1 << slot
        node = self._leaves[slot]
        self._running &= ~bit
        while node.parent is not None:
            if not node.holders & self._running:
                self.active -= len(node.tokens)
            node = node.parent

    def is_useless(self, slot: int) -> bool:
        """Whether a slot gives nothing to share: others hold it all, or none can find it."""
        node = self._leaves[slot]
        if node.parent is None or node.holders != 1 << slot:
            return True
        while node.parent is not None:
            if node.parent.children.get(node.tokens[0]) is not node:
                return True
            node = node.parent
        return False

    def is_exclusive(self, slot: int, start: int) -> bool:
        """Whether nobody else holds the cells of a slot from position `start` on."""
        node = self._leaves[slot]
        while node.parent is not None and node.end > start:
            if node.holders != 1 << slot:
                return False
            node = node.parent
        return True

    def length(self, slot: int) -> int:
        """How many positions a slot holds."""
        return self._leaves[slot].end

    def tokens(self, slot: int) -> list[int]:
        """The tokens of a slot."""
        runs: list[list[int]] = []
        node: Node | None = self._leaves[slot]
        while node is not None:
            runs.append(node.tokens)
            node = node.parent
        return [token for run in reversed(runs) for token in run]

    def own_cells(self, slot: int) -> int:
        """Cells that would be free if this slot gave up its own."""
        node = self._leaves[slot]
        cells = 0
        while node.parent is not None and node.holders == 1 << slot:
            cells += len(node.tokens)
            node = node.parent
        return cells

    def _root(self, group: str) -> Node:
        return self._roots.setdefault(group, Node([], 0, None, 0))

    def _split(self, node: Node, at: int) -> Node:
        """Cut a node in two and return the upper part; `node` itself becomes the lower."""
        parent = node.parent
        assert parent is not None
        assert 0 < at < len(node.tokens)
        upper = Node(node.tokens[:at], node.start, parent, node.holders)
        if parent.children.get(node.tokens[0]) is node:
            parent.children[node.tokens[0]] = upper
        node.tokens = node.tokens[at:]
        node.start += at
        node.parent = upper
        upper.children[node.tokens[0]] = node
        return upper

    def _leave(self, node: Node, bit: int) -> Node:
        """Take a slot off a node and return the parent; a node that nobody holds is gone."""
        parent = node.parent
        assert parent is not None
        if node.holders & self._running == bit:
            self.active -= len(node.tokens)
        node.holders &= ~bit
        if not node.holders:
            self.used -= len(node.tokens)
            if parent.children.get(node.tokens[0]) is node:
                del parent.children[node.tokens[0]]
        return parent

    def _count(self, node: Node, change: int) -> None:
        self.used += change
        if node.holders & self._running:
            self.active += change


def common_prefix(run: list[int], tokens: Sequence[int], start: int, limit: int) -> int:
    """How many tokens of `run` equal those of `tokens` from `start` on, below `limit`.

    >>> common_prefix([2, 3, 9], [1, 2, 3, 4], 1, 4)
    2
    """
    low, high = 0, min(len(run), limit - start)
    if run[:high] == tokens[start : start + high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if run[low:middle] == tokens[start + low : start + middle]:
            low = middle
        else:
            high = middle
    return low
