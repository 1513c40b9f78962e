"""Export and import of one large model against `cp` and `sha256sum`, as ratios.

    python tests/bench/bundle.py [--size-mib 2048] [--runs 3] [--where DIR]

The peer is what people do by hand: copy the file and hash it. Runs are alternated; medians are
printed. Both are at most 1.3 where the machine is idle.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.cli import PROGRAM

NAME = "registry.corp/bench/model:1"
BLOCK = 64 << 20


def timed(act: Callable[[], object]) -> float:
    os.sync()
    began = time.monotonic()
    act()
    return time.monotonic() - began


def make_file(path: Path, size: int) -> None:
    noise = os.urandom(BLOCK)
    with path.open("wb") as file:
        for number in range(size // BLOCK):
            file.write(number.to_bytes(8, "big") + noise[8:])


def run(*command: str | Path, home: Path | None = None) -> None:
    environment = dict(os.environ) | ({"PANNIER_HOME": str(home)} if home else {})
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


def make_store(home: Path, file: Path) -> None:
    from support.artifacts import make_artifact

    from pannier.pkgmgr.descriptor import Descriptor
    from pannier.pkgmgr.reference import Reference
    from pannier.pkgmgr.store.store import Store

    store = Store.open(home)
    digest, size = store.ingest_file(file)
    layer = Descriptor("application/octet-stream", digest, size)
    artifact = make_artifact(layers=[layer.to_json()])
    artifact.push_to(store)
    store.tag(artifact.descriptor, Reference.parse(NAME))


def by_hand(source: Path, copy: Path) -> None:
    run("cp", source, copy)
    run("sha256sum", copy)
    run("sync", copy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mib", type=int, default=2048)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--where", type=Path)
    options = parser.parse_args()
    times: dict[str, list[float]] = {"by hand": [], "export": [], "import": []}
    with tempfile.TemporaryDirectory(dir=options.where) as folder:
        root = Path(folder)
        file, bundle = root / "weights", root / "bundle.tar"
        make_file(file, options.size_mib << 20)
        make_store(root / "source", file)
        for number in range(options.runs):
            copy, home = root / "copy", root / f"target{number}"
            times["by hand"].append(timed(partial(by_hand, file, copy)))
            copy.unlink()
            export = (PROGRAM, "export", NAME, "-o", bundle, "-q")
            times["export"].append(timed(partial(run, *export, home=root / "source")))
            load = (PROGRAM, "import", bundle, "-q")
            times["import"].append(timed(partial(run, *load, home=home)))
            run("rm", "-rf", home)
    hand = statistics.median(times["by hand"])
    for name in ("export", "import"):
        took = statistics.median(times[name])
        print(f"{name}: {took:.2f} s, {took / hand:.2f} x cp + sha256sum ({hand:.2f} s)")


if __name__ == "__main__":
    main()
