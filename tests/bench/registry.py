"""How fast a node serves a stored blob, as a ratio against docker-registry in the same run.

`python tests/bench/registry.py [GIB]`: one reader of a blob of 2 GiB, five times each in turn, the
best of each; then 16 readers of ranges, with the time that /api/version takes meanwhile.
"""

import http.client
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.registry import docker_registry, free_port

from pannier.pkgmgr.store.store import Store

NAME = "bench/blob"
ROUNDS = 5
READERS = 16


def main() -> None:
    size = int(float(sys.argv[1] if len(sys.argv) > 1 else "2") * (1 << 30))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "blob"
        write_random(source, size)
        digest, _ = Store.open(Path(folder) / "node").ingest_file(source)
        with (
            docker_registry(Path(folder) / "registry") as peer,
            serving(Path(folder) / "node") as (ours, pid),
        ):
            push(peer.host, source, str(digest))
            path = f"/v2/{NAME}/blobs/{digest}"
            report_one_reader(ours, peer.host, path, size)
            report_ranges(ours, path, size)
            print(f"peak memory of the node: {peak_kib(pid) / 1024:.0f} MiB")


def report_one_reader(ours: str, theirs: str, path: str, size: int) -> None:
    mine, peers = [], []
    for _ in range(ROUNDS):
        mine.append(read(ours, path))
        peers.append(read(theirs, path))
    mib = size / (1 << 20)
    print(f"node            {mib / min(mine):7.0f} MiB/s")
    print(f"docker-registry {mib / min(peers):7.0f} MiB/s")
    print(f"ratio           {min(peers) / min(mine):7.2f} (best of {ROUNDS}), "
          f"{statistics.median(peers) / statistics.median(mine):.2f} (medians)")  # fmt: skip


def report_ranges(ours: str, path: str, size: int) -> None:
    """16 readers at once, and another client that only wants a small answer."""
    part = size // READERS
    threads = [
        threading.Thread(target=read, args=(ours, path, (at * part, (at + 1) * part - 1)))
        for at in range(READERS)
    ]
    for thread in threads:
        thread.start()
    waits = []
    while any(thread.is_alive() for thread in threads):
        begun = time.perf_counter()
        read(ours, "/api/version")
        waits.append(time.perf_counter() - begun)
    for thread in threads:
        thread.join()
    print(f"/api/version beside {READERS} range readers: "
          f"{len(waits)} answers, slowest {max(waits, default=0) * 1000:.0f} ms")  # fmt: skip


def read(host: str, path: str, span: tuple[int, int] | None = None) -> float:
    """Read an answer to its end into one buffer; seconds."""
    name, _, port = host.partition(":")
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: close"]
    if span is not None:
        lines.append(f"Range: bytes={span[0]}-{span[1]}")
    buffer = bytearray(1 << 20)
    begun = time.perf_counter()
    with socket.create_connection((name, int(port))) as sock:
        sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        while sock.recv_into(buffer):
            pass
    return time.perf_counter() - begun


def push(host: str, source: Path, digest: str) -> None:
    name, _, port = host.partition(":")
    connection = http.client.HTTPConnection(name, int(port), timeout=300)
    connection.request("POST", f"/v2/{NAME}/blobs/uploads/")
    answer = connection.getresponse()
    answer.read()
    location = answer.headers["Location"].partition(host)[2]
    headers = {"Content-Length": str(source.stat().st_size)}
    with source.open("rb") as file:
        connection.request("PUT", f"{location}&digest={digest}", file, headers)
    assert connection.getresponse().status == 201
    connection.close()


@contextmanager
def serving(home: Path) -> Iterator[tuple[str, int]]:
    host = f"127.0.0.1:{free_port()}"
    program = Path(sys.executable).with_name("pannier")
    process = subprocess.Popen(
        [program, "serve", "--listen", host, "--quiet"],
        env={**os.environ, "PANNIER_HOME": str(home)},
    )
    try:
        wait_for(host)
        yield host, process.pid
    finally:
        process.terminate()
        process.wait()


def wait_for(host: str) -> None:
    for _ in range(300):
        try:
            read(host, "/v2/")
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("the node does not answer")


def write_random(path: Path, size: int) -> None:
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        for number in range(size >> 20):
            file.write(number.to_bytes(8, "big") + block[8:])


def peak_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


if __name__ == "__main__":
    main()
