"""An engine with a projector in this process, and the library's own loop to hold it against."""

from __future__ import annotations

import ctypes
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pannier.runtime.answer import Piece, Vocabulary
from pannier.runtime.context import ContextParams, LlamaBackend
from pannier.runtime.engine import Engine
from pannier.runtime.errors import EngineError
from pannier.runtime.hoststates import HostStates
from pannier.runtime.model import Model
from pannier.runtime.native import vision
from pannier.runtime.pictures import Slice
from pannier.runtime.request import GenerationRequest, LoadOptions, SamplingParams, Segment, Usage
from pannier.runtime.vision import Bitmap, Projector
from pannier.runtime.visiondesk import VisionDesk

from .models import gemma3, smollm2
from .tinyvision import tiny_projector, tiny_qwen2vl

CONTEXT = 512
KINDS = ("mlp", "gemma3", "qwen2vl_merger")


def files_of(kind: str, folder: Path) -> tuple[Path, Path]:
    """A text model and a projector for it."""
    if kind == "qwen2vl_merger":
        model, width = tiny_qwen2vl(folder / "text.gguf"), 64
    else:
        model, width = (smollm2(), 576) if kind == "mlp" else (gemma3(), 640)
    return model, tiny_projector(folder / f"{kind}.gguf", width, kind=kind)


def looking(
    *parts: str | bytes, max_tokens: int = 12, logprobs: int | None = None
) -> GenerationRequest:
    """A greedy request whose prompt is texts and images."""
    images = tuple(part for part in parts if isinstance(part, bytes))
    numbers = iter(range(len(images)))
    segments = tuple(
        Segment(part) if isinstance(part, str) else Segment("[img]", image=next(numbers))
        for part in parts
    )
    sampling = SamplingParams(temperature=0.0)
    return GenerationRequest(
        segments, images=images, sampling=sampling, max_tokens=max_tokens, logprobs=logprobs
    )


@dataclass
class Asked:
    """What came of a request."""

    text: str = ""
    pieces: list[Piece] = field(default_factory=list)
    refusal: EngineError | None = None

    @property
    def usage(self) -> Usage:
        usage = self.pieces[-1].usage
        assert usage is not None
        return usage

    @property
    def chance(self) -> float:
        """The logarithm of how likely the first token was."""
        return next(entry.logprob for piece in self.pieces for entry in piece.logprobs)


class SlowProjector(Projector):
    """Waits for `go` before each look, and says in `begun` that it does."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.begun, self.go = threading.Event(), threading.Event()

    def encode(self, bitmap: Bitmap, digest: str) -> Iterator[Slice | tuple[int, ...]]:
        for part in super().encode(bitmap, digest):
            self.begun.set()
            assert self.go.wait(timeout=30)
            yield part


class Seeing:
    """An engine that looks at images. Call `close`."""

    def __init__(
        self,
        kind: str,
        folder: Path,
        *,
        cells: int = CONTEXT * 4,
        batch_size: int = 512,
        eyes: type[Projector] = Projector,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        weights, projector = files_of(kind, folder)
        self.kind = kind
        self.model = Model.load([weights], LoadOptions())
        self.projector = eyes(
            self.model,
            projector,
            threads=2,
            use_gpu=False,
            max_cells=CONTEXT // 2,
            batch_size=batch_size,
        )
        params = ContextParams(
            num_cells=cells,
            num_sequences=16,
            batch_size=batch_size,
            num_outputs=16,
            threads=2,
            batch_threads=2,
        )
        self.backend = LlamaBackend(self.model, params)
        self.engine = Engine(
            self.backend,
            Vocabulary(self.model.pieces, self.model.end_tokens, self.model.control_tokens),
            context_length=CONTEXT,
            max_running=8,
            states=HostStates(1 << 28),
        )
        self._ready: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.desk = VisionDesk(
            self.model,
            self.projector,
            context_length=CONTEXT,
            accept=lambda key: None,
            refuse=lambda key, error: self._ready.put((key, error)),
            fail=lambda key, error: self._ready.put((key, EngineError(error))),
            clock_s=clock_s,
        )
        self.desk.start()
        self._keys = 0

    def ask(self, *requests: GenerationRequest) -> list[Asked]:
        """Answer requests that come at the same time."""
        first = self._keys + 1
        for request in requests:
            self._keys += 1
            self._submit(self._keys, request)
        asked = {key: Asked() for key in range(first, self._keys + 1)}
        for _ in requests:
            key, come = self._ready.get(timeout=30)
            if isinstance(come, EngineError):
                asked[key].refusal = come
            else:
                come()
        while not self.engine.is_idle:
            for piece in self.engine.step():
                asked[piece.key].pieces.append(piece)
                asked[piece.key].text += piece.text
        return list(asked.values())

    def _submit(self, key: int, request: GenerationRequest) -> None:
        def admit(later: GenerationRequest, tokens: list[int], spans: Any, gate: Any) -> None:
            add = partial(self.engine.add, key, later, tokens, spans=spans, gate=gate)
            self._ready.put((key, add))

        self.desk.add(key, request, check=lambda num_prompt: None, admit=admit)

    def reference(self, *parts: str | bytes, max_tokens: int = 12) -> bytes:
        """What the library's own helper makes of a prompt, and greedy decoding of it."""
        api, eyes = self.model.native.api, vision()
        chunks, kept = eyes.mtmd_input_chunks_init(), []
        pointers = []
        for part in parts:
            if isinstance(part, str):
                data = part.encode()
                text = eyes.mtmd_input_text(data, len(data), False, True)
                kept.append(eyes.mtmd_input_part(ctypes.pointer(text), None))
            else:
                made = eyes.mtmd_helper_bitmap_init_from_buf(
                    self.projector._handle,
                    (ctypes.c_uint8 * len(part)).from_buffer_copy(part),
                    len(part),
                    False,
                )
                kept.append(eyes.mtmd_input_part(None, made))
            pointers.append(ctypes.pointer(kept[-1]))
        array = (ctypes.POINTER(eyes.mtmd_input_part) * len(pointers))(*pointers)
        handle = self.projector._handle
        assert eyes.mtmd_tokenize_from_parts(handle, chunks, array, len(pointers), True) == 0
        params = self.backend._context_params(
            ContextParams(CONTEXT * 4, 16, 512, 16, threads=2, batch_threads=2)
        )
        context = api.llama_init_from_model(self.model.handle, params)
        past = ctypes.c_int32()
        helped = eyes.mtmd_helper_eval_chunks(
            handle, context, chunks, 0, 0, 512, True, ctypes.byref(past)
        )
        assert helped == 0
        drawn = b""
        position = past.value
        for _ in range(max_tokens):
            logits = api.llama_get_logits_ith(context, -1)[: self.model.vocabulary_size]
            token = max(range(len(logits)), key=logits.__getitem__)
            if token in self.model.end_tokens:
                break
            if token not in self.model.control_tokens:
                drawn += self.model.pieces[token]
            batch = api.llama_batch_init(1, 0, 1)
            batch.n_tokens, batch.token[0], batch.pos[0] = 1, token, position
            batch.n_seq_id[0], batch.seq_id[0][0], batch.logits[0] = 1, 0, 1
            assert api.llama_decode(context, batch) == 0
            api.llama_batch_free(batch)
            position += 1
        api.llama_free(context)
        eyes.mtmd_input_chunks_free(chunks)
        return drawn

    def close(self) -> None:
        self.backend.close()
        self.projector.close()
        self.model.close()


def texts(asked: Sequence[Asked]) -> list[str]:
    """The answers."""
    return [one.text for one in asked]
