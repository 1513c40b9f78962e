"""The table of docs/registry.md: every demand of the specification names tests that exist."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[3] / "docs" / "registry.md"


def test_every_row_names_tests_that_exist() -> None:
    source = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    known = set(re.findall(r"^def (test_\w+)", source, re.MULTILINE))
    table = DOCS.read_text().partition("## The specification, line by line")[2]
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    assert len(rows) > 40
    for row in rows:
        named = set(re.findall(r"`(test_\w+)`", row))
        assert named, row
        assert named <= known, named - known


def test_codes_are_those_of_the_specification() -> None:
    from pannier.api.registry.errors import Code

    assert len(Code) == 14
    assert all(re.fullmatch(r"[A-Z_]+", code) for code in Code)
