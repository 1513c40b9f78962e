"""Writes tests/golden/templates/go.jsonl anew with Go's own text/template.

    python scripts/go_vectors.py [MORE.jsonl …]

Needs a Go toolchain, which the tests do not. Each line of the arguments is an object with
`template` and `data`; what the file holds already is rendered again, and what is new comes last.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "tests" / "golden" / "templates"
VECTORS = FOLDER / "go.jsonl"


def main(more: list[str]) -> None:
    """Render all vectors, each once."""
    wanted: list[str] = []
    for path in (VECTORS, *map(Path, more)):
        for line in path.read_text().splitlines():
            vector = json.loads(line)
            question = {"template": vector["template"], "data": vector["data"]}
            wanted.append(json.dumps(question))
    rendered = subprocess.run(
        ["go", "run", str(FOLDER / "render.go")],
        input="".join(f"{asked}\n" for asked in dict.fromkeys(wanted)),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    lines = []
    for asked, answer in zip(dict.fromkeys(wanted), rendered, strict=True):
        result = json.loads(answer)
        end = {key: result[key] for key in ("out", "error") if key in result}
        lines.append(json.dumps({**json.loads(asked), **end}))
    VECTORS.write_text("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main(sys.argv[1:])
