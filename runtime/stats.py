"""What an engine has done since its model was loaded, and what it has at hand. Pure values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counts since the load, then the present.

    Attributes:
        prompt_tokens_computed: decoded for prompts; what was computed again after it had to leave
            the cells counts again.
        prompt_tokens_shared: not decoded, since their state was in cells, in main memory or on
            disk when their request was admitted.
        answer_tokens: drawn.
        tokens_drafted: guessed ahead; `tokens_accepted` of them came true.
        preemptions: requests put back into the queue because the cells were full.
        running: requests that have cells.
        waiting: requests that have none yet, or lost them.
        cells: that all requests together may hold; `cells_used` of them hold something.
    """

    prompt_tokens_computed: int = 0
    prompt_tokens_shared: int = 0
    answer_tokens: int = 0
    tokens_drafted: int = 0
    tokens_accepted: int = 0
    preemptions: int = 0
    running: int = 0
    waiting: int = 0
    cells: int = 0
    cells_used: int = 0

    def record(self) -> dict[str, int]:
        """The numbers by name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}
