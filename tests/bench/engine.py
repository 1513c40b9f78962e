"""The engine's loop without HTTP against llama-batched-bench; prints ratios.

    python tests/bench/engine.py [MODEL.gguf]     # about 3 minutes

Same file, threads, prompt and answer lengths; runs alternate, medians of three count.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.peer import tools
from support.models import smollm2

from pannier.runtime.answer import Vocabulary
from pannier.runtime.context import ContextParams, LlamaBackend
from pannier.runtime.cores import usable_cores
from pannier.runtime.engine import Engine
from pannier.runtime.isolation import scrubbed_environment
from pannier.runtime.model import Model
from pannier.runtime.native import native
from pannier.runtime.request import GenerationRequest, LoadOptions, SamplingParams

PROMPT, ANSWER, ROUNDS = 64, 96, 3
COUNTS = (1, 2, 4, 8)
# What a runner's environment has beside the usual; the peer goes without.
RUNNERS = {name: value for name, value in scrubbed_environment({}).items() if name != "PATH"}


def ours(model: Model, count: int) -> float:
    """Tokens per second of `count` streams, from when all of them answer to the end."""
    threads = usable_cores()
    params = ContextParams(4096, 16, 512, 16, threads, threads)
    backend = LlamaBackend(model, params)
    vocabulary = Vocabulary(model.pieces, frozenset(), model.control_tokens)
    engine = Engine(backend, vocabulary, context_length=2048, max_running=count)
    request = GenerationRequest(
        (), sampling=SamplingParams(temperature=0.8, seed=1), max_tokens=ANSWER
    )
    for key in range(count):
        engine.add(key, request, [1000 + 37 * key + at for at in range(PROMPT)])
    while any(sequence.is_prefilling for sequence in engine.scheduler.running) or (
        len(engine.scheduler.running) < count
    ):
        engine.step()
    started, tokens = time.perf_counter(), 0
    while len(engine.scheduler.running) == count:
        tokens += sum(piece.tokens for piece in engine.step())
    rate = tokens / (time.perf_counter() - started)
    backend.close()
    return rate


def theirs(path: Path, count: int) -> float:
    """Tokens per second of llama-batched-bench, which draws no tokens."""
    threads = str(usable_cores())
    command = [str(tools() / "llama-batched-bench"), "-m", str(path), "-c", "4096", "-b", "512"]
    command += ["-ub", "512", "-npp", str(PROMPT), "-ntg", str(ANSWER), "-npl", str(count)]
    command += ["-t", threads, "-tb", threads, "--kv-unified", "--output-format", "jsonl"]
    plain = {name: value for name, value in os.environ.items() if name not in RUNNERS}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=plain)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return float(lines[-1]["speed_tg"])


def main() -> None:
    if any(name not in os.environ for name in RUNNERS):
        # The library reads some of it when a process begins.
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **RUNNERS})
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else smollm2()
    native().start()
    model = Model.load([path], LoadOptions())
    ours(model, 1)
    print(f"{'streams':>7} {'pannier t/s':>12} {'batched-bench t/s':>18} {'ratio':>6}")
    for count in COUNTS:
        pairs = [(ours(model, count), theirs(path, count)) for _ in range(ROUNDS)]
        mine, other = (statistics.median(values) for values in zip(*pairs, strict=True))
        print(f"{count:>7} {mine:>12.1f} {other:>18.1f} {mine / other:>6.2f}", flush=True)
    model.close()


if __name__ == "__main__":
    main()
