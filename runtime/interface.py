"""The face of the runtime: what the API server and `pannier run` see of it, and nothing more.

`pannier.runtime.supervisor.Supervisor` implements `Runtime`. All methods may be called from any
thread. One-request-at-a-time engines and continuous batching stand behind the same face.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.modelspec import ModelFiles

from .request import Delta, GenerationRequest, LoadOptions, ModelInfo
from .stats import EngineStats

# `keep_alive_s` values: None leaves the default, FOREVER never unloads, 0 unloads at once.
FOREVER = float("inf")


def never() -> bool:
    """A caller that cannot go away."""
    return False


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model that can be loaded.

    Attributes:
        digest: of the manifest; two sources of the same digest share one runner.
        name: what messages and `ps` call it.
    """

    digest: Digest
    name: str
    files: ModelFiles


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory, as `ps` shows it.

    Attributes:
        expires_at: seconds since the epoch, None for never.
        busy: requests running or waiting.
        load_ns: what this load cost; 0 where the model was in memory already.
        stats: of its engine, a tenth of a second old at most.
        advice: what would make it faster on this machine, None where nothing would.
    """

    source: ModelSource
    info: ModelInfo
    expires_at: float | None
    busy: int
    load_ns: int
    pid: int
    stats: EngineStats = field(default_factory=EngineStats)
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who waits for vectors or scores.

    Attributes:
        client: whose request it is; texts of different clients get equal shares.
        priority: lower goes first.
        gone: whether nobody waits any more; then no further batch is computed.
    """

    client: str = ""
    priority: int = 0
    gone: Callable[[], bool] = never


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One row per text: a vector of length 1, or a single score of relevance.

    Attributes:
        tokens: of all texts, after truncation; `truncated` are those that went.
        model: what answered; its `load_ns` is what this request waited for loading.
    """

    rows: list[list[float]]
    tokens: int
    model: LoadedModel
    truncated: int = 0


class GenerationStream(Protocol):
    """One running request. Owned by one thread; `cancel` may be called from any."""

    @property
    def model(self) -> LoadedModel:
        """The model that answers; its `load_ns` is what this request waited for loading."""

    def poll(self, timeout_s: float) -> Delta | None:
        """The next delta, or None where none came within `timeout_s` seconds.

        After a delta with `finish` there are no more, and further calls raise StopIteration.

        Raises:
            EngineError: where the request failed; the stream is over then.
        """

    def __iter__(self) -> Iterator[Delta]:
        """All deltas to the end; raises as `poll` does."""

    def cancel(self) -> None:
        """End the request; it is freed within one engine step. Idempotent."""


class Runtime(Protocol):
    """Loads models on demand, answers requests, unloads what is idle."""

    @property
    def defaults(self) -> LoadOptions:
        """How a model is loaded where neither a request nor the model says."""

    def load(
        self,
        source: ModelSource,
        *,
        options: LoadOptions | None = None,
        keep_alive_s: float | None = None,
    ) -> LoadedModel:
        """Have a model in memory; returns when it is.

        Raises:
            LoadError: where it cannot be loaded.
        """

    def generate(
        self,
        source: ModelSource,
        request: GenerationRequest,
        *,
        options: LoadOptions | None = None,
        keep_alive_s: float | None = None,
    ) -> GenerationStream:
        """Load where needed and start a request; returns when it is accepted.

        Raises:
            LoadError, ContextOverflow, QueueFull: the request has not started.
        """

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
        """A vector for each text, all in as few decode calls as they fit.

        Raises:
            ContextOverflow: a text is too long, and may not lose its end.
            EngineError: it was cancelled.
            UnsupportedRequest: the model ranks texts and does not embed them.
        """

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
        """How relevant each text is to a query: one score per row, higher is better.

        Raises:
            UnsupportedRequest: the model has no head for it.
        """

    def tokenize(self, source: ModelSource, text: str, *, special: bool = False) -> list[int]:
        """Token ids of a text; loads the model where needed."""

    def detokenize(self, source: ModelSource, tokens: list[int]) -> str:
        """Text of token ids; loads the model where needed."""

    def image_tokens(self, source: ModelSource, sizes: Sequence[tuple[int, int]]) -> list[int]:
        """How many tokens images take in a prompt; loads the model where needed.

        Args:
            source: the model.
            sizes: width and height of each, in pixels.

        Raises:
            UnsupportedRequest: the model does not look at images.
        """

    def loaded(self) -> tuple[LoadedModel, ...]:
        """The models in memory, longest remaining first."""

    def unload(self, digest: Digest) -> bool:
        """Let a model go when its running requests are done; False where it was not loaded."""

    def close(self) -> None:
        """End all runners; running requests get an error. Idempotent."""
