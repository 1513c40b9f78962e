"""200 answers of a real model over 40 schemas: every one is JSON that its schema describes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from support.models import smollm2, source_of

from pannier.runtime import constrain
from pannier.runtime.request import FinishReason, GenerationRequest, SamplingParams, Segment
from pannier.runtime.supervisor import Supervisor

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1800)]

WORD: dict[str, Any] = {"type": "string", "maxLength": 20}
COUNT = {"type": "integer", "minimum": 0, "maximum": 120}
PRICE = {"type": "number", "minimum": 0, "maximum": 999, "multipleOf": 0.25}
COLOUR = {"enum": ["red", "green", "blue"]}


def record(**properties: Any) -> dict[str, Any]:
    """An object with exactly these."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def some(items: Any, most: int = 3, least: int = 0) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


MAP = {
    "type": "object",
    "patternProperties": {"^[a-z]{1,8}$": COUNT},
    "additionalProperties": False,
    "maxProperties": 2,
}
PERSON = record(name=WORD, age=COUNT)
SCHEMAS: list[dict[str, Any]] = [
    PERSON,
    record(answer={"type": "boolean"}),
    record(nothing={"type": "null"}, colour=COLOUR),
    record(price=PRICE, currency={"const": "EUR"}),
    record(tags=some(WORD)),
    record(numbers=some(COUNT, 5, 1)),
    record(people=some(PERSON, 2, 1)),
    record(inner=record(deeper=record(deepest=COUNT))),
    record(either={"anyOf": [COUNT, WORD]}),
    record(one={"oneOf": [{"type": "boolean"}, {"type": "null"}]}),
    record(both={"allOf": [{"type": "integer"}, {"minimum": 3}, {"maximum": 9}]}),
    record(optional={"type": ["string", "null"], "maxLength": 10}),
    {"type": "object", "properties": {"a": COUNT, "b": WORD}, "additionalProperties": False},
    {"$ref": "#/$defs/person", "$defs": {"person": PERSON}},
    record(friend={"$ref": "#/$defs/p"}) | {"$defs": {"p": PERSON}},
    record(day={"type": "string", "format": "date"}),
    record(host={"type": "string", "format": "ipv4"}),
    record(id={"type": "string", "format": "uuid"}),
    record(time={"type": "string", "pattern": "^[0-2][0-9]:[0-5][0-9]$"}),
    record(code={"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"}),
    record(phone={"type": "string", "pattern": "^\\+[0-9]{6,12}$"}),
    record(short={"type": "string", "minLength": 3, "maxLength": 6}),
    record(even={"type": "integer", "multipleOf": 2, "minimum": 0, "maximum": 40}),
    record(half={"enum": [0.25, 0.5, 0.75]}),
    record(negative={"type": "integer", "minimum": -50, "maximum": -1}),
    some(COLOUR, 4, 2),
    some(some(COUNT, 2, 1), 2, 1),
    {"type": "array", "prefixItems": [WORD, COUNT], "items": False, "minItems": 2},
    {"enum": ["yes", "no", 3, None, True]},
    {"const": {"fixed": [1, 2, 3]}},
    {"type": "integer", "minimum": 1, "maximum": 6},
    {"type": "string", "maxLength": 30},
    {"type": "boolean"},
    record(**{'odd key: "quoted" é': COUNT}),
    record(colour={"enum": ['ré"d', "a\\b", "new\nline"]}),
    record(**{f"field_{number}": {"type": "boolean"} for number in range(12)}),
    record(shape={"anyOf": [record(kind={"const": "circle"}, r=COUNT), record(dot=COLOUR)]}),
    record(map=MAP),
    record(level={"type": "string", "enum": ["low", "high"]}, score=COUNT, notes=some(WORD, 1)),
    record(title=WORD, year={"type": "integer", "minimum": 1900}, genres=some(COLOUR)),
]
PROMPT = "<|im_start|>user\nDescribe anything as JSON.<|im_end|>\n<|im_start|>assistant\n"
SEEDS = range(5)


@pytest.fixture(scope="module")
def supervisor() -> Iterator[Supervisor]:
    with Supervisor() as supervisor:
        yield supervisor


def request(schema: Any, seed: int) -> GenerationRequest:
    return GenerationRequest(
        (Segment(PROMPT),),
        max_tokens=600,
        constraint=None if schema is None else constrain.json_schema(schema),
        sampling=SamplingParams(seed=seed, temperature=1.0),
    )


def test_200_outputs_over_40_schemas_all_validate(supervisor: Supervisor) -> None:
    assert len(SCHEMAS) == 40
    source = source_of(smollm2())
    # Unconstrained requests share the batches.
    free = [supervisor.generate(source, request(None, seed)) for seed in range(2)]
    bad = []
    for seed in SEEDS:
        streams = [
            (schema, supervisor.generate(source, request(schema, seed))) for schema in SCHEMAS
        ]
        for schema, stream in streams:
            deltas = list(stream)
            text = "".join(delta.text for delta in deltas)
            try:
                assert deltas[-1].finish is FinishReason.STOP
                jsonschema.validate(json.loads(text), schema)
            except (AssertionError, ValueError, jsonschema.ValidationError) as error:
                bad.append((schema, text, repr(error)[:200]))
    assert bad == []
    for stream in free:
        stream.cancel()
