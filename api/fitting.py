"""How much of a conversation fits a model: asks the runtime, which loads the model for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pannier.runtime.interface import LoadedModel, ModelSource, Runtime
from pannier.runtime.request import Segment

# No model of today has a smaller context unless it is asked for.
LEAST_CONTEXT = 2048


class RuntimeFit:
    """Implements `pannier.runtime.trimming.Fit` for one model.

    Attributes:
        sure: tokens that fit without asking.
        load_ns: what loading the model cost, 0 where it was in memory already.
    """

    def __init__(
        self,
        runtime: Runtime,
        source: ModelSource,
        load: Callable[[], LoadedModel],
        *,
        num_ctx: int,
    ) -> None:
        """`num_ctx` is the context that the request asks for, 0 where it does not say."""
        self._runtime = runtime
        self._source = source
        self._load = load
        self.load_ns = 0
        self.sure = num_ctx or LEAST_CONTEXT

    def limit(self) -> int:
        """The context, less one position for the answer to begin in."""
        loaded = self._load()
        self.load_ns = loaded.load_ns
        return loaded.info.context_length - 1

    def count(self, segments: Sequence[Segment]) -> int:
        """Tokens of all segments."""
        return sum(
            len(self._runtime.tokenize(self._source, segment.text, special=segment.special))
            for segment in segments
        )
