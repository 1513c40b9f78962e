"""docs/formats.md says what is true: its table is generated, its example is installed and used."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import peers

from pannier.pkgmgr import mediatypes as mt
from pannier.pkgmgr.dialects import DIALECTS
from pannier.pkgmgr.dialects.base import WritableDialect

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
BEGIN = "<!-- table: written by tests/contracts/test_formats_page.py --update-golden -->\n"
END = "<!-- end of table -->\n"


def table() -> str:
    """One row per dialect: which tools' artifacts are in the catalogue that the tests run on."""
    rows = [
        "| dialect | written by | read | write | back and forth | run |",
        "|---|---|---|---|---|---|",
    ]
    for dialect in DIALECTS:
        origins = [
            item.origin for item in peers.catalogue().values() if item.dialect == dialect.name
        ]
        tools = sorted({origin.partition(",")[0] for origin in origins})
        write = isinstance(dialect, WritableDialect)
        rows.append(
            f"| `{dialect.name}` | {'; '.join(tools)} | {'yes' if origins else 'no'} | "
            f"{'yes' if write else 'no'} | {'restored' if write else 'as is'} | "
            f"{'yes' if origins else 'no'} |"
        )
    return "\n".join(["", *rows, "", ""])


def test_the_table_is_what_the_tests_prove(pytestconfig: pytest.Config) -> None:
    text = PAGE.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin
    assert end
    fresh = before + begin + table() + end + after
    if pytestconfig.getoption("--update-golden"):
        PAGE.write_text(fresh)
        text = fresh
    assert text == fresh


def test_the_example_of_a_dialect_works_when_installed(tmp_path: Path) -> None:
    (source,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (entry,) = re.findall(r"```toml\n.*?\n(.*?)\n```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "acme_dialect.py").write_text(source)
    info = tmp_path / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pannier.dialects]\n" + entry.replace('"', "") + "\n")
    b = peers.Builder()
    manifest = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "config": b.layer("application/vnd.acme.model.v1+json", b"{}"),
        "layers": [b.layer("application/vnd.acme.gguf", peers.MODEL)],
    }
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pannier.pkgmgr.dialects import read_spec\n"
        "from pannier.pkgmgr.manifest import parse_manifest\n"
        "spec = read_spec(parse_manifest(sys.argv[2].encode()), lambda item: b'{}')\n"
        "print(spec.dialect, [str(part.role) for part in spec.parts])\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path), json.dumps(manifest)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("acme ['weights']\n", "")
