"""Grammars in llguidance's Lark: terms, and marks that only a model's vocabulary defines. Pure.

A grammar names its marks `mark_0`, `mark_1` …, texts that end with one `until_0`, `until_1` …, and
a term `VALUE` before one `ended_0_value`; whether a mark is a control token or text is known where
the vocabulary is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

# Blanks between JSON tokens: enough for an indented object, not enough for a small model to lose
# itself.
BLANKS = r"(?:\n[ ]{0,16}|[ ])?"
JSON_OPTIONS: Mapping[str, Any] = {
    "whitespace_flexible": True,
    "whitespace_pattern": BLANKS,
    "lenient": False,
}
COMMON = f"\nblanks: /{BLANKS}/\nany_text: /(?s:.*)/"


def text(value: str) -> str:
    """A literal."""
    return json.dumps(value)


def json_of(schema: Mapping[str, Any]) -> str:
    """A value that a prepared schema describes."""
    return "%json " + json.dumps({**schema, "x-guidance": JSON_OPTIONS})


def regex_of(pattern: str) -> str:
    """A text that a regular expression matches as a whole; slashes end it unless escaped."""
    return "/" + re.sub(r"(?<!\\)((?:\\\\)*)/", r"\1\\/", pattern.replace("\n", r"\n")) + "/"


def with_marks(grammar: str, marks: Sequence[tuple[str, int | None]]) -> str:
    """A grammar with its marks defined, each a text and the control token that it is, if any."""
    if not marks:
        return grammar
    rules = ""
    terms = sorted(set(re.findall(r"\bended_(\d+)_(\w+)", grammar)))
    for number, (mark, token) in enumerate(marks):
        ended = [term for at, term in terms if int(at) == number]
        if token is None:
            suffix = f"[suffix={text(mark)}]"
            rules += f"\nmark_{number}: {text(mark)}\nuntil_{number}{suffix}: /(?s:.*)/"
            rules += "".join(f"\nended_{number}_{term}{suffix}: {term.upper()}" for term in ended)
        else:
            rules += f"\nmark_{number}: <[{token}]>\nuntil_{number}: any_text mark_{number}"
            rules += "".join(
                f"\nended_{number}_{term}: {term.upper()} mark_{number}" for term in ended
            )
    if not grammar.startswith("{"):
        return grammar + rules
    parts = json.loads(grammar)
    parts["grammars"][0]["lark_grammar"] += rules
    return json.dumps(parts)


def wrapped(outer: str, body: str) -> str:
    """A grammar that names another one `@body`; `body` is Lark or llguidance's serial form."""
    parts = json.loads(body)["grammars"] if body.startswith("{") else [{"lark_grammar": body}]
    first = {**parts[0], "name": "body"}
    return json.dumps({"grammars": [{"lark_grammar": outer}, first, *parts[1:]]})
