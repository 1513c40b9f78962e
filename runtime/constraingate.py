"""Keeps one answer to its constraint: which tokens may come next. In the runner, one thread each.

A `Gate` knows where in the answer it is: in the reasoning, which is free but may have a budget; in
a prefix, which is written token by token; in the grammar, where llguidance says what may come; or
before a trigger, where everything may.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from .constraint import Constraint

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

_LOG = logging.getLogger(__name__)


class Constrainer:
    """Makes gates for one model. Any thread may call; the tokenizer is made on first use."""

    def __init__(
        self,
        pieces: Sequence[bytes],
        *,
        end_tokens: frozenset[int],
        control_tokens: frozenset[int],
        eos: int,
        tokenize: Callable[[str, bool], list[int]],
    ) -> None:
        """`tokenize` takes a text and whether control tokens are recognised in it."""
        self.pieces = pieces
        self.end_tokens = end_tokens
        self.tokenize = tokenize
        self._control_tokens = control_tokens
        self._eos = eos
        self._tokenizer: LLTokenizer | None = None

    def gate(self, constraint: Constraint) -> Gate:
        """A gate for one answer.

        Raises:
            ValueError: the grammar is too much for this vocabulary.
        """
        return Gate(constraint, self)

    def matcher(self, grammar: str) -> LLMatcher:
        """A grammar over this vocabulary; raises as `gate` does."""
        from llguidance import LLMatcher

        matcher = LLMatcher(self._ll_tokenizer(), grammar, log_level=0)
        # The first mask shows whether the grammar stays within the library's bounds.
        matcher.compute_bitmask()
        if matcher.is_error():
            raise ValueError(first_line(matcher.get_error()))
        return matcher

    def _ll_tokenizer(self) -> LLTokenizer:
        if self._tokenizer is None:
            from llguidance import LLTokenizer, TokenizerWrapper

            ends = sorted(self.end_tokens - {self._eos})
            eos = [self._eos, *ends] if self._eos >= 0 else ends
            source = _Source(self, eos[0], sorted(self._control_tokens))
            self._tokenizer = LLTokenizer(TokenizerWrapper(source), eos_token=eos)
        return self._tokenizer


class _Source:
    """A vocabulary in the form that llguidance asks for."""

    bos_token_id = None

    def __init__(self, constrainer: Constrainer, eos: int, special: list[int]) -> None:
        self.eos_token_id = eos
        self.tokens = list(constrainer.pieces)
        self.special_token_ids = special
        self._tokenize = constrainer.tokenize

    def __call__(self, text: bytes | str) -> list[int]:
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        return self._tokenize(text, False)


class _Place(Enum):
    BEFORE_THINKING = auto()
    THINKING = auto()
    PREFIX = auto()
    FREE = auto()
    GRAMMAR = auto()


class Gate:
    """One answer's constraint. `restrict` goes before each drawing, `accept` after it."""

    def __init__(self, constraint: Constraint, constrainer: Constrainer) -> None:
        self._constraint = constraint
        self._constrainer = constrainer
        self._matcher = self._new_matcher()
        self._forced: deque[int] = deque()
        self._tail = b""
        self._thought = 0
        self._opening: list[int] = []
        self._place = self._first_place()

    def restrict(self, logits: Any) -> None:
        """Rule out, in place, what may not come next; `logits` is a float32 array [n_vocab]."""
        if self._forced:
            _allow_only(logits, [self._forced[0]])
        elif self._place is _Place.GRAMMAR:
            self._apply_grammar(logits)
        elif self._place is _Place.BEFORE_THINKING:
            self._offer_thinking(logits)
        elif self._place is _Place.THINKING and self._constraint.grammar:
            logits[list(self._constrainer.end_tokens)] = -float("inf")

    def accept(self, token: int) -> None:
        """The token that was drawn."""
        if self._forced:
            self._forced.popleft()
            if self._forced:
                return
            if self._place is _Place.PREFIX:
                self._enter_grammar()
            elif self._place is _Place.BEFORE_THINKING:
                self._place = _Place.THINKING
            elif self._place is _Place.THINKING:
                self._after_thinking()
            return
        match self._place:
            case _Place.BEFORE_THINKING:
                self._leave_beginning(token)
            case _Place.THINKING:
                self._think(token)
            case _Place.FREE:
                self._watch(token)
            case _Place.GRAMMAR:
                self._consume(token)

    # Where it is

    def _first_place(self) -> _Place:
        thinking = self._constraint.thinking
        if thinking is None:
            return self._place_after_thinking()
        if self._constraint.is_open:
            return _Place.THINKING
        self._opening = self._constrainer.tokenize(thinking[0], True)
        return _Place.BEFORE_THINKING

    def _place_after_thinking(self) -> _Place:
        if not self._constraint.grammar or self._constraint.trigger:
            return _Place.FREE
        if self._constraint.prefix:
            self._forced.extend(self._constrainer.tokenize(self._constraint.prefix, True))
            return _Place.PREFIX
        return _Place.GRAMMAR

    def _after_thinking(self) -> None:
        self._tail = b""
        self._place = self._place_after_thinking()

    def _enter_grammar(self) -> None:
        self._place = _Place.GRAMMAR

    # Reasoning

    def _offer_thinking(self, logits: Any) -> None:
        """The opening tag, or whatever may stand after the reasoning."""
        if not self._opening:
            return
        first = self._opening[0]
        kept = float(logits[first])
        if self._constraint.prefix and not self._constraint.trigger:
            token = self._constrainer.tokenize(self._constraint.prefix, True)[0]
            _allow_only(logits, [token])
        elif self._constraint.grammar and not self._constraint.trigger:
            self._apply_grammar(logits)
        logits[first] = kept

    def _leave_beginning(self, token: int) -> None:
        if token == self._opening[0]:
            self._forced.extend(self._opening[1:])
            if not self._forced:
                self._place = _Place.THINKING
            return
        self._after_thinking()
        self.accept(token)

    def _think(self, token: int) -> None:
        assert self._constraint.thinking is not None
        closing = self._constraint.thinking[1].encode()
        self._thought += 1
        self._tail = (self._tail + self._constrainer.pieces[token])[-len(closing) - 256 :]
        if closing in self._tail:
            self._after_thinking()
            return
        budget = self._constraint.budget
        if budget is not None and self._thought >= budget:
            text = "\n" + self._constraint.thinking[1] + "\n\n"
            self._forced.extend(self._constrainer.tokenize(text, True))

    # Grammar

    def _new_matcher(self) -> LLMatcher | None:
        grammar = self._constraint.grammar
        return self._constrainer.matcher(grammar) if grammar else None

    def _apply_grammar(self, logits: Any) -> None:
        import numpy

        assert self._matcher is not None
        bits = numpy.frombuffer(self._matcher.compute_bitmask(), dtype=numpy.uint8)
        allowed = numpy.unpackbits(bits, count=len(logits), bitorder="little")
        if not allowed.any() or self._matcher.is_error():
            _LOG.warning("a grammar ended early: %s", first_line(self._matcher.get_error()))
            _allow_only(logits, list(self._constrainer.end_tokens))
            return
        logits[allowed == 0] = -float("inf")

    def _consume(self, token: int) -> None:
        assert self._matcher is not None
        self._matcher.consume_token(token)
        if self._constraint.trigger and self._matcher.is_stopped():
            self._matcher.reset()
            self._place = _Place.FREE

    def _watch(self, token: int) -> None:
        """Before a trigger: has it come, and what stands after it already?"""
        if not self._constraint.trigger:
            return
        trigger = self._constraint.trigger.encode()
        self._tail += self._constrainer.pieces[token]
        _, found, rest = self._tail.partition(trigger)
        if not found:
            self._tail = self._tail[-len(trigger) :]
            return
        self._tail = b""
        self._place = _Place.GRAMMAR
        if rest.strip():
            assert self._matcher is not None
            text = rest.decode("utf-8", "replace").lstrip()
            self._matcher.try_consume_tokens(self._constrainer.tokenize(text, False))


def first_line(text: str) -> str:
    """The reason alone: the library puts its whole state behind it."""
    return text.strip().partition("\n")[0][:300]


def _allow_only(logits: Any, tokens: list[int]) -> None:
    kept = [float(logits[token]) for token in tokens]
    logits[:] = -float("inf")
    logits[tokens] = [value if value > -1e30 else 0.0 for value in kept]
