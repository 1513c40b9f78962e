"""How fast a model is on this machine, measured through a runner as requests would use it."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pannier.pkgmgr.gguf import Header

from .interface import ModelSource
from .kernels import cpu_features, kernel_advice
from .machine import Machine
from .request import GenerationRequest, LoadOptions, ModelInfo, SamplingParams, Segment, Usage
from .residents import read_headers
from .supervised import SupervisedStream
from .supervisor import Supervisor

COUNTS = (1, 2, 4, 8)
PROMPT_WORDS, ANSWER_TOKENS, SHARED_WORDS = 256, 48, 400
# Larger than any processor's caches.
_READ_BYTES = 512 << 20


@dataclass(frozen=True, slots=True)
class Measurement:
    """Rates in tokens per second, times in seconds, memory in bytes.

    Attributes:
        decode: streams at a time → tokens per second of all.
        prompt_computed: prompt tokens that the two first tokens took; `prompt_shared` they did not.
        bandwidth: bytes per second that this machine's memory gives to all cores together.
        bandwidth_share: of it, what the weights of one stream take: each token reads them once.
    """

    prefill: float
    decode: dict[int, float]
    first_cold_s: float
    first_shared_s: float
    prompt_computed: int
    prompt_shared: int
    memory: int
    bandwidth: float
    bandwidth_share: float
    advice: str | None

    def record(self) -> dict[str, Any]:
        """What `--json` prints."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**values, "decode": {str(n): rate for n, rate in self.decode.items()}}


def measure(
    source: ModelSource, *, defaults: LoadOptions | None = None, machine: Machine | None = None
) -> Measurement:
    """Load a model in a process of its own and measure it; takes about a minute."""
    machine = machine or Machine()
    options = replace(defaults or LoadOptions(), num_ctx=2048, num_parallel=max(COUNTS))
    with Supervisor(machine=machine) as supervisor:
        model = supervisor.load(source, options=options)
        bench = _Bench(supervisor, source, model.info)
        bench.answer("warm up", 2)
        prefill = bench.prefill()
        decode = {count: bench.decode(count) for count in COUNTS}
        before = supervisor.loaded()[0].stats
        cold, shared = bench.first_tokens()
        after = supervisor.loaded()[0].stats
        memory = _resident_memory(model.pid)
    headers = read_headers(source)
    bandwidth = read_bandwidth(machine.cores)
    return Measurement(
        prefill,
        decode,
        cold,
        shared,
        after.prompt_tokens_computed - before.prompt_tokens_computed,
        after.prompt_tokens_shared - before.prompt_tokens_shared,
        memory,
        bandwidth,
        bytes_per_token(headers) * decode[1] / bandwidth,
        kernel_advice(headers[0].quantization, cpu_features()),
    )


class _Bench:
    def __init__(self, supervisor: Supervisor, source: ModelSource, info: ModelInfo) -> None:
        self._supervisor = supervisor
        self._source = source
        self._count = 0
        ends = supervisor.tokenize(source, info.eos_token, special=True)
        # An answer must not end by itself, nor by 30 equal tokens: streams would be fewer then.
        bias = {token: -1000.0 for token in ends[:1]}
        self._sampling = SamplingParams(temperature=1.0, seed=1, top_k=40, logit_bias=bias)

    def answer(self, prompt: str, tokens: int) -> SupervisedStream:
        """The stream of an answer of so many tokens."""
        prompt_of = (Segment(prompt),)
        request = GenerationRequest(prompt_of, sampling=self._sampling, max_tokens=tokens)
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


def bytes_per_token(headers: Sequence[Header]) -> int:
    """Weights that one token reads: all, but of a mixture of experts only those that it uses."""
    name = headers[0].architecture
    experts = headers[0].number(f"{name}.expert_count", 0)
    used = headers[0].number(f"{name}.expert_used_count", 0)
    total = 0
    for tensor in (tensor for header in headers for tensor in header.tensors):
        is_expert = experts and "_exps." in tensor.name
        total += tensor.size * used // experts if is_expert else tensor.size
    # Of a table that no token's logits come from, a token reads one row.
    names = {tensor.name for header in headers for tensor in header.tensors}
    if "output.weight" in names:
        table = (t.size for h in headers for t in h.tensors if t.name == "token_embd.weight")
        total -= sum(table)
    return total


def read_bandwidth(threads: int, *, size: int = _READ_BYTES, rounds: int = 3) -> float:
    """Bytes per second that so many threads read together from a block of memory."""
    memchr = ctypes.CDLL(None).memchr
    memchr.restype = ctypes.c_void_p
    memchr.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    # Written once, so that every page is there; zero pages would all be the same one.
    block = bytearray(b"\x01") * size
    start, part = ctypes.addressof(ctypes.c_char.from_buffer(block)), size // threads

    def read(number: int) -> None:
        # Looks for what is not there, and so at all of it; the lock is not held meanwhile.
        memchr(start + number * part, 0, part)

    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(rounds):
            began = time.perf_counter()
            list(pool.map(read, range(threads)))
            best = max(best, threads * part / (time.perf_counter() - began))
    return best
