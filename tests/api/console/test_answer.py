"""Printing answers: thinking apart, words whole."""

from __future__ import annotations

import io
from typing import Any

import pytest

from pannier.api.console.answer import Answer, Wrapped, figures, print_answer


def printed(chunks: list[dict[str, Any]], *, hide_thinking: bool = False) -> tuple[str, Answer]:
    out, answer = io.StringIO(), Answer()
    print_answer(chunks, out, answer, hide_thinking=hide_thinking)
    return out.getvalue(), answer


THOUGHTFUL: list[dict[str, Any]] = [
    {"message": {"thinking": "well"}},
    {"message": {"thinking": ", yes"}},
    {"message": {"content": "Yes"}},
    {"message": {"content": "."}, "done": True, "eval_count": 2},
]


def test_thinking_is_framed() -> None:
    text, answer = printed(THOUGHTFUL)
    assert text == "Thinking...\nwell, yes\n...done thinking.\n\nYes."
    assert (answer.content, answer.thinking) == ("Yes.", "well, yes")
    assert answer.final is not None


def test_thinking_can_be_hidden() -> None:
    text, answer = printed(THOUGHTFUL, hide_thinking=True)
    assert text == "Yes."
    assert answer.thinking == "well, yes"


def test_generate_and_chat_chunks_read_alike() -> None:
    assert printed([{"response": "a"}, {"response": "b", "done": True}])[0] == "ab"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("one two three", ["one two", "three"]),
        ("a\n\nb", ["a", "", "b"]),
        ("extraordinarily", ["extraordinarily"]),
        ("日本語日本語", ["日本語日", "本語"]),
    ],
)
def test_lines_break_between_words(text: str, lines: list[str]) -> None:
    out = io.StringIO()
    wrapped = Wrapped(out, 9)
    for char in text:
        wrapped.write(char)
    wrapped.finish()
    assert [line.rstrip() for line in out.getvalue().split("\n")] == lines


def test_a_terminal_sees_no_control_characters() -> None:
    out = io.StringIO()
    wrapped = Wrapped(out, 80)
    wrapped.write("a\x1b[2Jb")
    wrapped.finish()
    assert out.getvalue() == "a\\x1b[2Jb"


def test_figures_have_rates() -> None:
    final = {
        "total_duration": 2_000_000_000,
        "eval_count": 10,
        "eval_duration": 500_000_000,
        "prompt_eval_count": 0,
    }
    assert figures(final) == [
        "total duration:       2.00s",
        "eval count:           10 token(s)",
        "eval duration:        500.0ms",
        "eval rate:            20.00 tokens/s",
    ]
