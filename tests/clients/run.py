"""Serve SmolLM2, let every client loose on it, and write docs/clients.md.

    python tests/clients/run.py --python CLIENTS_PYTHON [--modules DIR] [--check]

CLIENTS_PYTHON is the interpreter of an environment with the packages of `pannier[clients]`; DIR
holds node_modules/ollama. `--check` leaves the page alone. Fails where a check fails.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))
PAGE = ROOT / "docs" / "clients.md"
INTRODUCTION = """# Clients

Programs that were written for Ollama, OpenAI or Anthropic, unmodified, against this server with
SmolLM2-135M. `make clients` runs every check below and writes this page; the versions are those
that it ran with.

| client | version | feature | works |
|---|---|---|---|
"""
TIMEOUT_S = 900


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", required=True)
    parser.add_argument("--modules", type=Path)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    from support.live import live_server

    with tempfile.TemporaryDirectory() as home, live_server(Path(home)) as live:
        rows = run([arguments.python, str(HERE / "suite.py"), live.url])
        if arguments.modules and shutil.which("node"):
            command = ["node", str(HERE / "suite.mjs"), live.url, str(arguments.modules.resolve())]
            rows += run(command)
        rows += curl(live.url)
    for row in rows:
        print(row["result"][:120], "|", row["client"], "|", row["feature"])
    if not arguments.check:
        lines = ["| {client} | {version} | {feature} | {result} |\n".format(**row) for row in rows]
        PAGE.write_text(INTRODUCTION + "".join(lines), encoding="utf-8")
    return 0 if rows and all(row["result"] == "yes" for row in rows) else 1


def run(command: list[str]) -> list[dict[str, Any]]:
    """The lines that a suite prints; a suite that prints none has failed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise SystemExit(f"{command[0]} said nothing: {done.stderr[-2000:]}")
    return lines


def curl(url: str) -> list[dict[str, Any]]:
    """Every `curl` line of docs/api.md, as it stands there, against this server."""
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    commands = re.findall(r"^    (curl (?:.|\\\n)*?[^\\])$", text, re.MULTILINE)
    version = subprocess.run(["curl", "--version"], capture_output=True, text=True).stdout.split()[
        1
    ]
    rows = []
    for command in commands:
        own = command.replace("http://localhost:11434", url).replace("curl ", "curl -sSf ", 1)
        done = subprocess.run(["sh", "-c", own], capture_output=True, text=True, timeout=TIMEOUT_S)
        result = "yes" if done.returncode == 0 and done.stdout else f"no: {done.stderr.strip()}"
        path = re.search(r"http://localhost:11434(\S*)", command)
        feature = f"`{path[1] if path else ''}` of docs/api.md"
        rows.append({"client": "curl", "version": version, "feature": feature, "result": result})
    return rows


if __name__ == "__main__":
    sys.exit(main())
