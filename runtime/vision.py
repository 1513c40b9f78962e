"""A model's projector in this process: from the bytes of an image to rows for the decoder.

`measure` may be called from any thread. The rest has state in the library: one thread may call it.
"""

from __future__ import annotations

import ctypes
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pannier.pkgmgr.gguf import read_header

from .errors import InvalidImage, LoadError
from .images import ImageHead
from .model import Model
from .native import vision
from .pictures import Slice, row_tokens

# Their rows depend on what stands before the image in a prompt, so that they cannot be cached.
_UNSUPPORTED = frozenset({"deepseek4v", "hunyuanvl"})
_IMAGE = 1
# Larger than any image that a model would look at without making it smaller.
_LARGE = ImageHead("png", 8192, 8192)


class Extent(NamedTuple):
    """How many tokens an image takes in all, and how many the largest of its slices."""

    tokens: int
    largest: int


class Bitmap:
    """A decoded image. Call `close` at the end."""

    def __init__(self, handle: Any, size: int) -> None:
        self.handle = handle
        self.size = size

    def close(self) -> None:
        """Free it. Idempotent."""
        if self.handle:
            vision().mtmd_bitmap_free(self.handle)
            self.handle = None


class Projector:
    """What turns images into rows for one model. Call `close` before the model's.

    Attributes:
        can_see: whether it is for images; there are some for sound only.
        width: numbers in a row.
        max_slice: rows of one image that can be decoded; 0 is no bound.
    """

    def __init__(
        self,
        model: Model,
        path: Path,
        *,
        threads: int,
        use_gpu: bool,
        max_cells: int,
        batch_size: int,
    ) -> None:
        """Load it.

        Args:
            model: the text model that it was made for.
            path: of its GGUF file.
            threads: that encode.
            use_gpu: where there is one.
            max_cells: of one image, for models that make images smaller by themselves.
            batch_size: rows in one decode call.

        Raises:
            LoadError: the library refused it, or it is of a kind that is not supported.
        """
        if (kind := _kind_of(path)) in _UNSUPPORTED:
            raise LoadError(f"projectors of type {kind} are not supported")
        self._model = model
        self._api = vision()
        self.width = int(model.native.api.llama_model_n_embd_inp(model.handle))
        self._path, self._threads, self._use_gpu = path, threads, use_gpu
        self._handle = self._init(-1)
        self.can_see = bool(self._api.mtmd_support_vision(self._handle))
        self._has_grid = bool(self._api.mtmd_decode_use_mrope(self._handle))
        # Rows that see each other both ways are decoded in one batch.
        is_causal = not self._api.mtmd_decode_use_non_causal(self._handle, None)
        self.max_slice = 0 if is_causal else batch_size
        wanted = max_cells if is_causal else min(max_cells, batch_size)
        if self.can_see and self.measure(_LARGE).largest > wanted:
            # It makes images smaller, but not small enough for this context.
            self._api.mtmd_free(self._handle)
            self._handle = self._init(max(1, wanted))

    def _init(self, max_cells: int) -> Any:
        params = self._api.mtmd_context_params_default()
        params.use_gpu = self._use_gpu
        params.n_threads = self._threads
        params.print_timings = False
        params.warmup = False
        params.image_max_tokens = max_cells
        handle = self._api.mtmd_init_from_file(str(self._path).encode(), self._model.handle, params)
        if not handle:
            raise LoadError("the engine refused the model's projector")
        return handle

    def close(self) -> None:
        """Free it. Idempotent."""
        if self._handle:
            self._api.mtmd_free(self._handle)
            self._handle = None

    def measure(self, head: ImageHead) -> Extent:
        """What an image of this size takes in a prompt.

        Raises:
            InvalidImage: it cannot be looked at.
        """
        bitmap = Bitmap(self._api.mtmd_bitmap_init(head.width, head.height, None), 0)
        try:
            with self._chunks(bitmap) as chunks:
                sizes = [int(self._api.mtmd_input_chunk_get_n_tokens(c)) for c in chunks]
                kinds = [self._api.mtmd_input_chunk_get_type(c) for c in chunks]
                slices = [s for s, kind in zip(sizes, kinds, strict=True) if kind == _IMAGE]
                return Extent(sum(sizes), max(slices, default=0))
        finally:
            bitmap.close()

    def decode(self, data: bytes, head: ImageHead) -> Bitmap:
        """The pixels of an image; any thread may call it.

        Raises:
            InvalidImage: it is broken.
        """
        size = head.width * head.height * 3
        if head.kind == "webp":
            return self._bitmap(head, _webp_pixels(data, head), size)
        with _pixels(data, head) as pixels:
            return self._bitmap(head, pixels, size)

    def _bitmap(self, head: ImageHead, pixels: Any, size: int) -> Bitmap:
        """A copy of RGB bytes."""
        pointer = ctypes.cast(pixels, ctypes.POINTER(ctypes.c_uint8))
        return Bitmap(self._api.mtmd_bitmap_init(head.width, head.height, pointer), size)

    def encode(self, bitmap: Bitmap, digest: str) -> Iterator[Slice | tuple[int, ...]]:
        """The parts of a picture, one by one, since each can take seconds.

        Raises:
            InvalidImage: it cannot be looked at.
        """
        with self._chunks(bitmap) as chunks:
            for number, chunk in enumerate(chunks):
                if self._api.mtmd_input_chunk_get_type(chunk) == _IMAGE:
                    yield self._slice(chunk, digest, number)
                else:
                    count = ctypes.c_size_t()
                    tokens = self._api.mtmd_input_chunk_get_tokens_text(chunk, count)
                    yield tuple(tokens[: count.value])

    def _slice(self, chunk: Any, digest: str, number: int) -> Slice:
        api = self._api
        if api.mtmd_encode_chunk(self._handle, chunk):
            raise InvalidImage("the engine cannot look at an image")
        cells = int(api.mtmd_input_chunk_get_n_tokens(chunk))
        rows = (ctypes.c_float * (cells * self.width))()
        ctypes.memmove(rows, api.mtmd_get_output_embd(self._handle), ctypes.sizeof(rows))
        return Slice(
            tokens=row_tokens(digest, number, cells),
            num_positions=int(api.mtmd_input_chunk_get_n_pos(chunk)),
            width=self.width,
            rows=rows,
            grid=self._grid(chunk, cells) if self._has_grid else None,
            is_causal=not api.mtmd_decode_use_non_causal(self._handle, chunk),
        )

    def _grid(self, chunk: Any, cells: int) -> tuple[tuple[int, int], ...]:
        image = self._api.mtmd_input_chunk_get_tokens_image(chunk)
        place = self._api.mtmd_image_tokens_get_decoder_pos
        spots = (place(image, 0, number) for number in range(cells))
        return tuple((int(spot.x), int(spot.y)) for spot in spots)

    @contextmanager
    def _chunks(self, bitmap: Bitmap) -> Iterator[list[Any]]:
        """The runs of text and image that a prompt has for an image; freed at the end."""
        api = self._api
        part = api.mtmd_input_part(None, bitmap.handle)
        parts = (ctypes.POINTER(api.mtmd_input_part) * 1)(ctypes.pointer(part))
        chunks = api.mtmd_input_chunks_init()
        try:
            if api.mtmd_tokenize_from_parts(self._handle, chunks, parts, 1, False):
                raise InvalidImage("the engine cannot look at an image")
            count = api.mtmd_input_chunks_size(chunks)
            yield [api.mtmd_input_chunks_get(chunks, number) for number in range(count)]
        finally:
            api.mtmd_input_chunks_free(chunks)


