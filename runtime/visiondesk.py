"""The runner's desk for requests with images: from encoded files to rows, beside the engine.

Two threads. One decodes images and says yes or no to a request, which takes milliseconds; the other
encodes what is not in the cache, which takes seconds, and then hands the request to the engine. So
that running streams go on meanwhile, and a request is refused before anybody waits for it. An
image is encoded slice by slice; what was cancelled ends with its slice.
"""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .backend import TokenGate
from .context import ContextParams
from .errors import ContextOverflow, EngineError, InvalidImage, UnsupportedRequest
from .images import ImageHead, check_images
from .model import Model
from .pictures import PICTURES_BUDGET, Picture, PictureCache, Slice, Span
from .prompttokens import prompt_pieces, with_pictures
from .request import GenerationRequest
from .vision import Bitmap, Projector

# Encoded files and decoded pixels of requests that wait for their turn.
MAX_WAITING_BYTES = 512 << 20

Check = Callable[[int], TokenGate | None]
Admit = Callable[[GenerationRequest, list[int], tuple[Span, ...], TokenGate | None], None]


@dataclass(slots=True)
class Visit:
    """One request on its way."""

    key: int
    request: GenerationRequest
    check: Check
    admit: Admit
    arrived_s: float
    gate: TokenGate | None = None
    heads: list[ImageHead] = field(default_factory=list)
    bitmaps: dict[str, Bitmap] = field(default_factory=dict)
    is_over: bool = False

    @property
    def size(self) -> int:
        """Bytes of its images."""
        return sum(map(len, self.request.images))


