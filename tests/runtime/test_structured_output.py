"""200 answers of a real model over 50 schemas: every one is JSON that its schema describes.

The schemas are written as people write them, without a thought of where a small model finds no end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from support.calls import FAMILIES, TOOLS
from support.models import smollm2, source_of

from pannier.runtime import constrain
from pannier.runtime.callgrammar import forced_call, tools_of
from pannier.runtime.parsers.output import join
from pannier.runtime.request import FinishReason, GenerationRequest, SamplingParams, Segment
from pannier.runtime.supervisor import Supervisor

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1800)]

STRING: dict[str, Any] = {"type": "string"}
INTEGER = {"type": "integer"}
NUMBER = {"type": "number"}
BOOLEAN = {"type": "boolean"}


def record(**properties: Any) -> dict[str, Any]:
    """An object with these, and maybe more."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def closed(**properties: Any) -> dict[str, Any]:
    """An object with exactly these."""
    return {**record(**properties), "additionalProperties": False}


def some(items: Any, **bounds: int) -> dict[str, Any]:
    return {"type": "array", "items": items, **bounds}


def text(form: str) -> dict[str, Any]:
    return {"type": "string", "format": form}


def like(pattern: str) -> dict[str, Any]:
    return {"type": "string", "pattern": pattern}


PERSON = record(name=STRING, age=INTEGER)
NODE = closed(value=INTEGER, children=some({"$ref": "#/$defs/node"}))
LIST = closed(head=STRING, tail={"anyOf": [{"$ref": "#"}, {"type": "null"}]})
SCHEMAS: list[dict[str, Any]] = [
    {"type": "object"},
    {},
    PERSON,
    closed(answer=BOOLEAN, nothing={"type": "null"}),
    record(price=NUMBER, currency={"const": "EUR"}),
    closed(latitude=NUMBER, longitude=NUMBER),
    closed(low={"type": "number", "minimum": 0}, high={"type": "number", "exclusiveMaximum": 1}),
    closed(temperature={"type": "number", "minimum": -273.15, "maximum": 5000}),
    closed(
        steps={"type": "number", "multipleOf": 0.5}, dozen={"type": "integer", "multipleOf": 12}
    ),
    record(tags=some(STRING)),
    record(numbers=some(NUMBER, minItems=3)),
    record(matrix=some(some(NUMBER, minItems=2, maxItems=2), minItems=2, maxItems=2)),
    record(people=some(PERSON, minItems=1)),
    record(inner=record(deeper=record(deepest=some(STRING)))),
    closed(either={"anyOf": [INTEGER, STRING]}),
    closed(one={"oneOf": [BOOLEAN, {"type": "null"}, NUMBER]}),
    {"allOf": [record(id=INTEGER), {"properties": {"name": STRING}, "required": ["name"]}]},
    closed(both={"allOf": [INTEGER, {"minimum": 3}, {"maximum": 9}]}),
    closed(maybe={"type": ["string", "null"]}, count={"type": ["integer", "boolean"]}),
    {"type": "object", "properties": {"a": INTEGER, "b": STRING}},
    {"$ref": "#/$defs/person", "$defs": {"person": PERSON}},
    {"$ref": "#/$defs/node", "$defs": {"node": NODE}},
    LIST,
    closed(day=text("date"), at=text("time")),
    closed(when=text("date-time"), lasts=text("duration")),
    closed(mail=text("email"), host=text("hostname")),
    closed(four=text("ipv4"), six=text("ipv6"), id=text("uuid")),
    closed(link=text("uri"), place=text("json-pointer")),
    closed(time=like("^[0-2][0-9]:[0-5][0-9]$"), code=like("^[A-Z]{3}-[0-9]{4}$")),
    closed(phone=like(r"^\+[0-9]+$"), slug=like("^[a-z]+(-[a-z]+)*$")),
    closed(word=like("[aeiou]"), hexadecimal=like("^#[0-9a-fA-F]+$")),
    closed(short={"type": "string", "minLength": 3, "maxLength": 6}),
    closed(long={"type": "string", "minLength": 200}),
    closed(negative={"type": "integer", "maximum": -1}, big={"type": "integer", "minimum": 10**9}),
    some(STRING, minItems=2),
    some(some(INTEGER)),
    some(record(x=NUMBER, y=NUMBER), minItems=2, maxItems=4),
    {"type": "array", "prefixItems": [STRING, INTEGER], "items": False, "minItems": 2},
    {"enum": ["yes", "no", 3, None, True, {"a": [1]}]},
    {"const": {"fixed": [1, 2, 3]}},
    INTEGER,
    STRING,
    NUMBER,
    closed(**{'odd key: "quoted" é': STRING}),
    closed(colour={"enum": ['ré"d', "a\\b", "new\nline"]}),
    closed(**{f"field_{number}": STRING for number in range(12)}),
    closed(shape={"anyOf": [closed(kind={"const": "circle"}, r=NUMBER), closed(side=NUMBER)]}),
    closed(scores={"type": "object", "additionalProperties": NUMBER}),
    closed(map={"type": "object", "patternProperties": {"^[a-z]+$": INTEGER}, "minProperties": 1}),
    record(
        title=STRING, year={"type": "integer", "minimum": 1900}, genres=some(STRING), plot=STRING
    ),
]
TASKS = (
    "Describe anything as JSON.",
    "Invent a customer of a bicycle shop, in detail.",
    "What is the most precise value of pi that you know? Count upwards from it.",
    "Repeat the word buffalo for ever.",
)
SETTINGS = (
    SamplingParams(seed=1, temperature=0.0),
    SamplingParams(seed=2, temperature=1.0),
    SamplingParams(seed=3, temperature=1.5, top_k=0, top_p=1.0),
    SamplingParams(seed=4, temperature=0.7, repeat_penalty=1.3, min_p=0.05),
)


