"""A Runtime whose answers are scripted: what it is asked is recorded, what it says is given."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from pannier.pkgmgr.digest import Digest
from pannier.runtime.errors import ContextOverflow
from pannier.runtime.interface import FOREVER, Caller, Embeddings, LoadedModel, ModelSource
from pannier.runtime.request import (
    Delta,
    FinishReason,
    GenerationRequest,
    LoadOptions,
    ModelInfo,
    Usage,
)

USAGE = Usage(prompt_tokens=7, completion_tokens=3, prompt_ns=5_000_000, decode_ns=9_000_000)
INFO = ModelInfo(
    architecture="llama",
    context_length=4096,
    train_context_length=4096,
    embedding_length=32,
    vocabulary_size=300,
    parameter_count=1000,
    size=123456,
    size_vram=0,
    chat_template=None,
    bos_token="<s>",
    eos_token="</s>",
)

# A step is a delta to give, an error to raise, or an event to wait for.
Step = Delta | Exception | threading.Event


def words(*texts: str, finish: FinishReason = FinishReason.STOP) -> list[Step]:
    """Deltas of one text each, and a proper end."""
    return [*(Delta(text, 1) for text in texts), Delta(finish=finish, usage=USAGE)]


class ScriptedStream:
    """One scripted answer."""

    def __init__(self, model: LoadedModel, steps: Sequence[Step]) -> None:
        self.model = model
        self.cancelled = threading.Event()
        self._steps = list(steps)

    def poll(self, timeout_s: float) -> Delta | None:
        if self.cancelled.is_set():
            return Delta(finish=FinishReason.CANCELLED, usage=USAGE)
        if not self._steps:
            raise StopIteration
        step = self._steps[0]
        if isinstance(step, threading.Event):
            if not step.wait(timeout_s):
                return None
            self._steps.pop(0)
            return self.poll(timeout_s)
        self._steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    def __iter__(self) -> Iterator[Delta]:
        while True:
            try:
                delta = self.poll(FOREVER)
            except StopIteration:
                return
            if delta is not None:
                yield delta

    def cancel(self) -> None:
        self.cancelled.set()


@dataclass
class ScriptedRuntime:
    """Answers every request with `steps`; `on_load` runs where a model would be loaded.

    `on_vectors` runs where texts would be embedded or ranked; it gets what tells that nobody waits.
    """

    steps: Sequence[Step] = field(default_factory=lambda: words("Hello", " there", "!"))
    on_load: Callable[[], None] = lambda: None
    on_vectors: Callable[[Callable[[], bool]], object] = lambda gone: None
    defaults: LoadOptions = field(default_factory=LoadOptions)
    requests: list[GenerationRequest] = field(default_factory=list)
    options: list[LoadOptions | None] = field(default_factory=list)
    keep_alives: list[float | None] = field(default_factory=list)
    streams: list[ScriptedStream] = field(default_factory=list)
    models: dict[Digest, LoadedModel] = field(default_factory=dict)

    def load(
        self,
        source: ModelSource,
        *,
        options: LoadOptions | None = None,
        keep_alive_s: float | None = None,
    ) -> LoadedModel:
        self.on_load()
        self.options.append(options)
        self.keep_alives.append(keep_alive_s)
        until = None if keep_alive_s == FOREVER else time.time() + (keep_alive_s or 300)
        model = LoadedModel(source, INFO, until, 0, 1_000_000, 4242)
        self.models[source.digest] = replace(model, load_ns=0)
        return model

    def generate(
        self,
        source: ModelSource,
        request: GenerationRequest,
        *,
        options: LoadOptions | None = None,
        keep_alive_s: float | None = None,
    ) -> ScriptedStream:
        model = self.load(source, options=options, keep_alive_s=keep_alive_s)
        self.requests.append(request)
        self.streams.append(ScriptedStream(model, self.steps))
        return self.streams[-1]

    def embed(
        self,
        source: ModelSource,
        texts: Sequence[str],
        *,
        truncate: bool = True,
        options: LoadOptions | None = None,
        keep_alive_s: float | None = None,
        caller: Caller | None = None,
    ) -> Embeddings:
        model = self.load(source, options=options, keep_alive_s=keep_alive_s)
        self.on_vectors((caller or Caller()).gone)
        if any(len(text) > 1000 for text in texts) and not truncate:
            raise ContextOverflow(5000, 1000)
        lost = sum(max(0, len(text) - 1000) for text in texts)
        tokens = sum(map(len, texts)) - lost
        return Embeddings([[0.6, 0.0, 0.8] for _ in texts], tokens, model, lost)

    def rank(
        self,
        source: ModelSource,
        query: str,
        texts: Sequence[str],
        *,
        options: LoadOptions | None = None,
        keep_alive_s: float | None = None,
        caller: Caller | None = None,
    ) -> Embeddings:
        model = self.load(source, options=options, keep_alive_s=keep_alive_s)
        self.on_vectors((caller or Caller()).gone)
        rows = [[float(query in text)] for text in texts]
        return Embeddings(rows, sum(map(len, texts)), model)

    def tokenize(self, source: ModelSource, text: str, *, special: bool = False) -> list[int]:
        return list(text.encode())

    def detokenize(self, source: ModelSource, tokens: list[int]) -> str:
        return bytes(tokens).decode()

    def image_tokens(self, source: ModelSource, sizes: Sequence[tuple[int, int]]) -> list[int]:
        return [width * height // 64 for width, height in sizes]

    def loaded(self) -> tuple[LoadedModel, ...]:
        return tuple(self.models.values())

    def unload(self, digest: Digest) -> bool:
        return self.models.pop(digest, None) is not None

    def close(self) -> None:
        self.models.clear()
