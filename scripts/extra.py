"""Print the packages of one of the project's extras, one a line: `python scripts/extra.py test`."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"

if __name__ == "__main__":
    described = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    print(*described["optional-dependencies"][sys.argv[1]], sep="\n")
