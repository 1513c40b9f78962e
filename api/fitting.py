"""How much of a conversation fits a model: asks the runtime, which loads the model for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pannier.runtime.images import check_images
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
        self._images: dict[bytes, int] = {}
        self.load_ns = 0
        self.sure = num_ctx or LEAST_CONTEXT

    def limit(self) -> int:
        """The context, less one position for the answer to begin in."""
        loaded = self._load()
        self.load_ns = loaded.load_ns
        return loaded.info.context_length - 1

    def count(self, segments: Sequence[Segment]) -> int:
        """Tokens of all segments but images."""
        return sum(
            len(self._runtime.tokenize(self._source, segment.text, special=segment.special))
            for segment in segments
            if segment.image is None
        )

    def count_images(self, images: Sequence[bytes]) -> int:
        """Tokens of all images; each is asked for once.

        Raises:
            InvalidImage: one cannot be looked at.
        """
        new = [image for image in dict.fromkeys(images) if image not in self._images]
        if new:
            sizes = [(head.width, head.height) for head in check_images(new)]
            counts = self._runtime.image_tokens(self._source, sizes)
            self._images.update(zip(new, counts, strict=True))
        return sum(self._images[image] for image in images)
