"""Gates over a small vocabulary: bytes, a few words, and the marks of all families as tokens."""

from __future__ import annotations

from typing import Any

import numpy

from pannier.runtime.constrainer import Constrainer
from pannier.runtime.constraingate import Gate
from pannier.runtime.constraint import Constraint

END = 256
MARKS = (
    *("<think>", "</think>", "<call>", "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]"),
    *("<|python_tag|>", "<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>"),
    *("<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>", "<|channel|>", "<|message|>", "<|start|>"),
    *("<|end|>", "<|constrain|>", "<|START_ACTION|>", "<|END_ACTION|>", "<|tool_call|>"),
    *("<|tool_calls_section_begin|>", "<|tool_call_begin|>", "<|tool_call_argument_begin|>"),
    *("<|tool_call_end|>", "<|tool_calls_section_end|>"),
)
WORDS = ('{"', '":', '"}', '": "', "weat", "her", '{"name": "n', "123", "00", "</")
PIECES = [bytes([byte]) for byte in range(256)] + [b""]
PIECES += [text.encode() for text in (*MARKS, *WORDS)]
SPECIAL = {mark: END + 1 + number for number, mark in enumerate(MARKS)}


def tokenize(text: str, special: bool) -> list[int]:
    """Bytes, and the marks as one token each."""
    tokens: list[int] = []
    while text:
        mark = next((mark for mark in SPECIAL if special and text.startswith(mark)), None)
        tokens += [SPECIAL[mark]] if mark else list(text[0].encode())
        text = text[len(mark) if mark else 1 :]
    return tokens


def gate(constraint: Constraint, *, room: int = 400, control: bool = True) -> Gate:
    """A gate; `control` says whether the marks are control tokens or ordinary text."""
    constrainer = Constrainer(
        PIECES,
        end_tokens=frozenset({END}),
        control_tokens=frozenset({END, *(SPECIAL.values() if control else ())}),
        eos=END,
        tokenize=tokenize,
    )
    return Gate(constraint, constrainer, room=room)


def write(made: Gate, wanted: str, *, limit: int = 400, is_stubborn: bool = False) -> str:
    """What comes out where the model wants to write `wanted`, then anything short, then the end.

    Where it may not write as it likes, it gives up its wish, unless it is stubborn.
    """
    out: list[int] = []
    wishes = tokenize(wanted, True)
    while len(out) < limit:
        token, logits = draw(made, wishes[0] if wishes else None)
        for _ in range(6):
            if made.allows(token):
                break
            if not is_stubborn:
                wishes.clear()
            made.restrict(logits)
            token = int(logits.argmax())
        if wishes and token == wishes[0]:
            wishes.pop(0)
        made.accept(token)
        if token == END:
            break
        out.append(token)
    return b"".join(PIECES[token] for token in out).decode()


def chatter(made: Any, text: str, room: int) -> tuple[str, bool]:
    """What comes out of a model that would say `text` for ever, and whether it ended by itself."""
    out: list[int] = []
    while len(out) < room:
        token, logits = draw(made, text.encode()[len(out) % len(text)])
        for _ in range(6):
            if made.allows(token):
                break
            made.restrict(logits)
            token = int(logits.argmax())
        made.accept(token)
        if token == END:
            return b"".join(PIECES[each] for each in out).decode("utf-8", "replace"), True
        out.append(token)
    return b"".join(PIECES[each] for each in out).decode("utf-8", "replace"), False


def draw(made: Gate, wish: int | None) -> tuple[int, numpy.ndarray]:
    """The likeliest token and the logits: the wish, else the end, else what closes."""
    logits = numpy.zeros(len(PIECES), dtype=numpy.float32)
    logits[ord(" ") : ord("~")] = 1
    logits[[ord('"'), ord("}"), ord("]"), ord("0")]] = 2
    logits[END] = 3
    if wish is not None:
        logits[wish] = 9
    if made.wants_mask:
        made.restrict(logits)
    return int(logits.argmax()), logits
