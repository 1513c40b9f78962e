"""Compare WSGI servers by what a server of models needs; prints the table of docs/design.md.

    python tests/bench/wsgi.py [SERVER ...]      # pannier cheroot gunicorn waitress granian

Each server runs in its own process with the same application; those not installed are left out.
Nothing here is a test: the numbers belong to the machine that prints them.
"""

from __future__ import annotations

import importlib.util
import os
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SIZE = 1 << 30
BLOCK = 256 * 1024
THREADS = 256
STREAMS = 200
SERVERS = ("pannier", "cheroot", "gunicorn", "waitress", "granian")
COLUMNS = (
    "round trip p50",
    "upload",
    "body streamed",
    "file download",
    "peak memory",
    "client gone noticed",
    "request beside 200 streams",
    "… beside 300 half headers",
    "… beside 100 stalled readers",
)
seen: dict[str, Any] = {"bytes": 0, "gone": "-"}


def app(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
    path = environ["PATH_INFO"]
    if path == "/upload":
        seen["bytes"] = 0
        while data := environ["wsgi.input"].read(BLOCK):
            seen["bytes"] += len(data)
        return text(start, str(seen["bytes"]))
    if path == "/file":
        file = open(os.environ["BENCH_FILE"], "rb")  # noqa: SIM115  # the server closes it
        start("200 OK", [("Content-Length", str(SIZE))])
        wrapper = environ.get("wsgi.file_wrapper")
        return wrapper(file, BLOCK) if wrapper else iter(lambda: file.read(BLOCK), b"")
    if path == "/silent":
        start("200 OK", [("Content-Type", "text/plain")])
        return silent(environ)
    if path == "/stream":
        start("200 OK", [("Content-Type", "text/plain")])
        return stream()
    if path == "/endless":
        start("200 OK", [("Content-Type", "text/plain")])
        return (bytes(1 << 20) for _ in range(10_000))
    return text(start, str(seen.get(path.strip("/"), "ok")))


def text(start: Callable[..., Any], body: str) -> list[bytes]:
    start("200 OK", [("Content-Length", str(len(body)))])
    return [body.encode()]


def silent(environ: dict[str, Any]) -> Iterator[bytes]:
    """A long prompt: nothing to send, only asking whether the client is still there."""
    gone = environ.get("pannier.client_gone") or environ.get("waitress.client_disconnected")
    if gone is None and "gunicorn.socket" in environ:
        poll = select.poll()
        poll.register(environ["gunicorn.socket"], select.POLLRDHUP)

        def gone() -> bool:
            return bool(poll.poll(0))

    seen["gone"] = "never"
    yield b"x"
    if gone is None:
        return
    end = time.monotonic() + 5
    while time.monotonic() < end and not gone():
        time.sleep(0.001)
    if time.monotonic() < end:
        seen["gone"] = time.time()


def stream() -> Iterator[bytes]:
    for _ in range(40):
        yield b"token\n"
        time.sleep(0.25)


def serve(name: str, port: int) -> None:
    """Run one server in this process, for ever."""
    if name == "pannier":
        from pannier.api.server import Server, serve

        serve(Server(app, "127.0.0.1", port))
    elif name == "cheroot":
        from cheroot.wsgi import Server as Cheroot

        Cheroot(("127.0.0.1", port), app, numthreads=THREADS, request_queue_size=512).start()
    elif name == "waitress":
        from waitress import serve as waitress_serve

        waitress_serve(app, host="127.0.0.1", port=port, threads=THREADS,
                       channel_request_lookahead=1, max_request_body_size=SIZE * 2)  # fmt: skip
    elif name == "gunicorn":
        arguments = ["-k", "gthread", "--threads", str(THREADS), "-b", f"127.0.0.1:{port}"]
        os.execvp(sys.executable, [sys.executable, "-m", "gunicorn", *arguments, "wsgi:app"])
    else:
        arguments = ["--interface", "wsgi", "--blocking-threads", str(THREADS)]
        arguments += ["--host", "127.0.0.1", "--port", str(port), "wsgi:app"]
        os.execvp(sys.executable, [sys.executable, "-m", "granian", *arguments])


class Client:
    """Raw sockets against one server."""

    def __init__(self, port: int) -> None:
        self.port = port

    def connect(self, path: str, extra: str = "", method: str = "GET") -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{extra}\r\n".encode())
        return sock

    def get(self, path: str = "/") -> str:
        with self.connect(path, "Connection: close\r\n") as sock:
            data = b"".join(iter(lambda: sock.recv(65536), b""))
        return data.rpartition(b"\r\n\r\n")[2].decode()

    def latency(self) -> str:
        times = []
        for _ in range(5):
            began = time.perf_counter()
            try:
                self.get()
            except (OSError, TimeoutError):
                return "> 60 s"
            times.append(time.perf_counter() - began)
        return f"{max(times) * 1000:.0f} ms"

    def round_trip(self) -> str:
        with socket.create_connection(("127.0.0.1", self.port)) as sock:
            times = []
            for _ in range(500):
                began = time.perf_counter()
                sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                while not sock.recv(65536).endswith(b"ok"):
                    pass
                times.append(time.perf_counter() - began)
        return f"{statistics.median(times) * 1000:.2f} ms"

    def upload(self, file: Path) -> tuple[str, str]:
        with self.connect("/upload", f"Content-Length: {SIZE}\r\n", "POST") as sock:
            began = time.perf_counter()
            with file.open("rb") as content:
                sock.sendfile(content, 0, SIZE // 2)
                time.sleep(0.3)
                streamed = int(self.get("/bytes")) >= SIZE // 4
                sock.sendfile(content, SIZE // 2, SIZE // 2)
            while not sock.recv(65536).rstrip().endswith(str(SIZE).encode()):
                pass
            seconds = time.perf_counter() - began - 0.3
        return f"{SIZE / seconds / 1e6:.0f} MB/s", "yes" if streamed else "no"

    def download(self) -> str:
        buffer = bytearray(1 << 20)
        left = SIZE
        began = time.perf_counter()
        with self.connect("/file") as sock:
            while left > 0:
                left -= sock.recv_into(buffer)
        return f"{SIZE / (time.perf_counter() - began) / 1e6:.0f} MB/s"

    def gone(self) -> str:
        sock = self.connect("/silent")
        sock.recv(65536)
        time.sleep(0.1)
        sock.close()
        closed = time.time()
        time.sleep(1)
        noticed = self.get("/gone")
        return f"{(float(noticed) - closed) * 1000:.0f} ms" if noticed[:1].isdigit() else "no"

    def beside(self, path: str, count: int, *, head: str | None = None) -> str:
        held = []
        for _ in range(count):
            if head is not None:
                held.append(socket.create_connection(("127.0.0.1", self.port), timeout=60))
                held[-1].sendall(head.encode())
            else:
                held.append(self.connect(path))
        time.sleep(0.5)
        try:
            return self.latency()
        finally:
            for sock in held:
                sock.close()
            time.sleep(0.5)


def peak_memory(pid: int) -> str:
    """Largest resident size of a process or one of its children, in MB."""
    tree = [pid]
    for task in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = task.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            tree.append(int(task.parent.name))
    sizes = []
    for number in tree:
        for line in Path(f"/proc/{number}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                sizes.append(int(line.split()[1]) // 1000)
    return f"{max(sizes)} MB"


def measure(name: str, file: Path) -> list[str]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environ = {**os.environ, "BENCH_FILE": str(file), "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, __file__, "--serve", name, str(port)]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=environ, **quiet) as process:
        try:
            client = Client(port)
            wait_for(client)
            row = [client.round_trip(), *client.upload(file), client.download()]
            row += [peak_memory(process.pid), client.gone(), client.beside("/stream", STREAMS)]
            row.append(client.beside("", 300, head="GET / HTTP/1.1\r\nHos"))
            row.append(client.beside("/endless", 100))
            return row
        finally:
            process.terminate()
            threading.Timer(10, process.kill).start()


def wait_for(client: Client) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            client.get()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"no server on port {client.port}")


def main(names: list[str]) -> None:
    wanted = [name for name in names or SERVERS if importlib.util.find_spec(name)]
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(SIZE)
        while file.read(BLOCK):  # so that no server pays for the first touch of its pages
            pass
        rows = {name: measure(name, Path(file.name)) for name in wanted}
    print("| |", " | ".join(rows), "|")
    print("|---" * (len(rows) + 1) + "|")
    for index, column in enumerate(COLUMNS):
        print(f"| {column} |", " | ".join(row[index] for row in rows.values()), "|")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        main(sys.argv[1:])
