"""HTTP serving against llama-server of the same revision; prints ratios.

    python tests/bench/serving.py [CASE ...]     # all, or of those in CASES

Both servers get the same file, threads, context and parallel sequences. Each round of a case runs
in fresh servers, ours and theirs in turn; medians count. All clients are sockets in this process.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.peer import tools
from support.models import smollm2

from pannier.runtime.cores import usable_cores

CONTEXT = 2048
CLIENTS = (1, 4, 8)
# SmolLM2's tokens that end an answer: none does, so that both servers compute as many.
ENDS = (0, 2, 4)
WORDS = (
    *("river", "stone", "cloud", "apple", "night", "copper"),
    *("window", "garden", "letter", "engine", "silver", "winter"),
)
STORY = "Chapter {}. The story of the {}.\n\nOnce upon a time, in a town by the sea, there lived"


@dataclass(frozen=True)
class Setup:
    """What a case needs of both servers: cells in contexts of `CONTEXT`, requests at a time.

    `slots` of 0 leaves it to pannier, which runs 16 over 4 contexts; llama-server gets the same.
    Without `host_cache` llama-server keeps no states in main memory, as before it had one.
    """

    slots: int = 8
    rounds: int = 3
    host_cache: bool = True

    @property
    def parallel(self) -> int:
        return self.slots or 16

    @property
    def cells(self) -> int:
        return CONTEXT * (self.slots or 4)


@dataclass
class Reply:
    """What one streamed request showed. Times are seconds since it `began`."""

    began: float = field(default_factory=time.perf_counter)
    times: list[float] = field(default_factory=list)
    text: str = ""
    failed: bool = False

    @property
    def gaps(self) -> list[float]:
        """Seconds between pieces."""
        return [b - a for a, b in zip(self.times, self.times[1:], strict=False)]


class Ask(Protocol):
    """A server under test."""

    def __call__(self, prompt: str, count: int) -> Reply:
        """Have a prompt continued by up to so many tokens."""

    def computed(self) -> int:
        """Prompt tokens that it has computed so far."""


def text_of(number: int, words: int) -> str:
    """Some text that no other number has."""
    return " ".join(WORDS[(number * 7 + at * (number + 3)) % len(WORDS)] for at in range(words))


def stream(port: int, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Objects of a streamed reply, NDJSON or SSE."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    with contextlib.closing(connection):
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise OSError(f"HTTP {response.status}: {response.read()[:200]!r}")
        for raw in response:
            line = raw.strip().removeprefix(b"data: ")
            if line.startswith(b"error:"):
                raise OSError(line[:200].decode("utf-8", "replace"))
            # Neither the end mark nor comments that keep a connection alive.
            if line.startswith(b"{"):
                yield json.loads(line)


class Pannier:
    def __init__(self, port: int) -> None:
        self._port = port

    def __call__(self, prompt: str, count: int) -> Reply:
        body = {"model": "bench", "prompt": prompt, "max_tokens": count, "stream": True}
        body |= {"temperature": 1.0, "seed": 1, "top_p": 1.0}
        body |= {"logit_bias": {str(token): -100 for token in ENDS}}
        reply = Reply()
        for piece in stream(self._port, "/v1/completions", body):
            reply.failed |= "error" in piece
            for choice in piece.get("choices", ()):
                if choice["text"]:
                    reply.times.append(time.perf_counter() - reply.began)
                    reply.text += choice["text"]
        return reply

    def computed(self) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/api/ps", timeout=10) as reply:
            (model,) = json.load(reply)["models"]
        return int(model["stats"]["prompt_tokens_computed"])


class LlamaServer:
    def __init__(self, port: int) -> None:
        self._port = port
        self._computed: list[int] = []

    def __call__(self, prompt: str, count: int) -> Reply:
        body = {"prompt": prompt, "n_predict": count, "temperature": 1.0, "seed": 1, "top_k": 40}
        body |= {"stream": True, "cache_prompt": True, "top_p": 1.0, "min_p": 0.0}
        body |= {"logit_bias": [[token, -100] for token in ENDS]}
        reply = Reply()
        for piece in stream(self._port, "/completion", body):
            reply.failed |= "error" in piece
            if piece.get("content"):
                reply.times.append(time.perf_counter() - reply.began)
                reply.text += piece["content"]
            if piece.get("stop"):
                self._computed.append(piece["timings"]["prompt_n"])
        return reply

    def computed(self) -> int:
        return sum(self._computed)


@contextlib.contextmanager
def running(command: list[str], port: int, environment: dict[str, str]) -> Iterator[None]:
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_for(port)
            yield
        finally:
            process.terminate()


def wait_for(port: int) -> None:
    for _ in range(600):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            # llama-server answers 503 while it loads.
            connection.request("GET", "/v1/models")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.1)
    raise SystemExit("a server does not start")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def pannier(home: str, setup: Setup) -> Iterator[Ask]:
    port = free_port()
    environment = {**os.environ, "PANNIER_HOME": home, "PANNIER_HOST": f"127.0.0.1:{port}"}
    environment["PANNIER_CONTEXT_LENGTH"] = str(CONTEXT)
    if setup.slots:
        environment["PANNIER_NUM_PARALLEL"] = str(setup.slots)
    with running([sys.executable, "-m", "pannier.api.main", "serve"], port, environment):
        ask = Pannier(port)
        ask("warm", 2)
        yield ask


@contextlib.contextmanager
def llama_server(setup: Setup) -> Iterator[Ask]:
    port, threads = free_port(), str(usable_cores())
    command = [str(tools() / "llama-server"), "-m", str(smollm2()), "--port", str(port)]
    command += ["-c", str(setup.cells), "-np", str(setup.parallel), "-t", threads, "-tb", threads]
    command += ["--kv-unified", "-b", "512", "-ub", "512"]
    command += [] if setup.host_cache else ["--cache-ram", "0"]
    with running(command, port, dict(os.environ)):
        ask = LlamaServer(port)
        ask("warm", 2)
        yield ask


def at_once(ask: Ask, prompts: list[str], count: int) -> tuple[list[Reply], float]:
    """Ask all at the same time; the replies and how long it took in all."""
    replies: dict[int, Reply] = {}

    def one(number: int) -> None:
        try:
            replies[number] = ask(prompts[number], count)
        except OSError:
            replies[number] = Reply(failed=True)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(len(prompts))]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [replies[number] for number in sorted(replies)], time.perf_counter() - started


def case_streams(ask: Ask) -> dict[str, float]:
    """Tokens per second and the p99 gap at 1, 4 and 8 clients."""
    result = {}
    for clients in CLIENTS:
        prompts = [text_of(10 * clients + number, 40) for number in range(clients)]
        replies, wall = at_once(ask, prompts, 64)
        gaps = sorted(gap for reply in replies for gap in reply.gaps)
        result[f"{clients} clients: tokens/s"] = sum(len(r.times) for r in replies) / wall
        result[f"{clients} clients: p99 gap, ms"] = 1e3 * gaps[int(len(gaps) * 0.99)]
    return result


def case_prefix(ask: Ask) -> dict[str, float]:
    """Eight clients share a cold system prompt of about 600 tokens."""
    stem = text_of(3, 480)
    prompts = [f"{stem}\nQuestion {number}: {text_of(number, 5)}?" for number in range(8)]
    replies, wall = at_once(ask, prompts, 32)
    first = statistics.median(reply.times[0] for reply in replies)
    return {"time to first token, s": first, "wall, s": wall}


def case_conversations(ask: Ask) -> dict[str, float]:
    """Eight conversations of six turns, in turn, with cells and slots for four."""
    started = time.perf_counter()
    texts = [text_of(number, 400) for number in range(8)]
    before = ask.computed()
    for turn in range(6):
        for number in range(8):
            reply = ask(texts[number], 24)
            texts[number] += reply.text + " " + text_of(50 * turn + number, 60)
    computed = ask.computed() - before
    return {"prompt tokens computed": computed, "wall, s": time.perf_counter() - started}


def case_chats(ask: Ask) -> dict[str, float]:
    """The same, of people who begin at once and share a system prompt of about 600 tokens."""
    stem, before = text_of(3, 480) + "\n", ask.computed()
    started = time.perf_counter()
    texts = [f"{stem}{number}: {text_of(number, 30)}" for number in range(8)]
    for turn in range(6):
        replies, _ = at_once(ask, texts, 24)
        for number, reply in enumerate(replies):
            texts[number] += reply.text + " " + text_of(50 * turn + number, 30)
    computed = ask.computed() - before
    return {"prompt tokens computed": computed, "wall, s": time.perf_counter() - started}


def case_overload(ask: Ask) -> dict[str, float]:
    """Sixteen requests at a time that want twice the cells there are."""
    prompts = [text_of(number + 1, 640) for number in range(16)]
    replies, wall = at_once(ask, prompts, 256)
    return {"failed": float(sum(reply.failed for reply in replies)), "wall, s": wall}


def case_latecomer(ask: Ask) -> dict[str, float]:
    """A prompt of about 2,000 tokens arrives among seven streams.

    Stories, since other answers have letters of several tokens, at which no text comes for a step.
    """
    box: list[Reply] = []
    prompts = [STORY.format(number + 1, WORDS[number]) for number in range(7)]
    late = threading.Timer(3.0, lambda: box.append(ask(text_of(99, 1600), 4)))
    late.start()
    replies, _ = at_once(ask, prompts, 400)
    late.join()
    arrival = box[0].began
    usual, beside = [], []
    for reply in replies:
        for begin, gap in zip(reply.times, reply.gaps, strict=False):
            since = reply.began + begin - arrival
            if -1.5 < since < -0.3:
                usual.append(gap)
            elif -0.3 < since < box[0].times[0]:
                beside.append(gap)
    ratio = max(beside) / statistics.median(usual)
    return {"largest gap ÷ usual gap": ratio, "its wait, s": box[0].times[0]}


CASES: dict[str, tuple[Callable[[Ask], dict[str, float]], Setup]] = {
    "streams": (case_streams, Setup(rounds=3)),
    "prefix": (case_prefix, Setup(rounds=1)),
    "conversations": (case_conversations, Setup(slots=4, rounds=1)),
    "uncached": (case_conversations, Setup(slots=4, rounds=1, host_cache=False)),
    "chats": (case_chats, Setup(slots=4, rounds=1)),
    "overload": (case_overload, Setup(slots=0, rounds=1)),
    "latecomer": (case_latecomer, Setup()),
}


def create_model(home: str) -> None:
    """Store the model under test as `bench`."""
    modelfile = Path(home) / "Modelfile"
    modelfile.write_text(f"FROM {smollm2()}\n")
    create = [sys.executable, "-m", "pannier.api.main", "create", "bench", "-f", str(modelfile)]
    environment = {**os.environ, "PANNIER_HOME": home}
    subprocess.run(create, env=environment, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    chosen = sys.argv[1:] or list(CASES)
    print(f"{'case':14} {'what':26} {'pannier':>9} {'llama-srv':>9} {'ratio':>6}")
    for name in chosen:
        case, setup = CASES[name]
        rounds = []
        for _ in range(setup.rounds):
            # A store of its own, so that no round finds states that another kept on disk.
            with tempfile.TemporaryDirectory() as home:
                create_model(home)
                with pannier(home, setup) as ask:
                    mine = case(ask)
            with llama_server(setup) as ask:
                rounds.append((mine, case(ask)))
        for what in rounds[0][0]:
            ours, theirs = (statistics.median(run[side][what] for run in rounds) for side in (0, 1))
            ratio = ours / theirs if theirs else float("nan")
            print(f"{name:14} {what:26} {ours:9.2f} {theirs:9.2f} {ratio:6.2f}", flush=True)


if __name__ == "__main__":
    main()
