"""The composition root and console script: the package manager's commands and the upper rooms'.

The only module that sees all three rooms; Flask and llama.cpp are imported inside the command
that needs them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from pannier.pkgmgr.cli import exits
from pannier.pkgmgr.cli.app import RUNNING, TOPICS, LazyGroup, Topic, build, run
from pannier.pkgmgr.errors import PannierError
from pannier.runtime.errors import EngineError, InvalidImage, UnsupportedRequest

UPPER_TOPICS = (
    Topic("pannier.api.commands", ("run", "serve", "ps", "stop"), RUNNING),
    Topic("pannier.api.commands_doctor", ("doctor",)),
    Topic("pannier.api.commands_engine", ("quantize", "bench")),
)
EXIT_CODES: Mapping[type[PannierError], int] = {
    **exits.EXIT_CODES,
    EngineError: exits.FAILED,
    InvalidImage: exits.USAGE,
    UnsupportedRequest: exits.USAGE,
}


def main() -> None:
    """Run `pannier` with the process's arguments, and exit."""
    sys.exit(run(command_line(), sys.argv[1:], exit_codes=EXIT_CODES))


def command_line() -> LazyGroup:
    """All commands."""
    group = build(TOPICS + UPPER_TOPICS)
    group.services = {
        "effective_template": "pannier.api.effective:effective_template",
        "quantizer": "pannier.runtime.quantize:quantizer",
    }
    return group


if __name__ == "__main__":
    main()
