"""Print docs/cli.md: the whole command line as its help texts tell it. `make docs` saves it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

HEADER = """\
# The command line

<!-- Written by `make docs` from the commands' help texts; a test compares. -->

Results go to standard output, everything else to standard error. `--json` prints the result as
JSON, in a form that scripts may rely on. An error is one line that begins with `error:`, and
often a second one that begins with `hint:` and says what to type next.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | failed |
| 2 | wrong usage: an option, a name, a Modelfile, a file that is no model |
| 3 | not found |
| 4 | integrity: bytes are not what their name says |
| 5 | network, registry or credentials |
| 130 | interrupted |
| 141 | whoever read the output went away |

| variable | meaning |
|---|---|
| `PANNIER_HOME` | where everything is kept; `~/.pannier` otherwise |
| `PANNIER_HOST` | where `serve` listens and clients connect; `127.0.0.1:11434` otherwise |
| `PANNIER_KEEP_ALIVE` | how long an idle model stays loaded: `5m`, seconds, or -1 for ever |
| `PANNIER_CONTEXT_LENGTH` | tokens of context where neither model nor request says |
| `PANNIER_NUM_PARALLEL` | requests that one model answers at a time |
| `PANNIER_ORIGINS` | where web pages may come from that use the server, with commas |
| `PANNIER_NOHISTORY` | set: `run` keeps no history of what is typed |

Where a variable other than `PANNIER_HOME` is not set, the one that begins with `OLLAMA_` counts.

"""


def main() -> None:
    """Print the page."""
    os.environ["TERMINAL_WIDTH"] = os.environ["COLUMNS"] = "96"
    sys.stdout.write(page())


def page() -> str:
    """The whole page as text."""
    from pannier.api.main import command_line

    group = command_line()
    with group.make_context("pannier", [], resilient_parsing=True) as root:
        sections = [_section(root, "pannier")]
        for name in group.list_commands(root):
            sections += _command(root, name, group.get_command(root, name))
    return HEADER + "\n".join(sections)


def _command(parent: Any, name: str, command: Any) -> Iterator[str]:
    if command.hidden:
        return
    context = type(parent)(command, info_name=name, parent=parent, **command.context_settings)
    with context:
        yield _section(context, context.command_path)
        for child, below in getattr(command, "commands", {}).items():
            yield from _command(context, child, below)


def _section(context: Any, title: str) -> str:
    context.terminal_width = context.max_content_width = 96
    lines = "\n".join(line.rstrip() for line in context.get_help().splitlines())
    return f"## {title}\n\n```text\n{lines}\n```\n"


if __name__ == "__main__":
    main()
