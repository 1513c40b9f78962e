"""An engine over a real backend, and bare decoding of one sequence to hold it against."""

from __future__ import annotations

from collections.abc import Sequence

from pannier.runtime.answer import Piece, Vocabulary
from pannier.runtime.backend import DecodeStatus, Row
from pannier.runtime.checkpoints import Checkpoints
from pannier.runtime.context import ContextParams, LlamaBackend
from pannier.runtime.engine import Engine
from pannier.runtime.guesses import Drafter
from pannier.runtime.hoststates import HostStates
from pannier.runtime.model import Model
from pannier.runtime.request import GenerationRequest, SamplingParams

GREEDY = SamplingParams(temperature=0)


class CountedBackend(LlamaBackend):
    """Counts its steps."""

    steps = 0

    def decode(self, rows: Sequence[Row]) -> DecodeStatus:
        self.steps += 1
        return super().decode(rows)


class Bench:
    """An engine over a real model."""

    def __init__(
        self,
        model: Model,
        *,
        cells: int = 4096,
        context: int = 2048,
        states: int = 0,
        checkpoints: int = 0,
        max_draft: int = 0,
        drafter: Drafter | None = None,
        samplers: int = 1,
    ) -> None:
        params = ContextParams(cells, 16, 256, 16 + 2 * max_draft, 1, 1, sampling_threads=samplers)
        self.backend = CountedBackend(model, params)
        vocabulary = Vocabulary(model.pieces, model.end_tokens, model.control_tokens)
        self.engine = Engine(
            self.backend,
            vocabulary,
            context_length=context,
            max_running=8,
            max_draft=max_draft,
            drafter=drafter,
            # A clock on which steps take a millisecond and nothing else takes any time.
            clock_ns=lambda: self.backend.steps * 1_000_000,
            states=HostStates(states),
            checkpoints=Checkpoints(checkpoints),
        )

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.backend.close()

    def add(
        self,
        key: int,
        prompt: list[int],
        *,
        max_tokens: int = 12,
        temperature: float = 0,
        never: int | None = None,
    ) -> None:
        bias = {} if never is None else {never: -1000.0}
        sampling = SamplingParams(temperature=temperature, seed=key, logit_bias=bias)
        request = GenerationRequest((), sampling=sampling, max_tokens=max_tokens, want_context=True)
        self.engine.add(key, request, prompt)

    def run(self) -> dict[int, Piece]:
        ends: dict[int, Piece] = {}
        while not self.engine.is_idle:
            ends |= {piece.key: piece for piece in self.engine.step() if piece.finish}
        return ends


def bare(model: Model, prompt: list[int], count: int) -> list[int]:
    """Prompt and greedy continuation, one sequence in a context of its own."""
    threads = 1
    backend = LlamaBackend(model, ContextParams(4096, 1, 256, 1, threads, threads))
    sampler = backend.sampler(GREEDY, prompt)
    tokens, computed = list(prompt), 0
    try:
        while len(tokens) < len(prompt) + count:
            part = tokens[computed : computed + 256]
            rows = [Row(token, computed + at, 0, False) for at, token in enumerate(part)]
            rows[-1] = rows[-1]._replace(output=True)
            assert backend.decode(rows) is DecodeStatus.DONE
            computed += len(part)
            if computed == len(tokens):
                (token,) = backend.sample([(sampler, len(rows) - 1)])
                if token in model.end_tokens:
                    break
                tokens.append(token)
    finally:
        sampler.close()
        backend.close()
    return tokens


def fill(backend: LlamaBackend, tokens: list[int], sequence: int) -> None:
    for start in range(0, len(tokens), 128):
        part = tokens[start : start + 128]
        rows = [Row(token, start + at, sequence, False) for at, token in enumerate(part)]
        assert backend.decode(rows) is DecodeStatus.DONE


def regret(model: Model, tokens: list[int], start: int) -> float:
    """How much less likely than the best a bare decoder finds the worst token from `start` on.

    Near-ties fall differently in other batch shapes, so that equal tokens cannot be asked for.
    """
    backend = LlamaBackend(model, ContextParams(2048, 1, 512, 512, 1, 1))
    worst = 0.0
    try:
        fill(backend, tokens[: start - 1], 0)
        rows = [Row(tokens[at], at, 0, True) for at in range(start - 1, len(tokens) - 1)]
        assert backend.decode(rows) is DecodeStatus.DONE
        for row, token in enumerate(tokens[start:]):
            (_, chosen), ((_, best),) = backend.logprobs(row, token, 1)
            worst = max(worst, best - chosen)
    finally:
        backend.close()
    return worst
