"""The composition root and console script: the package manager's commands and the upper rooms'.

The only module that sees all three rooms; Flask and llama.cpp are imported inside the command
that needs them.
"""

from __future__ import annotations

import sys

from pannier.pkgmgr.cli.app import TOPICS, Topic, build, run

UPPER_TOPICS = (
    Topic("pannier.api.commands", ("run", "serve", "ps", "stop")),
    Topic("pannier.api.doctor", ("doctor",)),
)


def main() -> None:
    """Run `pannier` with the process's arguments, and exit."""
    sys.exit(run(build(TOPICS + UPPER_TOPICS), sys.argv[1:]))


if __name__ == "__main__":
    main()
