"""Taking a file into the store against `cp` and `sha256sum` of it, as ratios.

    python tests/bench/create.py [--size-mib 2048] [--runs 3]

Runs are alternated and medians printed; memory is that of the child process. The store is made
durable (fsync) and cp is not, so `sync` is part of both.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.transfer import Cost, alternate, measure

INGEST = """
import pathlib, sys
from pannier.pkgmgr.store.store import Store
Store.open(pathlib.Path(sys.argv[1])).ingest_file(pathlib.Path(sys.argv[2]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mib", type=int, default=2048)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pannier-bench-") as folder:
        bench(Path(folder), options.size_mib, options.runs)


def bench(folder: Path, size_mib: int, runs: int) -> None:
    source, copy, home = folder / "source", folder / "copy", folder / "home"
    with source.open("wb") as file:
        for _ in range(size_mib):
            file.write(os.urandom(1 << 20))

    def ingest() -> Cost:
        shutil.rmtree(home, ignore_errors=True)
        return measure([sys.executable, "-c", INGEST, str(home), str(source)])

    def cp() -> Cost:
        copy.unlink(missing_ok=True)
        return measure(["sh", "-c", f"cp {source} {copy} && sync {copy}"])

    def sha256sum() -> Cost:
        return measure(["sha256sum", str(source)])

    costs = alternate(runs, ingest=ingest, cp=cp, sha256sum=sha256sum)
    for name, cost in costs.items():
        spent = f"wall {cost.wall_s:6.2f} s  cpu {cost.cpu_s:6.2f} s"
        print(f"{name:10} {spent}  peak {cost.peak / 1e6:6.1f} MB")
    peers = costs["cp"].wall_s + costs["sha256sum"].wall_s
    print(f"ingest / (cp + sha256sum), wall  {costs['ingest'].wall_s / peers:5.2f}")


if __name__ == "__main__":
    main()
