"""Compiles grammars over a model's vocabulary with llguidance. In the runner."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from .closing import Closer, Ends
from .constraint import Constraint
from .hold import Hold, Vocabulary, first_line
from .lark import with_marks

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

# Characters that are tokenised at once: a pre-tokenizer's regular expression recurses, and sampling
# threads have usual stacks.
_PIECE = 2_000
# Seconds for a grammar over a vocabulary; the largest that pass the checks take one.
COMPILE_DEADLINE_S = 10.0
# What the library may spend on the terminals of a grammar in one step, 14,000 a millisecond. Its
# own bound, 200,000, is less than the ways out of a schema with ten formats take.
_LEXER_FUEL = 5_000_000
# What the library says of a grammar such as `start: start`.
_NO_TEXT = "NoExtensionBias"


class Constrainer:
    """Grammars over the tokens of one model. Any thread may call."""

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
        self.tokenize = partial(_in_pieces, tokenize)
        self.control_tokens = control_tokens
        self._eos = eos
        self._tokenizer: LLTokenizer | None = None
        self.vocabulary = Vocabulary(
            pieces,
            end_tokens,
            Closer(pieces, control_tokens | end_tokens, self.tokenize),
            frozenset(i for i, piece in enumerate(pieces) if piece[:1].isdigit()),
        )

    def hold(self, constraint: Constraint) -> Hold | None:
        """A constraint's grammar over this vocabulary, for one answer; None where it has none.

        Raises:
            ValueError: the grammar is too much for this vocabulary.
        """
        if not constraint.grammar:
            return None
        from llguidance import LLMatcher, LLParserLimits

        limits = LLParserLimits(step_lexer_fuel=_LEXER_FUEL)
        marks = [(mark, self._control_token(mark)) for mark in constraint.marks]
        grammar = with_marks(constraint.grammar, marks)
        made: list[LLMatcher] = []

        def compile_grammar() -> None:
            matcher: LLMatcher = LLMatcher(
                self._ll_tokenizer(), grammar, log_level=0, limits=limits
            )
            # The first mask shows whether the grammar stays within the library's bounds.
            matcher.compute_bitmask()
            made.append(matcher)

        # The library cannot be interrupted, only left behind: its own bounds end it in the end.
        thread = threading.Thread(target=compile_grammar, name="grammar", daemon=True)
        thread.start()
        thread.join(COMPILE_DEADLINE_S)
        if not made:
            raise ValueError(f"it takes more than {COMPILE_DEADLINE_S:g} s to compile")
        matcher = made[0]
        if matcher.is_error():
            reason = first_line(matcher.get_error())
            raise ValueError("no text fits it" if reason == _NO_TEXT else reason)
        return Hold(matcher, self.vocabulary, constraint.is_json, Ends.of(constraint, marks))

    def _control_token(self, mark: str) -> int | None:
        """The one control token that a mark is, None where it is text."""
        tokens = self.tokenize(mark, True)
        return tokens[0] if len(tokens) == 1 and tokens[0] in self.control_tokens else None

    def _ll_tokenizer(self) -> LLTokenizer:
        if self._tokenizer is None:
            from llguidance import LLTokenizer, TokenizerWrapper

            ends = sorted(self.vocabulary.end_tokens - {self._eos})
            eos = [self._eos, *ends] if self._eos >= 0 else ends
            source = _Source(self, eos[0], sorted(self.control_tokens))
            self._tokenizer = LLTokenizer(TokenizerWrapper(source), eos_token=eos)
        return self._tokenizer


def _in_pieces(tokenize: Callable[[str, bool], list[int]], text: str, special: bool) -> list[int]:
    """The tokens of a text, made piece by piece: grammars may force any length of it."""
    if len(text) <= _PIECE:
        return tokenize(text, special)
    starts = range(0, len(text), _PIECE)
    return [token for at in starts for token in tokenize(text[at : at + _PIECE], special)]


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
