"""The runner's desk for embeddings: from messages to jobs, from vectors to messages.

`prepare` runs on the thread that reads messages, and tokenises; the rest on the engine's.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass

from . import frames
from .embedding import Embedder, fit, rank_tokens
from .embeddingqueue import EmbeddingJob
from .errors import ContextOverflow, EngineError, UnsupportedRequest
from .model import Model
from .refusals import encode_refusal

# Tokens beside streams while nobody knows how long they take.
_FIRST_TOKENS = 64
_WEIGHT = 0.3


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request as tokens, not yet held against the length of a batch."""

    key: int
    texts: list[list[int]]
    ranks: bool
    truncate: bool
    client: str
    priority: int


class EmbeddingDesk:
    """Makes its context when the first request comes."""

    def __init__(
        self,
        model: Model,
        *,
        context_length: int,
        threads: int,
        send: Callable[[frames.Message], None],
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._model = model
        self._context_length = context_length
        self._threads = threads
        self._send = send
        self._clock_ns = clock_ns
        self._token_ns = 0.0
        self._embedder: Embedder | None = None
        self._tokens: dict[int, tuple[int, int]] = {}

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be computed."""
        return self._embedder is None or not self._embedder.queue

    def use_threads(self, count: int) -> None:
        """Decode with so many threads from now on."""
        self._threads = count
        if self._embedder is not None:
            self._embedder.use_threads(count)

    def prepare(self, message: frames.Message) -> Prepared:
        """A message as tokens."""
        model = self._model
        ranks = message["op"] == "rank"
        if ranks:
            texts = [rank_tokens(model, message["query"], text) for text in message["texts"]]
        else:
            texts = [model.tokenize(text, special=False, whole=True) for text in message["texts"]]
        return Prepared(
            message["key"],
            texts,
            ranks,
            message["truncate"],
            message["client"],
            message["priority"],
        )

    def add(self, prepared: Prepared) -> None:
        """Queue a request, or refuse it."""
        try:
            embedder = self._get_embedder()
        except EngineError as error:
            self._fail(prepared.key, error.message)
            return
        if prepared.ranks is not embedder.is_ranker:
            what = "rank texts" if prepared.ranks else "embed texts"
            self._refuse(prepared.key, UnsupportedRequest(f"this model does not {what}"))
            return
        limit = embedder.max_tokens
        longest = max(map(len, prepared.texts), default=0)
        if longest > limit and not prepared.truncate:
            self._refuse(prepared.key, ContextOverflow(longest, limit))
            return
        ends = self._model.end_tokens | {self._model.eos}
        texts = [fit(text, limit, end_tokens=ends) for text in prepared.texts]
        job = EmbeddingJob(
            prepared.key,
            [text or [max(0, self._model.bos)] for text in texts],
            client=prepared.client,
            priority=prepared.priority,
        )
        kept = sum(map(len, texts))
        self._tokens[job.key] = kept, sum(map(len, prepared.texts)) - kept
        if job.texts:
            embedder.queue.add(job)
        else:
            self._finish(job, embedder.width)

    def cancel(self, key: int) -> bool:
        """Give a request up; False where it is none of these."""
        if self._embedder is None or not self._embedder.queue.cancel(key):
            return False
        self._fail(key, "cancelled")
        return True

    def step(self, spare_ns: float | None) -> None:
        """Compute one batch and send what is done.

        It takes `spare_ns`, or as long as one text takes; None is any time.
        """
        embedder = self._embedder
        assert embedder is not None
        most = embedder.max_tokens
        if spare_ns is not None:
            most = int(spare_ns / self._token_ns) if self._token_ns else _FIRST_TOKENS
        texts = embedder.take(most)
        started = self._clock_ns()
        try:
            done = embedder.compute(texts)
        except EngineError as error:
            for key in {job.key for job, _ in texts}:
                embedder.queue.cancel(key)
                self._fail(key, error.message)
            return
        self._note(self._clock_ns() - started, sum(len(job.texts[at]) for job, at in texts))
        for job in done:
            self._finish(job, embedder.width)

    def _note(self, took_ns: int, tokens: int) -> None:
        """So many tokens took so long."""
        old, new = self._token_ns, took_ns / tokens
        self._token_ns = (1 - _WEIGHT) * old + _WEIGHT * new if old else new

    def _finish(self, job: EmbeddingJob, width: int) -> None:
        vectors = base64.b64encode(b"".join(job.vectors)).decode()
        kept, truncated = self._tokens.pop(job.key)
        value = {"vectors": vectors, "width": width, "tokens": kept, "truncated": truncated}
        self._send({"op": "result", "key": job.key, "value": value})

    def _fail(self, key: int, error: str) -> None:
        self._tokens.pop(key, None)
        self._send({"op": "step", "pieces": [[key, "", 0, None, None, None, [], error, []]]})

    def _refuse(self, key: int, error: EngineError) -> None:
        self._send(encode_refusal(key, error))

    def _get_embedder(self) -> Embedder:
        if self._embedder is None:
            self._embedder = Embedder(
                self._model, context_length=self._context_length, threads=self._threads
            )
        return self._embedder
