"""`pannier verify` against `sha256sum` on one core, as a ratio of throughput.

    python tests/bench/verify.py [--size-mib 2048] [--runs 3]

Both read from the page cache; runs are alternated and medians printed. The goal is 0.9.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.bundle import make_file, make_store, timed
from support.cli import PROGRAM


def pinned(*command: str | Path, home: Path) -> None:
    environment = dict(os.environ) | {"PANNIER_HOME": str(home)}
    subprocess.run(
        ["taskset", "-c", "0", *command],
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mib", type=int, default=2048)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_file(root / "weights", options.size_mib << 20)
        home = root / "home"
        make_store(home, root / "weights")
        blob = max((home / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
        pinned("sha256sum", blob, home=home)
        for _ in range(options.runs):
            theirs.append(timed(partial(pinned, "sha256sum", blob, home=home)))
            command = (PROGRAM, "verify", "--jobs", "1")
            ours.append(timed(partial(pinned, *command, home=home)))
    hash_s, verify_s = statistics.median(theirs), statistics.median(ours)
    print(f"verify: {verify_s:.2f} s, {hash_s / verify_s:.2f} x sha256sum's throughput per core")


if __name__ == "__main__":
    main()
