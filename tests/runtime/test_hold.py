"""Held answers end: in the room there is, with numbers that stop, and out of loops."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.gates import chatter, gate, write

from pannier.runtime import constrain
from pannier.runtime.constraint import Constraint
from pannier.runtime.jsontext import MAX_DIGITS, JsonText, Loops

ITEM = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "price": {"type": "number"}},
    "required": ["name", "price"],
}
SCHEMAS: list[Any] = [
    {"type": "array", "items": ITEM, "minItems": 1},
    {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    {"$defs": {"n": {"type": "array", "items": {"$ref": "#/$defs/n"}}}, "$ref": "#/$defs/n"},
    {"type": "string", "pattern": "^([a-z]+ )*END$"},
    {},
]


@settings(max_examples=40)
@given(
    schema=st.sampled_from(SCHEMAS),
    text=st.text('{}[]",:0123456789abend \\', min_size=1, max_size=12),
    room=st.integers(60, 300),
)
def test_whatever_a_model_babbles_the_document_is_whole_in_time(
    schema: Any, text: str, room: int
) -> None:
    written, ended = chatter(gate(constrain.json_schema(schema), room=room), text, room)
    assert ended, written
    jsonschema.validate(json.loads(written), schema)


FORMATS = (
    "date",
    "date-time",
    "time",
    "duration",
    "uuid",
    "email",
    "ipv4",
    "ipv6",
    "hostname",
    "uri",
)


def test_ten_formats_in_one_object_are_written_in_the_room_there_is() -> None:
    properties = {name: {"type": "string", "format": name} for name in FORMATS}
    schema = {"type": "object", "properties": properties, "required": list(FORMATS)}
    for room in (500, 700):
        written, ended = chatter(gate(constrain.json_schema(schema), room=room), "{a", room)
        assert ended, written
        jsonschema.validate(json.loads(written), schema)


def test_a_room_too_small_for_any_document_is_left_to_run_out() -> None:
    _, ended = chatter(gate(constrain.json_schema(SCHEMAS[0]), room=9), "x", 9)
    assert not ended


@pytest.mark.parametrize(
    ("constraint", "text"),
    [
        (constrain.regex("(ab)*c"), "ab"),
        (constrain.regex("(?s:.*)[0-9]-END"), "ab"),
        (constrain.regex("[a-z]+@[a-z]+[.]org"), "a"),
        (constrain.gbnf('root ::= "[" (item ("," item)*)? "]"\nitem ::= [0-9]+ | root'), "[1,"),
        (constrain.lark('start: "(" start ")" | WORD\nWORD: /[a-z]{3,}/'), "("),
    ],
)
def test_other_grammars_are_ended_too(constraint: Constraint, text: str) -> None:
    written, ended = chatter(gate(constraint, room=120), text, 120)
    assert ended, written


@pytest.mark.parametrize("room", [60, 160, 400])
@pytest.mark.parametrize("more", [{}, {"minLength": 20}, {"maxLength": 300}], ids=str)
@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("[aeiou]", "h"),
        ("[aeiou]", "é"),
        ("[0-9]{3}-[0-9]{2}", "h12"),
        ("END$", "EN"),
        ("^[A-Z].*[aeiou]$", "H"),
        ("^(foo.*[+]|.*Q.*Z)", "foo"),
        ('a"b\\\\c', "a"),
        ("(foo|bar) +baz", "foo "),
    ],
)
def test_a_string_is_closed_though_its_pattern_may_match_anywhere(
    pattern: str, text: str, more: dict[str, int], room: int
) -> None:
    word = {"type": "string", "pattern": pattern, **more}
    schema = {
        "type": "object",
        "properties": {"word": word, "n": {"type": "integer"}},
        "required": ["word", "n"],
        "additionalProperties": False,
    }
    begin = '{"word": "'
    written, ended = chatter(
        gate(constrain.json_schema(schema), room=room), begin + text * room, room
    )
    assert ended, written
    jsonschema.validate(json.loads(written), schema)


def test_numbers_end() -> None:
    schema = {"type": "array", "items": {"type": "number"}, "maxItems": 1}
    whole = json.loads(write(gate(constrain.json_schema(schema), room=900), "[" + "12345" * 90))
    assert len(str(whole[0])) <= MAX_DIGITS[0] + 3
    text = write(gate(constrain.json_schema(schema), room=900), "[0." + "123" * 90)
    assert len(text) <= len("[0.]") + MAX_DIGITS[1] + 3
    json.loads(text)


def test_a_number_that_must_be_longer_is() -> None:
    schema = {"type": "string", "enum": ["1" * 40, "x"]}
    text = write(gate(constrain.json_schema(schema), room=900), '"' + "1" * 40)
    assert json.loads(text) == "1" * 40
    long = constrain.json_schema({"const": [10**18, 0.12345678901234567]})
    assert json.loads(write(gate(long), "x")) == [10**18, 0.12345678901234567]


def test_long_digits_in_strings_stay() -> None:
    text = '"' + "1234567890" * 12 + '"'
    assert write(gate(constrain.json_schema({"type": "string"})), text) == text


def test_digits_are_counted_where_they_are_numbers() -> None:
    text = JsonText()
    text.feed(b'{"a1234567890123456789012": -12.5e1')
    assert not text.is_full
    text.feed(b"2")
    assert text.is_full
    text.feed(b", ")
    assert not text.is_full


def test_a_loop_is_noticed_and_a_table_is_not() -> None:
    def found(tokens: list[int]) -> int:
        loops = Loops()
        for token in tokens:
            loops.note(token)
        return loops.found

    assert found([5] * 24) == 1
    assert found([1, 2, 3] * 60) == 1
    assert found([0, 9] * 30) == 0
    assert found(list(range(100)) * 3) == 0


def test_a_list_that_goes_round_is_left_and_the_rest_is_written() -> None:
    schema = {
        "type": "object",
        "properties": {
            "list": {"type": "array", "items": {"type": "integer"}},
            "rest": {"const": "written"},
        },
        "required": ["list", "rest"],
    }
    written, ended = chatter(gate(constrain.json_schema(schema), room=2000), "1,", 2000)
    assert ended
    assert json.loads(written)["rest"] == "written"
    assert len(written) < 1500
