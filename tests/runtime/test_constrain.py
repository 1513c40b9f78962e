"""Grammars are checked before an engine sees them, and gates let only what they allow pass."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy
import pytest
from support.gates import END, PIECES, gate, write
from support.schemas import deep

from pannier.pkgmgr.errors import InvalidOption
from pannier.runtime import constrain
from pannier.runtime.answer import Answer, Vocabulary
from pannier.runtime.callgrammar import forced_call, tools_of
from pannier.runtime.constraingate import Gate
from pannier.runtime.constraint import Constraint
from pannier.runtime.parsers.choice import OutputFormat
from pannier.runtime.request import GenerationRequest
from pannier.runtime.schema import MAX_DEPTH, MAX_ENUM

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"enum": ["x", "y"]}},
    "required": ["a", "b"],
    "additionalProperties": False,
}


def test_json_of_a_schema_comes_out_whatever_the_model_wants() -> None:
    text = write(gate(constrain.json_schema(SCHEMA)), "Sure! Here it is")
    value = json.loads(text)
    assert set(value) == {"a", "b"}
    assert value["b"] in ("x", "y")
    assert isinstance(json.loads(write(gate(constrain.json_object()), "no")), dict)


def answer_of(made: Gate, *, max_tokens: int) -> Answer:
    return Answer(
        GenerationRequest((), max_tokens=max_tokens),
        Vocabulary(tuple(PIECES), frozenset({END}), frozenset({END})),
        num_prompt=1,
        context_length=100,
        truncated=0,
        can_shift=False,
        now_ns=0,
        gate=made,
    )


def test_an_answer_whose_grammar_is_given_up_was_cut() -> None:
    made = gate(constrain.json_schema(SCHEMA), room=50)
    made.accept(
        ord("x")
    )  # what no gate lets pass brings the library's matcher into its error state
    logits = numpy.zeros(len(PIECES), dtype=numpy.float32)
    assert not made.allows(END)
    made.restrict(logits)
    assert logits.argmax() == END
    made.accept(END)
    assert answer_of(made, max_tokens=50).take(END, 1) == "length"


@pytest.mark.parametrize(("text", "reason"), [('"x"', "stop"), ('"xy"', "length")])
def test_an_answer_that_its_last_token_completes_was_not_cut(text: str, reason: str) -> None:
    made = gate(constrain.json_schema({"enum": ["x", "xyz"]}), room=len(text))
    answer = answer_of(made, max_tokens=len(text))
    for byte in text.replace('y"', "yz").encode():
        made.accept(byte)
        end = answer.take(byte, 1)
    assert end == reason


def test_an_object_holds_its_properties_unless_more_is_wanted() -> None:
    described = {"properties": {"a": {"type": "integer"}}, "required": ["a"]}
    wanted = '{"a": 1, "b": 2}'
    for schema, keys in (
        ({"type": "object", **described}, {"a"}),
        ({"type": "object", **described, "additionalProperties": True}, {"a", "b"}),
        ({"allOf": [described, {"properties": {"b": {"type": "integer"}}}]}, {"a", "b"}),
        ({"type": "object", "properties": {"a": {}}, "required": ["a", "b"]}, {"a", "b"}),
        ({"type": "object"}, {"a", "b"}),
    ):
        text = write(gate(constrain.json_schema(schema)), wanted)
        assert set(json.loads(text)) == keys, schema


@pytest.mark.parametrize(
    ("constraint", "wanted", "text"),
    [
        (constrain.regex(r"(yes|no), [0-9]{2}"), "no! 42", "no, 00"),
        (constrain.lark('start: "A" /[0-9]/ "Z"'), "Az7", "A0Z"),
        (constrain.gbnf('root ::= "x" [a-c]+ "y"'), "xbcy", "xbcy"),
    ],
)
def test_other_grammars(constraint: Constraint, wanted: str, text: str) -> None:
    assert write(gate(constraint), wanted)[: len(text)] == text


TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "time"}},
    {"type": "function", "function": {"name": 'odd näme"', "parameters": SCHEMA}},
]


def test_a_required_call_names_a_tool_and_fits_its_schema() -> None:
    forced = forced_call(OutputFormat(), tools_of(TOOLS), many=False)
    value = json.loads(write(gate(forced), '{"name": "odd'))
    assert value["name"] == 'odd näme"'
    assert set(value["arguments"]) == {"a", "b"}
    one = forced_call(OutputFormat(), tools_of(TOOLS, name="time"), many=False)
    assert json.loads(write(gate(one), "x")) == {"name": "time", "arguments": {}}
    with pytest.raises(InvalidOption, match="'nope' is required"):
        tools_of(TOOLS, name="nope")
    with pytest.raises(InvalidOption, match="a tool call is required"):
        tools_of([])


YES = constrain.regex("yes").grammar
MARKED = Constraint('start: mark_0 ":yes"', ("<call>",))
SPELLED = Constraint('start: "ca:yes"', trigger="ca:")
THINK = ("<think>", "</think>")


@pytest.mark.parametrize(
    ("constraint", "wanted", "text"),
    [
        (Constraint(YES, thinking=THINK), "<think>hm, no</think>no", "<think>hm, no</think>yes"),
        (Constraint(YES, thinking=THINK), "no", "yes"),
        (Constraint(YES, thinking=THINK, is_open=True), "hm</think>no", "hm</think>yes"),
        (
            Constraint(YES, thinking=THINK, is_open=True, budget=3),
            "abcdefg",
            "abc\n</think>\n\nyes",
        ),
        (Constraint(thinking=THINK, is_open=True, budget=2), "abcd", "ab\n</think>\n\ncd"),
        (MARKED, "no", "<call>:yes"),
        (replace(MARKED, thinking=THINK), "<think>a</think>", "<think>a</think><call>:yes"),
        (replace(MARKED, thinking=THINK), "<call>no", "<call>:yes"),
        (replace(MARKED, trigger="<call>"), "free<call>no more", "free<call>:yesno more"),
        (SPELLED, "a ca:no ca:x", "a ca:yesno ca:yesx"),
        (replace(SPELLED, trigger="", start_trigger="ca:"), "ca:no ca:x", "ca:yesno ca:x"),
    ],
)
def test_a_grammar_begins_where_it_should(constraint: Constraint, wanted: str, text: str) -> None:
    assert write(gate(constraint), wanted, is_stubborn=True) == text


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ("text", "is an object"),
        ({"$ref": "https://example.com/schema.json"}, "only # is supported"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "only # is supported"),
        (deep(MAX_DEPTH), "levels deep"),
        (deep(5000), "levels deep"),
        ({"enum": list(range(MAX_ENUM + 1))}, "values"),
        ({"description": "x" * 300_000}, "characters"),
        ({"type": "nonsense"}, "cannot be used"),
        (
            {"type": "object", "properties": {"a": {"unevaluatedProperties": False}}},
            "uses 'unevaluatedProperties' at #/properties/a, which is not supported",
        ),
        ({"$ref": "#/$defs/missing"}, "Pointer '#/[$]defs/missing' does not exist"),
        ({"type": "integer", "minimum": 10**30}, "cannot be used"),
        (
            {"items": {"properties": {"a": {"type": "no"}}}},
            "cannot be used at #/items/properties/a",
        ),
        ({"properties": {"a": {"oneOf": [{"type": "number"}, {}]}}}, "at #/properties/a: oneOf"),
        ({"properties": {"if": {"if": {}}}}, "uses 'if' at #/properties/if"),
        ({"properties": {"a": {"uniqueItems": True}}}, "uses 'uniqueItems' at #/properties/a"),
        ({"format": "uri-template"}, "uses format 'uri-template' at #"),
        ({"multipleOf": 999_983}, "its digits are too many"),
        ({"allOf": [{"multipleOf": 997}, {"multipleOf": 991}]}, "their common multiple"),
        (False, "is an object"),
        ({"type": "string", "pattern": "(" * 50}, "cannot be used at #: unclosed group"),
        ({"items": {"pattern": "^(?!a)"}}, "cannot be used at #/items: look-around"),
    ],
)
def test_a_schema_that_cannot_be_obeyed_is_refused(schema: Any, reason: str) -> None:
    with pytest.raises(InvalidOption, match=reason):
        constrain.json_schema(schema)


def test_a_schema_cannot_set_compiler_options() -> None:
    constrain.json_schema({"type": "object", "x-guidance": {"lenient": True}})
    with pytest.raises(InvalidOption):
        constrain.json_schema({"type": "nonsense", "x-guidance": {"lenient": True}})


@pytest.mark.parametrize("source", ["start: nope", "%%%", "start: (("])
def test_a_broken_grammar_is_refused(source: str) -> None:
    with pytest.raises(InvalidOption, match="Lark grammar cannot be used"):
        constrain.lark(source)


@pytest.mark.parametrize("source", ["start: start", "start: other\nother: other"])
def test_a_grammar_of_no_text_says_so(source: str) -> None:
    with pytest.raises(ValueError, match="no text fits it"):
        gate(constrain.lark(source))


@pytest.mark.parametrize("pattern", ["(", "(?=x)", "x" * 300_000])
def test_a_broken_expression_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidOption, match="regular expression"):
        constrain.regex(pattern)


@pytest.mark.parametrize("source", ["root ::= nope", "root ::= (", "root ="])
def test_a_broken_gbnf_is_refused(source: str) -> None:
    with pytest.raises(InvalidOption, match="GBNF grammar cannot be used"):
        constrain.gbnf(source)