@pytest.fixture(scope="module")
def supervisor() -> Iterator[Supervisor]:
    with Supervisor() as supervisor:
        yield supervisor


def request(schema: Any, number: int, *, max_tokens: int = 160) -> GenerationRequest:
    prompt = f"<|im_start|>user\n{TASKS[number]}<|im_end|>\n<|im_start|>assistant\n"
    return GenerationRequest(
        (Segment(prompt),),
        max_tokens=max_tokens,
        constraint=None if schema is None else constrain.json_schema(schema),
        sampling=SETTINGS[number],
    )


def fault(schema: Any, text: str) -> str:
    """Why a text is not JSON of a schema; empty where it is."""
    validator = jsonschema.Draft202012Validator
    try:
        validator(schema, format_checker=validator.FORMAT_CHECKER).validate(json.loads(text))
    except (ValueError, jsonschema.ValidationError) as error:
        return repr(error)[:200]
    return ""


def test_200_outputs_over_50_schemas_all_validate(supervisor: Supervisor) -> None:
    assert len(SCHEMAS) == 50
    source = source_of(smollm2())
    # Unconstrained requests share the batches.
    free = [supervisor.generate(source, request(None, number)) for number in range(2)]
    bad = []
    for number in range(4):
        streams = [
            (schema, supervisor.generate(source, request(schema, number))) for schema in SCHEMAS
        ]
        for schema, stream in streams:
            deltas = list(stream)
            text = "".join(delta.text for delta in deltas)
            reason = fault(schema, text)
            if reason or deltas[-1].finish is not FinishReason.STOP:
                bad.append((number, schema, text, reason, deltas[-1].finish))
    assert bad == []
    for stream in free:
        stream.cancel()


@pytest.mark.parametrize("family", ["hermes", "qwen3-coder", "glm", "mistral-named", "harmony"])
def test_forced_calls_are_calls_of_the_tools(supervisor: Supervisor, family: str) -> None:
    output = FAMILIES[family][0]
    for number in range(4):
        constraint = forced_call(output, tools_of(TOOLS), many=False)
        wanted = replace(request(None, number), constraint=constraint, control_tokens=True)
        text = "".join(delta.text for delta in supervisor.generate(source_of(smollm2()), wanted))
        parser = output.parser(TOOLS, expects_call=True)
        calls = join(parser.feed(text) + parser.finish()).tool_calls
        assert calls, text
        for call in calls:
            (tool,) = (tool["function"] for tool in TOOLS if tool["function"]["name"] == call.name)
            jsonschema.validate(dict(call.arguments), tool.get("parameters", {}))


def test_a_short_answer_is_whole_or_says_that_it_was_cut(supervisor: Supervisor) -> None:
    source = source_of(smollm2())
    ends = set()
    for max_tokens in (1, 4, 12, 25, 50):
        for schema in SCHEMAS[::4]:
            stream = supervisor.generate(source, request(schema, 1, max_tokens=max_tokens))
            deltas = list(stream)
            text = "".join(delta.text for delta in deltas)
            ends.add(deltas[-1].finish)
            if deltas[-1].finish is FinishReason.STOP:
                assert fault(schema, text) == "", (schema, text)
    assert ends == {FinishReason.STOP, FinishReason.LENGTH}
