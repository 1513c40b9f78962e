"""Push and pull of one large blob against curl, sha256sum and skopeo, as ratios.

    python tests/bench/transfer.py [--size-mib 2048] [--runs 3]

Every run is alternated with its peers on one docker-registry; medians are printed. Memory and
processor time are those of a child process (getrusage).
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.artifacts import make_artifact
from support.registry import DockerRegistry, docker_registry

from pannier.pkgmgr.store.store import Store

COPY = """
import sys, pathlib
from pannier.pkgmgr import operations
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.settings import Settings
from pannier.pkgmgr.store.store import Store
import os
act, home, name = sys.argv[1:]
getattr(operations, act)(Store.open(pathlib.Path(home)), Reference.parse(name),
                         settings=Settings.load(os.environ))
"""


@dataclass(frozen=True)
class Cost:
    """What a child process took: seconds of wall clock and of processor, peak bytes."""

    wall_s: float
    cpu_s: float
    peak: int


def measure(command: Sequence[str], **options: str) -> Cost:
    begun = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, **options})
    _, status, usage = os.wait4(child.pid, 0)
    wall_s = time.monotonic() - begun
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(f"{command[0]} failed with {child.returncode}")
    return Cost(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def alternate(runs: int, **acts: Callable[[], Cost]) -> dict[str, Cost]:
    """The median cost of each act, run in turns."""
    costs: dict[str, list[Cost]] = {name: [] for name in acts}
    for _ in range(runs):
        for name, act in acts.items():
            os.sync()
            costs[name].append(act())
    return {
        name: Cost(
            statistics.median(cost.wall_s for cost in found),
            statistics.median(cost.cpu_s for cost in found),
            max(cost.peak for cost in found),
        )
        for name, found in costs.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mib", type=int, default=2048)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="pannier-bench-") as folder,
        docker_registry(Path(folder, "registry")) as registry,
    ):
        bench(Path(folder), registry, options.size_mib << 20, options.runs)


def bench(folder: Path, registry: DockerRegistry, size: int, runs: int) -> None:
    home, name = folder / "home", f"{registry.host}/team/big:1"
    blob = folder / "blob"
    with blob.open("wb") as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))
    store = Store.open(home)
    digest, _ = store.ingest_file(blob)
    artifact = make_artifact()
    layer = {"mediaType": "application/octet-stream", "digest": str(digest), "size": size}
    artifact = make_artifact(layers=[layer])
    artifact.push_to(store, name)
    many = [os.urandom(2000 + number) for number in range(40)]
    small = [describe.to_json() for describe, _ in make_artifact(*many).blobs[1:]]
    both = make_artifact(*many, layers=[layer, *small])
    both.push_to(store, name.replace(":1", ":41"))

    def push() -> Cost:
        shutil.rmtree(registry.root / "data" / "docker", ignore_errors=True)
        return measure([sys.executable, "-c", COPY, "push", str(home), name])

    def put() -> Cost:
        shutil.rmtree(registry.root / "data" / "docker", ignore_errors=True)
        command = ["curl", "-sf", "-X", "POST", "-D", "-", "-o", "/dev/null"]
        url = f"http://{registry.host}/v2/team/bare/blobs/uploads/"
        said = subprocess.run([*command, url], capture_output=True, check=True).stdout.decode()
        location = next(
            line.split(None, 1)[1].strip()
            for line in said.splitlines()
            if line.lower().startswith("location:")
        )
        target = f"{location}&digest={digest}"
        return measure(["curl", "-sf", "-T", str(blob), "-H", "Expect:", target])

    def pull(tag: str = "1") -> Cost:
        other = folder / "other"
        shutil.rmtree(other, ignore_errors=True)
        command = [sys.executable, "-c", COPY, "pull", str(other), name.replace(":1", f":{tag}")]
        return measure(command)

    def curl() -> Cost:
        url = f"http://{registry.host}/v2/team/big/blobs/{digest}"
        (folder / "curled").unlink(missing_ok=True)
        return measure(["curl", "-sf", "-o", str(folder / "curled"), url])

    def sha256sum() -> Cost:
        return measure(["sha256sum", str(folder / "curled")])

    def skopeo() -> Cost:
        shutil.rmtree(folder / "layout", ignore_errors=True)
        source, target = f"docker://{name}", f"oci:{folder / 'layout'}:x"
        return measure(["skopeo", "copy", "-q", "--src-tls-verify=false", source, target])

    sent = alternate(runs, push=push, put=put)
    push()
    subprocess.run(
        [sys.executable, "-c", COPY, "push", str(home), name.replace(":1", ":41")], check=True
    )
    got = alternate(
        runs, pull=pull, curl=curl, sha256sum=sha256sum, skopeo=skopeo, many=lambda: pull("41")
    )
    for cost_name, cost in {**sent, **got}.items():
        print(
            f"{cost_name:10} wall {cost.wall_s:6.2f} s  cpu {cost.cpu_s:6.2f} s  "
            f"peak {cost.peak / 1e6:6.1f} MB"
        )
    checked = got["curl"].cpu_s + got["sha256sum"].cpu_s
    print(f"push / bare PUT, wall            {sent['push'].wall_s / sent['put'].wall_s:5.2f}")
    print(f"pull / curl -o, wall             {got['pull'].wall_s / got['curl'].wall_s:5.2f}")
    print(f"pull / skopeo copy, wall         {got['pull'].wall_s / got['skopeo'].wall_s:5.2f}")
    print(f"pull / (curl + sha256sum), cpu   {got['pull'].cpu_s / checked:5.2f}")
    print(f"41 layers / 1 layer, wall        {got['many'].wall_s / got['pull'].wall_s:5.2f}")


if __name__ == "__main__":
    main()