def _kind_of(path: Path) -> str | None:
    """`clip.projector_type` of a file; for one with several, that of its vision."""
    with path.open("rb") as stream:
        header = read_header(stream, size=path.stat().st_size, name="the projector", arrays=False)
    return header.text("clip.projector_type") or header.text("clip.vision.projector_type")


@contextmanager
def _pixels(data: bytes, head: ImageHead) -> Iterator[int]:
    """The address of RGB bytes, which are freed at the end."""
    library = vision()._libmtmd
    width, height, channels = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    known = library.stbi_info_from_memory(data, len(data), width, height, channels)
    # What the decoder will allocate is what was held against the bounds.
    if known and (width.value, height.value) != (head.width, head.height):
        raise InvalidImage(f"a {head.kind} image is broken: it has two sizes")
    if not known:
        raise InvalidImage(f"a {head.kind} image is broken{_reason(library)}")
    address = library.stbi_load_from_memory(data, len(data), width, height, channels, 3)
    if not address:
        raise InvalidImage(f"a {head.kind} image is broken{_reason(library)}")
    try:
        yield address
    finally:
        library.stbi_image_free(address)


def _webp_pixels(data: bytes, head: ImageHead) -> bytes:
    """RGB bytes of an image that stb_image does not know."""
    try:
        from PIL import Image
    except ImportError as error:
        raise InvalidImage("a webp image cannot be decoded: Pillow is not installed") from error
    try:
        with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
            if image.size == (head.width, head.height):
                return image.convert("RGB").tobytes()
    except (OSError, ValueError, SyntaxError) as error:
        raise InvalidImage("a webp image is broken") from error
    raise InvalidImage("a webp image is broken: it has two sizes")


def _reason(library: Any) -> str:
    reason = library.stbi_failure_reason()
    return f": {reason.decode('utf-8', 'replace')}" if reason else ""
