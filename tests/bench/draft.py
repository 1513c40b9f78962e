"""What a draft model gains one stream: SmolLM2 in F32 with a Q4_0 copy of itself, and alone.

python tests/bench/draft.py [TYPE [THREADS]]     # TYPE of the large one; about two minutes

The copy has a sixth of the bytes and guesses nearly always right. With a TYPE such as q8_0 the two
cost much the same, and what shows is that drafts stop where they do not pay.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pannier.runtime.interface import ModelSource
    from pannier.runtime.supervisor import Supervisor

sys.path.insert(0, str(Path(__file__).parents[1]))

PROMPTS = (
    "1, 2, 3, 4, 5, 6, 7, 8,",
    "Once upon a time there was a miller who",
    "def fibonacci(n):\n    ",
    "The capital of France is Paris. The capital of Germany is",
)
TOKENS, ROUNDS = 96, 3


def main(arguments: list[str]) -> None:
    from support.models import smollm2, source_of

    from pannier.runtime.quantize import quantize
    from pannier.runtime.request import LoadOptions
    from pannier.runtime.supervisor import Supervisor

    threads = int(arguments[1]) if len(arguments) > 1 else 0
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "draft.gguf", Path(folder) / "large.gguf"
        quantize(smollm2(), small, "q4_0", again=True)
        quantize(smollm2(), large, arguments[0] if arguments else "f32", again=True)
        plain = source_of(large, "plain")
        drafted = replace(
            source_of(smollm2(), "drafted"),
            digest=source_of(small, "").digest,
            files=replace(plain.files, draft=(small,)),
        )
        with Supervisor(defaults=LoadOptions(num_ctx=1024, num_thread=threads)) as supervisor:
            for prompt in PROMPTS:
                rates: dict[ModelSource, list[float]] = {plain: [], drafted: []}
                for _ in range(ROUNDS):
                    for source, found in rates.items():
                        found.append(_rate(supervisor, source, prompt))
                alone, helped = (statistics.median(found) for found in rates.values())
                ratio = f"{alone:6.1f} → {helped:6.1f} tokens/s, ratio {helped / alone:.2f}"
                print(f"{prompt[:24]!r:28} {ratio}", flush=True)
            stats = next(m.stats for m in supervisor.loaded() if m.source == drafted)
            share = stats.tokens_accepted / max(1, stats.tokens_drafted)
            print(f"guessed {stats.tokens_drafted}, {share:.0%} of them right")


def _rate(supervisor: Supervisor, source: ModelSource, prompt: str) -> float:
    from pannier.runtime.request import GenerationRequest, SamplingParams, Segment

    request = GenerationRequest(
        (Segment(prompt),), sampling=SamplingParams(temperature=0), max_tokens=TOKENS
    )
    times = [(time.perf_counter(), delta.tokens) for delta in supervisor.generate(source, request)]
    return sum(tokens for _, tokens in times[1:]) / (times[-1][0] - times[0][0])


if __name__ == "__main__":
    main(sys.argv[1:])
