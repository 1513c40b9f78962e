"""Calls are held to tools and schemas, in the form of each family of models."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from support.calls import FAMILIES, TOOLS, UNHELD, Call, as_json
from support.gates import chatter, gate, write

from pannier.pkgmgr.errors import InvalidOption
from pannier.runtime import constrain
from pannier.runtime.callgrammar import calls_or_form, forced_call, lazy_calls, tools_of
from pannier.runtime.constraint import Constraint
from pannier.runtime.parsers.choice import OutputFormat
from pannier.runtime.parsers.output import Output, join

HELD = sorted(name for name in FAMILIES if name not in UNHELD)
OSLO: Call = ("weather", {"city": "Oslo", "days": 2, "tags": ["a", "b"], "unit": "F"})
TIME: Call = ("time", {})
NOTE = '<|channel|>analysis<|message|>it is "so'
BOTH = pytest.mark.parametrize("control", [True, False], ids=["control tokens", "plain text"])


def parse(family: str, text: str, *, expects_call: bool = False) -> Output:
    parser = FAMILIES[family][0].parser(TOOLS, expects_call=expects_call)
    return join(parser.feed(text) + parser.finish())


def lazy(family: str, tools: Any = TOOLS) -> Constraint:
    return lazy_calls(FAMILIES[family][0], tools_of(tools), many=True)


def wish(family: str, *calls: Call) -> str:
    # The end of harmony's call is the end of the answer.
    return FAMILIES[family][1](list(calls)).removesuffix("<|call|>")


@BOTH
@pytest.mark.parametrize("family", HELD)
def test_what_the_model_writes_well_stays_as_it_is(family: str, control: bool) -> None:
    wanted = wish(family, OSLO, TIME) if family != "harmony" else wish(family, OSLO)
    assert write(gate(lazy(family), control=control, room=900), wanted, limit=900) == wanted


@BOTH
@pytest.mark.parametrize("family", HELD)
@pytest.mark.parametrize(
    "wrong",
    [
        ("weather", {"town": "Oslo"}),
        ("weather", {"city": "Oslo", "days": "many"}),
        ("weather", {"city": "Oslo", "unit": "K"}),
        ("weather", {}),
        ("wether", {"city": "Oslo"}),
        ("nope", {}),
    ],
    ids=str,
)
def test_what_the_model_writes_wrong_is_set_right(family: str, wrong: Call, control: bool) -> None:
    text = write(gate(lazy(family), control=control), wish(family, wrong))
    calls = parse(family, text).tool_calls
    assert calls, text
    for call in calls:
        (tool,) = (tool["function"] for tool in TOOLS if tool["function"]["name"] == call.name)
        schema = {"additionalProperties": False, **tool.get("parameters", {})}
        jsonschema.validate(dict(call.arguments), schema)


@pytest.mark.parametrize("family", [name for name in HELD if name != "harmony"])
def test_text_without_calls_is_free(family: str) -> None:
    text = 'I say {"name": 1} and [1, 2] < 3, functio nope.'
    assert write(gate(lazy(family)), text) == text


@pytest.mark.parametrize("family", HELD)
@pytest.mark.parametrize("name", [None, "time", "odd-näme.v2"])
def test_a_call_can_be_forced(family: str, name: str | None) -> None:
    output = FAMILIES[family][0]
    constraint = forced_call(output, tools_of(TOOLS, name=name), many=name is None)
    text = write(gate(constraint, room=600), "I would rather not", limit=600)
    calls = parse(family, text, expects_call=True).tool_calls
    assert calls, text
    assert name is None or [call.name for call in calls] == [name]


@BOTH
@pytest.mark.parametrize("middle", ["json", " json", " <|constrain|>json", "<|constrain|>json", ""])
def test_the_name_of_a_harmony_call_ends_before_its_kind(middle: str, control: bool) -> None:
    head = f"<|channel|>commentary to=functions.time{middle}<|message|>"
    constraint = forced_call(FAMILIES["harmony"][0], tools_of(TOOLS), many=False)
    text = write(gate(constraint, control=control), head + "{}")
    assert [call.name for call in parse("harmony", text).tool_calls] == ["time"], text
    assert text.startswith(head) == (middle != "json")


@BOTH
@pytest.mark.parametrize("family", HELD)
def test_tools_and_a_format_leave_the_choice_to_the_model(family: str, control: bool) -> None:
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
    form = constrain.json_schema({**schema, "additionalProperties": False})
    both = calls_or_form(FAMILIES[family][0], tools_of(TOOLS), form, many=True)
    call = wish(family, OSLO)
    assert write(gate(both, control=control, room=900), call, limit=900) == call
    begin = "<|channel|>final<|message|>" if family == "harmony" else ""
    answer = begin + '{"sum": 12}'
    assert write(gate(both, control=control), answer) == answer
    text = write(gate(both, control=control), begin + '{"sum": "twelve"}')
    assert json.loads(text.removeprefix(begin)) == {"sum": 0}


@pytest.mark.parametrize("family", UNHELD)
def test_families_without_a_grammar_are_forced_to_bare_json(family: str) -> None:
    output = FAMILIES[family][0]
    assert not output.can_hold_calls
    text = write(gate(forced_call(output, tools_of(TOOLS, name="time"), many=False)), "no")
    (call,) = parse(family, text, expects_call=True).tool_calls
    assert call.name == "time"


@pytest.mark.parametrize("family", HELD)
def test_the_room_is_enough_for_a_call_that_has_begun(family: str) -> None:
    wanted = wish(family, ("weather", {"city": "x" * 900}))
    text = write(gate(lazy(family), room=260), wanted, limit=260)
    assert parse(family, text).tool_calls[0].name == "weather", text


@BOTH
@pytest.mark.parametrize("text", ["ab", 'say "x ', "{[", NOTE, " \n", "\nsé<|"])
@pytest.mark.parametrize("family", HELD)
def test_a_forced_call_comes_though_the_model_goes_on_and_on(
    family: str, text: str, control: bool
) -> None:
    forced = forced_call(FAMILIES[family][0], tools_of(TOOLS), many=False)
    written, ended = chatter(gate(forced, room=300, control=control), text, 300)
    assert ended, written
    assert parse(family, written, expects_call=True).tool_calls, written


@BOTH
def test_no_call_is_made_up_where_the_room_ends_in_a_note(control: bool) -> None:
    text = NOTE + "thinking on " * 30
    written = write(gate(lazy("harmony"), room=100, control=control), text, limit=100)
    assert text.startswith(written)


def test_thinking_goes_before_a_forced_call() -> None:
    constraint = forced_call(FAMILIES["hermes"][0], tools_of(TOOLS), many=True)
    thinking = replace(constraint, thinking=("<think>", "</think>"))
    text = write(gate(thinking), "<think>{maybe}</think>" + wish("hermes", OSLO))
    assert text == "<think>{maybe}</think>" + wish("hermes", OSLO)


REFERRING: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "plan",
            "parameters": {
                "$defs": {"stop": {"type": "object", "properties": {"n": {"type": "integer"}}}},
                "type": "object",
                "properties": {
                    "stops": {"type": "array", "items": {"$ref": "#/$defs/stop"}},
                    "code": {"type": "string", "pattern": "^[A-Z]{2}/[0-9]$"},
                },
                "required": ["stops", "code"],
            },
        },
    }
]


@pytest.mark.parametrize("family", HELD)
def test_references_and_patterns_of_parameters_are_heeded(family: str) -> None:
    wanted = wish(family, ("plan", {"stops": [{"n": 1}], "code": "AB/1"}))
    assert write(gate(lazy(family, REFERRING)), wanted) == wanted
    bad = wish(family, ("plan", {"stops": [{"n": "x"}], "code": "ab"}))
    text = write(gate(lazy(family, REFERRING)), bad)
    parser = FAMILIES[family][0].parser(REFERRING)
    (call, *_) = join(parser.feed(text) + parser.finish()).tool_calls
    jsonschema.validate(dict(call.arguments), REFERRING[0]["function"]["parameters"])


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"properties": {"a": {"not": {}}}}, "schema of tool 'f' uses 'not' at #/properties/a"),
        ({"properties": {"a": {"$ref": "http://x"}}}, "refers to 'http://x' at #/properties/a"),
        (
            {"properties": {"a": {"type": "no"}}},
            "schema of tool 'f' cannot be used at #/properties/a",
        ),
    ],
)
def test_a_tool_that_cannot_be_obeyed_is_refused(parameters: Any, reason: str) -> None:
    with pytest.raises(InvalidOption, match=reason):
        tools_of([{"type": "function", "function": {"name": "f", "parameters": parameters}}])


@pytest.mark.parametrize(
    "name", ['a"b', "a b", "a\\b", "a\nb", "<b>", "{", "😀", "x" * 200, "[ARGS]"]
)
@pytest.mark.parametrize("family", ["hermes", "bare", "llama3", "mistral-list"])
def test_tool_names_may_hold_anything_in_json(family: str, name: str) -> None:
    tools = [{"type": "function", "function": {"name": name}}]
    text = write(gate(forced_call(FAMILIES[family][0], tools_of(tools), many=False)), "no")
    parser = FAMILIES[family][0].parser(tools)
    (call,) = join(parser.feed(text) + parser.finish()).tool_calls
    assert call.name == name


def test_an_unknown_format_is_forced_to_json() -> None:
    text = write(gate(forced_call(OutputFormat(), tools_of(TOOLS), many=False)), as_json(TIME))
    assert text == as_json(TIME)


@BOTH
@pytest.mark.parametrize("family", ["qwen3-coder", "glm", "minimax", "hermes"])
@pytest.mark.parametrize("bound", [{"minLength": 2}, {"maxLength": 40}, {"pattern": "s"}], ids=str)
def test_a_text_with_bounds_ends_where_the_model_ends_it(
    family: str, bound: dict[str, Any], control: bool
) -> None:
    properties = {"city": {"type": "string", **bound}, "days": {"type": "integer"}}
    function = {"name": "weather", "parameters": {"type": "object", "properties": properties}}
    tools = tools_of([{"type": "function", "function": function}])
    constraint = forced_call(FAMILIES[family][0], tools, many=False)
    wanted = wish(family, ("weather", {"city": "Oslo", "days": 2}))
    assert write(gate(constraint, control=control, room=300), wanted) == wanted
    written, ended = chatter(gate(constraint, control=control, room=300), "Oslo ", 300)
    assert ended, written
