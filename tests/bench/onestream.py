"""One stream through HTTP against the bare low-level loop on the same library; prints the ratio.

python tests/bench/onestream.py     # about a minute
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

BARE = """
import sys, time
from pathlib import Path
from pannier.runtime.backend import Row
from pannier.runtime.context import ContextParams, LlamaBackend
from pannier.runtime.cores import usable_cores
from pannier.runtime.model import Model
from pannier.runtime.native import native
from pannier.runtime.request import LoadOptions, SamplingParams
native().start()
model = Model.load([Path(sys.argv[1])], LoadOptions())
threads = usable_cores()
backend = LlamaBackend(model, ContextParams(2048, 1, 512, 1, threads, threads))
prompt = model.tokenize(sys.argv[2], special=False)
sampler = backend.sampler(SamplingParams(temperature=0.8, seed=1), prompt)
rows = [Row(token, at, 0, at == len(prompt) - 1) for at, token in enumerate(prompt)]
times = []
for position in range(len(prompt), len(prompt) + int(sys.argv[3])):
    backend.decode(rows)
    (token,) = backend.sample([(sampler, len(rows) - 1)])
    times.append(time.perf_counter())
    rows = [Row(token, position, 0, True)]
print((len(times) - 1) / (times[-1] - times[0]))
"""
TOKENS, ROUNDS = 128, 5


def main() -> None:
    from bench.serving import Setup, create_model, pannier, text_of
    from support.models import smollm2

    with tempfile.TemporaryDirectory() as home:
        create_model(home)
        pairs = []
        with pannier(home, Setup()) as ask:
            for number in range(ROUNDS):
                prompt = text_of(number, 40)
                command = [sys.executable, "-c", BARE, str(smollm2()), prompt, str(TOKENS)]
                bare = float(subprocess.run(command, capture_output=True, check=True).stdout)
                times = ask(prompt, TOKENS).times
                pairs.append(((len(times) - 1) / (times[-1] - times[0]), bare))
                time.sleep(0.2)
    mine, bare = (statistics.median(values) for values in zip(*pairs, strict=True))
    ratio = statistics.median(http / loop for http, loop in pairs)
    print(f"one stream: HTTP {mine:.1f} tokens/s, bare loop {bare:.1f} tokens/s, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
