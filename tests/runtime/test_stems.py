"""What brings a string to where its pattern matches."""

from __future__ import annotations

import json
import re

import pytest

from pannier.runtime import constrain, stems
from pannier.runtime.frames import decode_request, encode_request
from pannier.runtime.request import GenerationRequest, Segment


@pytest.mark.parametrize(
    "pattern", ["[aeiou]", "^x+$", "a.*b.*c", 'say "hi"', "[0-9]{12}", r"back\\slash", "é"]
)
def test_the_longest_stem_is_a_match_and_the_others_are_its_ends(pattern: str) -> None:
    found = stems.of_patterns([pattern])
    assert re.search(pattern, json.loads(f'"{found[-1]}"'))
    assert all(found[-1].endswith(stem) for stem in found)
    assert [len(stem) for stem in found] == list(range(1, len(found[-1]) + 1))


@pytest.mark.parametrize("pattern", ["(", "[a-z]{900}", "x" * 2_000, "(?=a)"])
def test_patterns_that_are_none_or_too_long_have_no_stems(pattern: str) -> None:
    assert stems.of_patterns([pattern]) == ()


def test_patterns_are_found_wherever_a_schema_has_them_in_bounds() -> None:
    schema = {"items": {"patternProperties": {"^k$": {"pattern": "^v$"}}}, "pattern": "^w$"}
    assert set(stems.of_schemas([schema])) == {"k", "v", "w"}
    found = stems.of_patterns(f"{number:03}" for number in range(100))
    assert "031" in found
    assert "032" not in found


def test_stems_reach_the_model_as_they_are() -> None:
    constraint = constrain.json_schema({"type": "string", "pattern": 'say "hi"'})
    wanted = GenerationRequest((Segment("x"),), constraint=constraint)
    assert constraint.stems
    assert decode_request(json.loads(json.dumps(encode_request(wanted)))) == wanted
