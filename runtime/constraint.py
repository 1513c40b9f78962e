"""What an answer must look like: a grammar, and where in the answer it begins. Pure values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Constraint:
    """A rule for one answer. Texts that are cut in tokens count as they read, not as they are cut.

    Attributes:
        grammar: in llguidance's serial form; empty for none.
        thinking: tags of a model that may reason first; the grammar begins after the closing one.
        is_open: whether the prompt ends within the reasoning.
        budget: tokens of reasoning after which the closing tag is written for the model.
        prefix: what is written for the model before the grammar begins.
        trigger: the grammar begins, each time, where the model writes this; all else is free.
    """

    grammar: str = ""
    thinking: tuple[str, str] | None = None
    is_open: bool = False
    budget: int | None = None
    prefix: str = ""
    trigger: str = ""
