"""Start-up time of commands as multiples of `python -c pass`, best of many runs.

.venv/bin/python tests/bench/startup.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

RUNS = 30
PANNIER = str(Path(sys.executable).with_name("pannier"))
COMMANDS = (["list"], ["list", "--json"], ["--help"], ["version"])


def best_s(command: Sequence[str], environment: dict[str, str]) -> float:
    """The shortest wall time of a command."""
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    """Print one line per command."""
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"PANNIER_HOME": home}
        base = best_s([sys.executable, "-c", "pass"], environment)
        print(f"{'python -c pass':<24}{base * 1000:6.0f} ms")
        for arguments in COMMANDS:
            taken = best_s([PANNIER, *arguments], environment)
            name = "pannier " + " ".join(arguments)
            print(f"{name:<24}{taken * 1000:6.0f} ms  {taken / base:.1f}x")


if __name__ == "__main__":
    main()
