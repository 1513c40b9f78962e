"""Texts embedded in one request against one by one, over HTTP; and what the server takes.

    python tests/bench/embed.py [COUNT]

Both ways go to the same running server over one kept connection, in turn; short texts of SmolLM2,
Gemma 3 and a tiny encoder. One model is in memory at a time, since two would share the cores.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.serving import WORDS, free_port, wait_for
from support.models import gemma3, smollm2
from support.tinybert import tiny_bert

ROUNDS = 2


def texts(round_number: int, count: int) -> list[str]:
    """Short texts, other ones in each round."""
    return [
        " ".join(WORDS[(number * 5 + at * (round_number + 3)) % len(WORDS)] for at in range(3))
        + f" {round_number * count + number}"
        for number in range(count)
    ]


class Client:
    """One connection that stays open."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)

    def embed(self, model: str, given: str | list[str]) -> int:
        """Vectors in the answer."""
        body = json.dumps({"model": model, "input": given})
        self._connection.request("POST", "/api/embed", body, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        answer = json.loads(response.read())
        if response.status != 200:
            raise SystemExit(f"{model}: {answer}")
        return len(answer["embeddings"])


def memory_mb(pid: int) -> tuple[float, float]:
    """RSS and PSS of a process in MB (powers of 1000)."""
    values = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        values[name] = int(rest.split()[0]) * 1024 / 1e6
    return values["Rss"], values["Pss"]


def compare(client: Client, model: str, count: int) -> tuple[float, float]:
    """Texts per second in one request, and one by one: medians."""
    client.embed(model, "warm up")
    batched, single = [], []
    for number in range(ROUNDS):
        chosen = texts(number, count)
        started = time.perf_counter()
        assert client.embed(model, chosen) == count
        batched.append(count / (time.perf_counter() - started))
        started = time.perf_counter()
        assert sum(client.embed(model, text) for text in chosen) == count
        single.append(count / (time.perf_counter() - started))
    return statistics.median(batched), statistics.median(single)


@contextlib.contextmanager
def server(home: str, port: int) -> Iterator[int]:
    """Serve the models of a home; its process id."""
    environment = {**os.environ, "PANNIER_HOME": home, "PANNIER_HOST": f"127.0.0.1:{port}"}
    environment["PANNIER_MAX_LOADED_MODELS"] = "1"
    for name, weights in (
        ("smollm2", smollm2()),
        ("gemma3", gemma3()),
        ("tinybert", tiny_bert(Path(home) / "bert.gguf")),
    ):
        modelfile = Path(home) / f"Modelfile.{name}"
        modelfile.write_text(f"FROM {weights}\n")
        command = [sys.executable, "-m", "pannier.api.main", "create", name, "-f", str(modelfile)]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    command = [sys.executable, "-m", "pannier.api.main", "serve", "--quiet"]
    with subprocess.Popen(command, env=environment) as process:
        try:
            wait_for(port)
            yield process.pid
        finally:
            process.terminate()


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    port = free_port()
    with tempfile.TemporaryDirectory() as home, server(home, port) as pid:
        client = Client(port)
        print(f"{'model':10} {f'{count} at once':>14} {'one by one':>14} {'ratio':>6}   texts/s")
        for model in ("smollm2", "gemma3", "tinybert"):
            together, alone = compare(client, model, count)
            print(f"{model:10} {together:14.0f} {alone:14.0f} {together / alone:6.2f}")
        rss, pss = memory_mb(pid)
        print(f"server process: RSS {rss:.0f} MB, PSS {pss:.0f} MB")


if __name__ == "__main__":
    main()
