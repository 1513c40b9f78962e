"""Documentation that is generated is up to date, and links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)")


def test_the_page_of_commands_is_what_make_docs_writes() -> None:
    result = subprocess.run(
        [sys.executable, ROOT / "scripts" / "cli_docs.py"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (ROOT / "docs" / "cli.md").read_text() == result.stdout, "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_to_files_that_exist(page: Path) -> None:
    for target in _LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_readme_names_commands_that_exist() -> None:
    cli = (ROOT / "docs" / "cli.md").read_text()
    known = set(re.findall(r"^## pannier ([a-z-]+)", cli, re.MULTILINE))
    readme = (ROOT / "README.md").read_text()
    used = set(re.findall(r"(?:\$ |\| |`)pannier ([a-z]+)", readme))
    assert used
    assert used <= known, used - known
