"""The variables that a place in a Go template sees, and where in the frame each lives. Not shared.

A later variable of one name hides the earlier one until its block ends. Looking one up takes one
step, however many there are: a template may declare tens of thousands.
"""

from __future__ import annotations


class Scope:
    """The variables of one template body; `$` is always there, in slot 0."""

    def __init__(self) -> None:
        self.size = 0
        self._slots: dict[str, list[int]] = {"$": [0]}
        self._declared: list[str] = []

    def declare(self, name: str) -> int:
        """A new variable; its slot, which no other one ever gets."""
        self.size += 1
        self._slots.setdefault(name, []).append(self.size)
        self._declared.append(name)
        return self.size

    def slot(self, name: str) -> int | None:
        """Where the innermost variable of this name lives, None where there is none."""
        slots = self._slots.get(name)
        return slots[-1] if slots else None

    def enter(self) -> int:
        """Begin a block; what `leave` wants at its end."""
        return len(self._declared)

    def leave(self, outer: int) -> None:
        """End a block: its variables are gone."""
        while len(self._declared) > outer:
            self._slots[self._declared.pop()].pop()
