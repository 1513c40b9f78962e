"""What a constraint costs: first token and tokens per second, against the same request without one.

    python tests/bench/constrain.py

SmolLM2 through the supervisor, one stream, alternating; medians and ratios. The grammar allows any
text of letters, so that both write about the same.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.models import smollm2, source_of

from pannier.runtime import constrain
from pannier.runtime.constraint import Constraint
from pannier.runtime.interface import ModelSource
from pannier.runtime.request import GenerationRequest, SamplingParams, Segment
from pannier.runtime.supervisor import Supervisor

RUNS = 7
TOKENS = 100
SCHEMA = {"type": "array", "items": {"type": "string"}, "minItems": 50}


def measure(
    supervisor: Supervisor, source: ModelSource, constraint: Constraint | None
) -> tuple[float, float]:
    """Seconds to the first token, and tokens per second after it."""
    request = GenerationRequest(
        (Segment("<|im_start|>user\nTell me a story.<|im_end|>\n<|im_start|>assistant\n"),),
        max_tokens=TOKENS,
        constraint=constraint,
        sampling=SamplingParams(seed=1),
    )
    began = time.monotonic()
    first, count = 0.0, 0
    for delta in supervisor.generate(source, request):
        first = first or time.monotonic() - began
        count += delta.tokens
    return first, (count - 1) / (time.monotonic() - began - first)


def main() -> None:
    """Print one line per constraint."""
    source = source_of(smollm2())
    constraints = {
        "regex": constrain.regex(r"(?s:.*)"),
        "json object": constrain.json_object(),
        "json schema": constrain.json_schema(SCHEMA),
    }
    with Supervisor() as supervisor:
        supervisor.load(source)
        for constraint in (None, *constraints.values()):
            measure(supervisor, source, constraint)
        for name, constraint in constraints.items():
            free, held = [], []
            for _ in range(RUNS):
                free.append(measure(supervisor, source, None))
                held.append(measure(supervisor, source, constraint))
            first = [statistics.median(run[0] for run in runs) for runs in (free, held)]
            speed = [statistics.median(run[1] for run in runs) for runs in (free, held)]
            print(
                f"{name:12} first token {first[0] * 1000:.1f} -> {first[1] * 1000:.1f} ms, "
                f"{speed[0]:.1f} -> {speed[1]:.1f} tokens/s: {speed[1] / speed[0]:.2f}x"
            )


if __name__ == "__main__":
    main()
