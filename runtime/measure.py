"""How fast a model is on this machine, measured through a runner as requests would use it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .interface import ModelSource
from .request import GenerationRequest, LoadOptions, SamplingParams, Segment, Usage
from .residents import kernel_advice, read_headers
from .supervised import SupervisedStream
from .supervisor import Supervisor

COUNTS = (1, 2, 4, 8)
PROMPT_WORDS, ANSWER_TOKENS, SHARED_WORDS = 256, 48, 400
_COPY_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Measurement:
    """Rates in tokens per second, times in seconds, memory in bytes.

    Attributes:
        decode: streams at a time → tokens per second of all.
        bandwidth: bytes per second that this machine's memory gives to one reader.
        bandwidth_share: of it, what one stream's weights take.
    """

    prefill: float
    decode: dict[int, float]
    first_cold_s: float
    first_shared_s: float
    memory: int
    bandwidth: float
    bandwidth_share: float
    advice: str | None

    def record(self) -> dict[str, Any]:
        """What `--json` prints."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**values, "decode": {str(n): rate for n, rate in self.decode.items()}}


def measure(source: ModelSource) -> Measurement:
    """Load a model in a process of its own and measure it; takes about a minute."""
    with Supervisor() as supervisor:
        model = supervisor.load(source, options=LoadOptions(num_ctx=2048, num_parallel=8))
        bench = _Bench(supervisor, source)
        bench.answer("warm up", 2)
        prefill = bench.prefill()
        decode = {count: bench.decode(count) for count in COUNTS}
        cold, shared = bench.first_tokens()
        memory = _resident_memory(model.pid)
    weights = sum(path.stat().st_size for path in source.files.weights)
    bandwidth = _bandwidth()
    return Measurement(
        prefill,
        decode,
        cold,
        shared,
        memory,
        bandwidth,
        weights * decode[1] / bandwidth,
        kernel_advice(read_headers(source)[0]),
    )


class _Bench:
    def __init__(self, supervisor: Supervisor, source: ModelSource) -> None:
        self._supervisor = supervisor
        self._source = source
        self._count = 0

    def answer(self, prompt: str, tokens: int) -> SupervisedStream:
        """The stream of an answer of so many tokens."""
        # An answer must not end by itself: 30 equal tokens or an end token would.
        sampling = SamplingParams(temperature=1.0, seed=1, top_k=40)
        request = GenerationRequest((Segment(prompt),), sampling=sampling, max_tokens=tokens)
        return self._supervisor.generate(self._source, request)

    def fresh_text(self, words: int) -> str:
        """Text that has not been read before."""
        self._count += 1
        return " ".join(f"item {self._count * 7919 + word}" for word in range(words // 2))

    def prefill(self) -> float:
        """Prompt tokens per second of one prompt."""
        usage = _usage(self.answer(self.fresh_text(PROMPT_WORDS), 1))
        return float(usage.prompt_tokens - usage.cached_tokens) / (usage.prompt_ns / 1e9)

    def decode(self, count: int) -> float:
        """Answer tokens per second of so many streams, while all of them run."""
        streams = [self.answer(self.fresh_text(8), ANSWER_TOKENS) for _ in range(count)]
        usages = [_usage(stream) for stream in streams]
        return float(sum(usage.completion_tokens / (usage.decode_ns / 1e9) for usage in usages))

    def first_tokens(self) -> tuple[float, float]:
        """Seconds to the first token of a long new prompt, and of one with the same beginning."""
        text = self.fresh_text(SHARED_WORDS)
        times = []
        for end in (" One", " Two"):
            started = time.perf_counter()
            next(iter(stream := self.answer(text + end, 2)))
            times.append(time.perf_counter() - started)
            list(stream)
        return times[0], times[1]


def _usage(stream: SupervisedStream) -> Usage:
    usage = list(stream)[-1].usage
    assert usage is not None
    return usage


def _resident_memory(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def _bandwidth() -> float:
    """Bytes per second of copying a block larger than the caches: each byte is read and written."""
    block = bytearray(_COPY_BYTES)
    best = 0.0
    for _ in range(3):
        started = time.perf_counter()
        bytes(block)
        best = max(best, 2 * _COPY_BYTES / (time.perf_counter() - started))
    return best
