"""A pull behind a proxy that limits each connection, against what one connection gives.

python tests/bench/throttled.py [--size-mib 1024] [--rate-mb 20]
"""

from __future__ import annotations

import argparse
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.transfer import COPY, measure
from support.artifacts import make_artifact
from support.registry import docker_registry

from pannier.pkgmgr.store.store import Store

_PIECE = 64 << 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--rate-mb", type=int, default=20)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="pannier-bench-") as folder,
        docker_registry(Path(folder, "registry")) as registry,
    ):
        bench(Path(folder), registry.host, options.size_mib << 20, options.rate_mb * 1e6)


def bench(folder: Path, host: str, size: int, rate: float) -> None:
    store = Store.open(folder / "home")
    blob = folder / "blob"
    blob.write_bytes(b"")
    with blob.open("r+b") as file:
        file.truncate(size)
        file.write(b"not only zeros")
    digest, _ = store.ingest_file(blob)
    layer = {"mediaType": "application/octet-stream", "digest": str(digest), "size": size}
    make_artifact(layers=[layer]).push_to(store, f"{host}/team/big:1")
    measure([sys.executable, "-c", COPY, "push", str(folder / "home"), f"{host}/team/big:1"])
    slow = f"127.0.0.1:{throttle(host, rate)}"
    command = [sys.executable, "-c", COPY, "pull", str(folder / "other"), f"{slow}/team/big:1"]
    cost = measure(command)
    single_s = size / rate
    print(f"pull       wall {cost.wall_s:6.2f} s  peak {cost.peak / 1e6:.1f} MB")
    print(f"gain over one connection         {single_s / cost.wall_s:5.2f}")


def throttle(host: str, rate: float) -> int:
    """A TCP proxy to `host` that lets so many bytes per second through each connection."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    target = (host.partition(":")[0], int(host.partition(":")[2]))

    def accept() -> None:
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(target)
            for source, sink, limit in ((client, server, None), (server, client, rate)):
                threading.Thread(target=pump, args=(source, sink, limit), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return int(listener.getsockname()[1])


def pump(source: socket.socket, sink: socket.socket, rate: float | None) -> None:
    free_at = time.monotonic()
    try:
        while data := source.recv(_PIECE):
            sink.sendall(data)
            if rate is not None:
                free_at = max(free_at, time.monotonic() - 0.05) + len(data) / rate
                time.sleep(max(0.0, free_at - time.monotonic()))
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        sink.close()


if __name__ == "__main__":
    main()
