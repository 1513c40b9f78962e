from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from pannier.runtime.request import Segment
from pannier.runtime.template.shield import ControlTokens, Shield

TOKENS = ["<s>", "<|a|>", "<|a|>b", "<|ab|>", "<<s>>", "[X]", "][", "｜é｜"]
PARTS = st.lists(
    st.sampled_from([*TOKENS, *"<s>|ab[X]｜é \n", "\ue000", "\U000f0001"]), max_size=12
)
ANY_TOKEN = re.compile("|".join(map(re.escape, sorted(TOKENS, key=len, reverse=True))))


@given(texts=st.lists(PARTS.map("".join), max_size=4))
def test_client_texts_come_back_whole_and_without_control_tokens(texts: list[str]) -> None:
    shield = Shield(ControlTokens(TOKENS), texts)
    pieces = shield.split("".join(shield.protect(text) for text in texts))
    assert "".join(piece.text for piece in pieces) == "".join(texts)
    assert not any(ANY_TOKEN.search(piece.text) for piece in pieces if piece.special)


@given(text=PARTS.map("".join))
def test_what_the_template_writes_keeps_its_control_tokens(text: str) -> None:
    shield = Shield(ControlTokens(TOKENS), [text])
    pieces = shield.split(f"<|a|>{shield.protect(text)}<s>")
    assert pieces[0].special
    assert pieces[0].text.startswith("<|a|>")
    assert pieces[-1].special
    assert pieces[-1].text.endswith("<s>")


@given(text=st.text(alphabet="abc <>é😀\n", max_size=40))
def test_text_without_control_tokens_is_one_untouched_piece(text: str) -> None:
    shield = Shield(ControlTokens(["<|a|>"]), [text])
    pieces = shield.split(f"({shield.protect(text)})")
    assert "".join(piece.text for piece in pieces) == f"({text})"
    assert all(piece.special for piece in pieces)


def test_values_are_protected_through_and_through() -> None:
    value = {"<s>": ["<s>", {"a": "<s>"}, 1, None, True]}
    shield = Shield(ControlTokens(["<s>"]), ["<s>"])
    safe = shield.protect_all(value)
    assert "<s>" not in str(safe)
    assert shield.split(next(iter(safe))) == (Segment("<s>", special=False),)


def test_a_hostile_vocabulary_is_searched_all_the_same() -> None:
    chain = ["a" * length for length in range(1, 1000)]
    tokens = ControlTokens(chain)
    assert next(tokens.find("b" + "a" * 5000)).group() == "a" * 999
