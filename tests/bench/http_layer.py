"""What HTTP and JSON cost the API process, without an engine: a scripted runtime answers.

    python tests/bench/http_layer.py

Prints CPU time per streamed token at 8 streams, the latency of a request beside 200 idle
connections and 64 streams, and the time of GET /api/tags with 500 models.
"""

from __future__ import annotations

import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

STREAMS, TOKENS = 8, 3000
IDLE, CONCURRENT = 200, 64
MODELS = 500
HELLO = [{"role": "user", "content": "Hi"}]
ROUTES: dict[str, dict[str, object]] = {
    "/api/chat": {"model": "tiny", "messages": HELLO},
    "/v1/chat/completions": {"model": "tiny", "messages": HELLO, "stream": True},
    "/v1/messages": {"model": "tiny", "messages": HELLO, "stream": True, "max_tokens": 9999},
}


def main() -> None:
    from support.gguf import tiny_llama
    from support.http import running
    from support.scripted import ScriptedRuntime, words

    from pannier.api.app import create_app
    from pannier.api.service import Service
    from pannier.pkgmgr.modelfile.build import create
    from pannier.pkgmgr.modelfile.syntax import parse
    from pannier.pkgmgr.reference import Reference
    from pannier.pkgmgr.settings import Settings
    from pannier.pkgmgr.store.store import Store

    with tempfile.TemporaryDirectory() as home:
        store = Store.open(Path(home))
        path = tiny_llama(Path(home) / "tiny.gguf")

        def add(name: str, text: str) -> None:
            own = parse(f"FROM {path}\nSYSTEM {text}\n")
            create(store, own, Reference.parse(name), base_dir=Path(home))

        add("tiny", "I carry.")
        runtime = ScriptedRuntime(words(*(f"token{n} " for n in range(TOKENS))))
        service = Service(store, Settings.load({"PANNIER_HOME": home}), runtime)
        with running(create_app(service)) as server:
            for route, body in ROUTES.items():
                print(f"{route}: {cpu_per_token(server.netloc, route, body):.3f} ms CPU per token")
            alone = latency(server.netloc)
            held = [http.client.HTTPConnection(server.netloc) for _ in range(IDLE)]
            for connection in held:
                connection.request("GET", "/", headers={"Host": "localhost"})
                connection.getresponse().read()
            print(
                f"request: {alone:.2f} ms alone, {latency(server.netloc):.2f} ms beside {IDLE} idle"
            )
            gate = threading.Event()
            runtime.steps = [*words("a")[:1], gate, *words("b")]
            clients = [stream(server.netloc) for _ in range(CONCURRENT)]
            print(f"request: {latency(server.netloc):.2f} ms beside {CONCURRENT} streams")
            gate.set()
            for client in [*clients, *held]:
                client.close()
            for number in range(MODELS):
                add(f"tiny{number}", f"I am number {number}.")
            first = once(lambda: get(server.netloc, "/api/tags"))
            usual = timed(lambda: get(server.netloc, "/api/tags"))
            changed = []
            for number in range(10):
                add(f"new{number}", f"I am new, number {number}.")
                changed.append(once(lambda: get(server.netloc, "/api/tags")))
            service.library.warm()
            print(
                f"/api/tags with {MODELS} models: {usual:.1f} ms, "
                f"{statistics.median(changed):.1f} ms after a change, {first:.0f} ms at first"
            )
        again = Service(Store.open(Path(home)), service.settings, runtime)
        with running(create_app(again)) as server:
            first = once(lambda: get(server.netloc, "/api/tags"))
            print(f"/api/tags with {MODELS} models after a restart, at first: {first:.1f} ms")


def cpu_per_token(netloc: str, route: str, body: dict[str, object]) -> float:
    """Milliseconds of this process for each token, at `STREAMS` streams read by another process."""
    reader = [sys.executable, __file__, "--read", netloc, route, json.dumps(body)]
    subprocess.run(reader, check=True)
    began = time.process_time()
    subprocess.run(reader, check=True)
    return (time.process_time() - began) * 1000 / (STREAMS * TOKENS)


def read(netloc: str, route: str, body: str) -> None:
    """Read `STREAMS` answers at once, to the end."""

    def one() -> None:
        connection = http.client.HTTPConnection(netloc)
        connection.request("POST", route, body, {"Host": "localhost"})
        answer = connection.getresponse()
        assert answer.status == 200
        while answer.read1(65536):
            pass
        connection.close()

    threads = [threading.Thread(target=one) for _ in range(STREAMS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def stream(netloc: str) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection(netloc)
    connection.request("POST", "/api/chat", json.dumps(ROUTES["/api/chat"]), {"Host": "localhost"})
    connection.getresponse().readline()
    return connection


def get(netloc: str, path: str) -> bytes:
    connection = http.client.HTTPConnection(netloc)
    connection.request("GET", path, headers={"Host": "localhost"})
    data = connection.getresponse().read()
    connection.close()
    return data


def latency(netloc: str) -> float:
    return timed(lambda: get(netloc, "/api/version"))


def timed(action: Callable[[], object]) -> float:
    """Median milliseconds."""
    return statistics.median(once(action) for _ in range(50))


def once(action: Callable[[], object]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    if sys.argv[1:2] == ["--read"]:
        read(*sys.argv[2:5])
    else:
        main()
