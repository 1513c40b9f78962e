"""Transcripts of every family, whole, cut and broken: calls come out, and nothing is lost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.calls import FAMILIES, PYTHON, TOOLS, Call

from pannier.runtime.parsers.output import Output, join

OSLO: Call = ("weather", {"city": "Oslo", "days": 2})
TIME: Call = ("time", {})
SCENARIOS: dict[str, list[Call]] = {
    "one call": [OSLO],
    "no arguments": [TIME],
    "two calls": [OSLO, TIME],
    "the same call twice": [OSLO, OSLO],
    "four calls": [OSLO, TIME, ("weather", {"city": "Rome"}), TIME],
    "letters beyond ASCII": [("weather", {"city": "São Paulo – 東京 🙂"})],
    "quotes": [("weather", {"city": 'the "old" town\'s'})],
    "a backslash": [("weather", {"city": "C:\\new\\table"})],
    "lines": [("weather", {"city": "first\nsecond\n\nfourth"})],
    "angle brackets": [("weather", {"city": "a < b && c > d <b>x</b>"})],
    "braces": [("weather", {"city": "{not} [json], {"})],
    "a list": [("weather", {"city": "Oslo", "tags": ["a", "b c", "ü"]})],
    "an empty list": [("weather", {"city": "Oslo", "tags": []})],
    "a number as a string": [("weather", {"city": "1234"})],
    "a word of JSON as a string": [("weather", {"city": "true"})],
    "an empty string": [("weather", {"city": ""})],
    "a long text": [("weather", {"city": "long text " * 100})],
    "a choice": [("weather", {"city": "Oslo", "unit": "F"})],
    "a negative number": [("weather", {"city": "Oslo", "days": -12})],
}
NAMES = sorted(FAMILIES)


def parse(family: str, *pieces: str, tools: Any = TOOLS) -> Output:
    parser = FAMILIES[family][0].parser(tools)
    outputs = [output for piece in pieces for output in parser.feed(piece)]
    return join(outputs + parser.finish())


def called(output: Output) -> list[Call]:
    assert [call.index for call in output.tool_calls] == list(range(len(output.tool_calls)))
    return [(call.name, dict(call.arguments)) for call in output.tool_calls]


def write(family: str, calls: list[Call]) -> str:
    return FAMILIES[family][1](calls)


@pytest.mark.parametrize("family", NAMES)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_calls_come_out_as_they_were_meant(family: str, scenario: str) -> None:
    calls = SCENARIOS[scenario]
    text = write(family, calls)
    output = parse(family, text)
    assert (called(output), output.content) == (calls, "")
    assert parse(family, *text) == output


@pytest.mark.parametrize("family", NAMES)
def test_tools_may_have_odd_names(family: str) -> None:
    calls: list[Call] = [("odd-näme.v2", {"city": "Oslo"})]
    assert called(parse(family, write(family, calls))) == calls


@pytest.mark.parametrize("family", [name for name in NAMES if name not in ("bare", "harmony")])
def test_what_is_said_before_a_call_is_content(family: str) -> None:
    output = parse(family, "Let me look < that > up.\n" + write(family, [OSLO]))
    assert (output.content, called(output)) == ("Let me look < that > up.\n", [OSLO])


@pytest.mark.parametrize("family", [name for name in NAMES if FAMILIES[name][0].thinking])
def test_reasoning_goes_before_calls(family: str) -> None:
    opening, closing = FAMILIES[family][0].thinking or ("", "")
    text = f"{opening}\nfirst {{}} [] <x>{closing}\n\n{write(family, [OSLO, TIME])}"
    output = parse(family, text)
    assert (output.thinking, called(output)) == ("first {} [] <x>", [OSLO, TIME])
    assert parse(family, *text) == output


@pytest.mark.parametrize("family", NAMES)
def test_a_call_of_a_tool_that_is_not_there_is_text(family: str) -> None:
    output = parse(family, write(family, [("nope", {"city": "Oslo"})]))
    assert output.tool_calls == ()
    assert "Oslo" in output.content


@pytest.mark.parametrize(
    ("family", "closing"),
    [("qwen3-coder", "</tool_call>"), ("glm", "</tool_call>"), ("nemotron", "</TOOLCALL>")],
)
def test_a_closing_mark_in_a_value_is_a_part_of_it(family: str, closing: str) -> None:
    calls: list[Call] = [("weather", {"city": f"print('{closing}')", "days": 2}), OSLO]
    text = write(family, calls)
    assert called(parse(family, text)) == called(parse(family, *text)) == calls


# The end of a call of gpt-oss is an end of generation, so that one without arguments looks cut.
@pytest.mark.parametrize("family", [name for name in NAMES if name != "harmony"])
def test_a_call_that_was_cut_is_no_call_of_less(family: str) -> None:
    tools = [*TOOLS, {"type": "function", "function": {"name": "weat"}}]
    text = write(family, [OSLO])
    for cut in range(1, len(text)):
        for call in parse(family, text[:cut], tools=tools).tool_calls:
            assert (call.name, dict(call.arguments)) == OSLO


@pytest.mark.parametrize("family", PYTHON)
@pytest.mark.parametrize("value", ["{1, 2}", "b'x'", "...", "1e999", "{(1, 2): 3}", "f(1)"])
def test_a_value_that_is_no_json_makes_no_call(family: str, value: str) -> None:
    text = write(family, [OSLO]).replace("2", value)
    assert parse(family, text) == Output(text)


@pytest.mark.parametrize("family", NAMES)
def test_nothing_is_lost_where_a_call_is_cut_or_broken(family: str) -> None:
    text = write(family, [OSLO])
    breaks = [text[:cut] for cut in range(1, len(text))]
    breaks += [
        text.replace(old, new) for old, new in (("Oslo", 'O"sl}o'), ("2", "2,,"), ("{", "("))
    ]
    for broken in breaks:
        output = parse(family, broken)
        assert parse(family, *broken) == output
        if output.tool_calls:
            assert output.tool_calls[0].name == "weather"
        elif "weather" in broken and "Oslo" in broken:
            assert "Oslo" in output.content


@pytest.mark.parametrize("family", [name for name in NAMES if name != "harmony"])
def test_calls_are_text_where_no_tools_were_offered(family: str) -> None:
    text = write(family, [OSLO])
    assert parse(family, text, tools=()).content == text


WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="<>[]`｜|"))


@given(
    family=st.sampled_from([name for name in NAMES if name not in PYTHON]),
    cities=st.lists(WORDS, min_size=1, max_size=3),
    days=st.integers(),
    data=st.data(),
)
def test_any_arguments_come_through_any_split(
    family: str, cities: list[str], days: int, data: st.DataObject
) -> None:
    calls: list[Call] = [("weather", {"city": city, "days": days}) for city in cities]
    text = write(family, calls)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert called(parse(family, *pieces)) == calls