class VisionDesk:
    """Where requests with images wait. `add` and `cancel` may be called from any thread.

    Attributes:
        steps: goes up with each slice that was encoded: a sign of life.
    """

    def __init__(
        self,
        model: Model,
        projector: Projector,
        *,
        context_length: int,
        refuse: Callable[[int, EngineError], None],
        accept: Callable[[int], None],
        fail: Callable[[int, str], None],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing runs before `start`.

        Args:
            model: what the images are shown to.
            projector: turns them into rows; closed by the caller.
            context_length: of one sequence, in tokens.
            refuse: says no to a request that was not accepted.
            accept: says yes.
            fail: ends a request that was.
            clock_s: seconds that go on while time is not set back.
        """
        self._model = model
        self._projector = projector
        self._context_length = context_length
        self._refuse, self._accept, self._fail = refuse, accept, fail
        self._clock_s = clock_s
        self._cache = PictureCache(PICTURES_BUDGET)
        self._arrived: queue.SimpleQueue[Visit] = queue.SimpleQueue()
        self._accepted: queue.SimpleQueue[Visit] = queue.SimpleQueue()
        self._visits: dict[int, Visit] = {}
        self._lock = threading.Lock()
        self.steps = 0

    @property
    def waiting(self) -> int:
        """Requests that are not with the engine yet."""
        return len(self._visits)

    @property
    def is_full(self) -> bool:
        """Whether those that wait hold as much memory as they may."""
        with self._lock:
            return sum(visit.size for visit in self._visits.values()) > MAX_WAITING_BYTES

    def start(self) -> None:
        """Begin to work; the threads take the stack size that is set."""
        for target in (self._receive, self._encode):
            threading.Thread(target=target, name=target.__name__, daemon=True).start()

    def add(self, key: int, request: GenerationRequest, *, check: Check, admit: Admit) -> None:
        """Take a request.

        Args:
            key: the number by which it is known.
            request: with images.
            check: gets the number of its prompt's tokens, and gives what restricts the answer; may
                raise an EngineError to refuse it.
            admit: gets the request with what is left of its deadline, its tokens, where its images
                stand among them, and what `check` gave, when it is ready for the engine.
        """
        visit = Visit(key, request, check, admit, self._clock_s())
        with self._lock:
            self._visits[key] = visit
        self._arrived.put(visit)

    def cancel(self, key: int) -> bool:
        """Forget a request; False where the engine has it, or nobody."""
        with self._lock:
            visit = self._visits.pop(key, None)
        if visit is None:
            return False
        visit.is_over = True
        self._cache.wake()
        return True

    def count(self, sizes: Sequence[Sequence[int]]) -> list[int]:
        """Tokens that images of these widths and heights take in a prompt.

        Raises:
            EngineError: the model cannot look at one of them.
        """
        self._require_sight()
        return [self._projector.measure(ImageHead("", *size)).tokens for size in sizes]

    def _require_sight(self) -> None:
        if not self._projector.can_see:
            raise UnsupportedRequest("this model does not support images")

    def _receive(self) -> None:
        while True:
            visit = self._arrived.get()
            try:
                self._look(visit)
            except EngineError as error:
                self._end(visit)
                self._refuse(visit.key, error)
                continue
            self._accept(visit.key)
            self._accepted.put(visit)

    def _look(self, visit: Visit) -> None:
        """Find out whether a request can be answered.

        Raises:
            EngineError: it cannot.
        """
        self._require_sight()
        request = visit.request
        visit.heads = check_images(request.images)
        words = sum(map(len, prompt_pieces(self._model, request)))
        extents = [self._projector.measure(head) for head in visit.heads]
        wanted = words + sum(extent.tokens for extent in extents)
        if wanted >= self._context_length:
            raise ContextOverflow(wanted, self._context_length)
        largest = max((extent.largest for extent in extents), default=0)
        if 0 < self._projector.max_slice < largest:
            raise UnsupportedRequest(
                f"an image takes {largest} tokens, which this model has to see in one batch",
                hint=f"set num_batch to {largest} or more",
            )
        visit.gate = visit.check(wanted)
        self._check_pixels(visit)

    def _check_pixels(self, visit: Visit) -> None:
        """Decode what is not known yet; what is small stays decoded."""
        room = MAX_WAITING_BYTES // 8
        for data, head in zip(visit.request.images, visit.heads, strict=True):
            digest = hashlib.sha256(data).hexdigest()
            if digest in visit.bitmaps or self._cache.get(digest) is not None:
                continue
            bitmap = self._projector.decode(data, head)
            if bitmap.size > room:
                bitmap.close()
                continue
            room -= bitmap.size
            visit.bitmaps[digest] = bitmap

    def _encode(self) -> None:
        while True:
            visit = self._accepted.get()
            try:
                self._prepare(visit)
            except InvalidImage as error:
                if self._end(visit):
                    self._fail(visit.key, error.message)
            finally:
                for bitmap in visit.bitmaps.values():
                    bitmap.close()

    def _prepare(self, visit: Visit) -> None:
        pictures: list[Picture] = []
        for data, head in zip(visit.request.images, visit.heads, strict=True):
            if visit.is_over:
                return
            own = sum({picture.digest: picture.size for picture in pictures}.values())
            picture = self._picture(visit, data, head, own)
            if picture is None:
                return
            pictures.append(picture)
        tokens, spans = with_pictures(self._model, visit.request, pictures)
        with self._lock:
            # Handed over under the lock, so that who finds it gone here finds it there.
            if self._visits.pop(visit.key, None) is not None:
                visit.admit(self._later(visit), tokens, spans, visit.gate)

    def _picture(self, visit: Visit, data: bytes, head: ImageHead, own: int) -> Picture | None:
        """An image of a request, encoded; None where the request is over."""
        digest = hashlib.sha256(data).hexdigest()
        picture = self._cache.get(digest)
        if picture is not None:
            return picture
        size = self._projector.measure(head).tokens * self._projector.width * 4
        self._cache.wait_for_room(size, own=own, is_over=lambda: visit.is_over)
        if digest not in visit.bitmaps:
            visit.bitmaps[digest] = self._projector.decode(data, head)
        parts: list[Slice | tuple[int, ...]] = []
        for part in self._projector.encode(visit.bitmaps[digest], digest):
            self.steps += 1
            parts.append(part)
            if visit.is_over:
                return None
        visit.bitmaps.pop(digest).close()
        picture = Picture(digest, tuple(parts))
        self._cache.add(picture)
        return picture

    def _later(self, visit: Visit) -> GenerationRequest:
        """A request whose deadline is nearer by the time that it was here."""
        request, deadline_s = visit.request, visit.request.deadline_s
        if deadline_s is None:
            return request
        waited_s = self._clock_s() - visit.arrived_s
        return replace(request, deadline_s=max(0.0, deadline_s - waited_s))

    def _end(self, visit: Visit) -> bool:
        """Let go of a request; False where it was cancelled."""
        for bitmap in visit.bitmaps.values():
            bitmap.close()
        with self._lock:
            return self._visits.pop(visit.key, None) is not None


def open_desk(
    model: Model,
    path: Path,
    params: ContextParams,
    *,
    use_gpu: bool,
    context_length: int,
    accept: Callable[[int], None],
    refuse: Callable[[int, EngineError], None],
    fail: Callable[[int, str], None],
) -> VisionDesk:
    """The desk of a model with the projector at `path`; raises as `Projector` does."""
    projector = Projector(
        model,
        path,
        threads=params.threads,
        use_gpu=use_gpu,
        max_cells=context_length // 2,
        batch_size=params.batch_size,
    )
    return VisionDesk(
        model, projector, context_length=context_length, accept=accept, refuse=refuse, fail=fail
    )
