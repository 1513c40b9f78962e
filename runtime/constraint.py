"""What an answer must look like: a grammar, and where in the answer it begins. Pure values."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Constraint:
    """A rule for one answer. Texts that are cut in tokens count as they read, not as they are cut.

    Attributes:
        grammar: in llguidance's Lark or serial form; empty for none.
        marks: texts that the grammar names as its rules `mark_0`, `mark_1` …, which it leaves to be
            defined: they may be control tokens of the model.
        is_json: whether what it describes is JSON, perhaps with marks around it.
        closing: texts that end open parts of a grammar that is no JSON, to be tried first.
        stems: ends of texts that match the patterns of its strings.
        thinking: tags of a model that may reason first; the grammar begins after the closing one.
        is_open: whether the prompt ends within the reasoning.
        budget: tokens of reasoning after which the closing tag is written for the model.
        trigger: a regular expression; the grammar begins, each time, with what it matches, and all
            else is free. Where both are empty, the grammar is the whole answer.
        start_trigger: one that counts at the beginning of the answer only.
    """

    grammar: str = ""
    marks: tuple[str, ...] = ()
    is_json: bool = False
    closing: tuple[str, ...] = ()
    stems: tuple[str, ...] = ()
    thinking: tuple[str, str] | None = None
    is_open: bool = False
    budget: int | None = None
    trigger: str = ""
    start_trigger: str = ""

    @property
    def is_lazy(self) -> bool:
        """Whether all is free before a trigger."""
        return bool(self.trigger or self.start_trigger)


def pattern_of(trigger: str) -> re.Pattern[bytes] | None:
    """A trigger's expression over bytes of text, None where there is none."""
    return re.compile(trigger.encode()) if trigger else None
