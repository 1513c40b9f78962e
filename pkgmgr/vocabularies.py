"""Whether one model can draft for another: their tokens must mean the same. Pure.

A draft model proposes tokens by number, so both vocabularies must agree number by number. As
llama.cpp's tools do, the first few (unknown and control tokens) may be written differently, and one
vocabulary may go on for up to 128 tokens more, which fill it up to a round number.
"""

from __future__ import annotations

from collections.abc import Sequence

from .gguf import Header, StringArray

MOST_MORE = 128
# llama.cpp, common/speculative.cpp: SPEC_VOCAB_CHECK_START_TOKEN_ID.
_FIRST = 5
_SPECIAL = ("bos", "eos")


def why_no_draft(target: Header, draft: Header) -> str | None:
    """Why a model cannot draft for another, in a clause; None where it can."""
    kinds = [header.text("tokenizer.ggml.model") for header in (target, draft)]
    if kinds[0] != kinds[1]:
        return f"its vocabulary is of the kind {kinds[1]!r}, not {kinds[0]!r}"
    for name in _SPECIAL:
        numbers = [_special(header, name) for header in (target, draft)]
        if numbers[0] != numbers[1]:
            return f"its {name} token is {numbers[1]}, not {numbers[0]}"
    ours, theirs = (_tokens(header) for header in (target, draft))
    if abs(len(ours) - len(theirs)) > MOST_MORE:
        return f"it knows {len(theirs)} tokens, not {len(ours)}"
    for number in range(_FIRST, min(len(ours), len(theirs))):
        if _raw(ours, number) != _raw(theirs, number):
            return f"its token {number} is {theirs[number]!r}, not {ours[number]!r}"
    return None


def _special(header: Header, name: str) -> int:
    """The number of a special token that texts get; -1 where they get none."""
    if header.metadata.get(f"tokenizer.ggml.add_{name}_token") is False:
        return -1
    return header.number(f"tokenizer.ggml.{name}_token_id", -1)


def _tokens(header: Header) -> Sequence[object]:
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    return tokens if isinstance(tokens, Sequence) and not isinstance(tokens, str) else ()


def _raw(tokens: Sequence[object], number: int) -> object:
    return tokens.raw(number) if isinstance(tokens, StringArray) else tokens[number]
