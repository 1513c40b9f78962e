"""`Backend` over llama.cpp: one context with a unified cache and its state calls.

One thread may use a backend.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from .backend import Adapters, DecodeStatus, ImageRows, Row, TokenGate, TokenSampler
from .errors import LoadError, UnsupportedRequest
from .model import Model
from .request import TOP_P_PREFILTER, SamplingParams
from .rows import EmbeddingBatch, RowBatch
from .sampling import Sampler

# ggml's numbers of the types that cells may have.
_CACHE_TYPES = {"f16": 1, "q8_0": 8, "q4_0": 2}
# LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY: of a hybrid model the recurrent states without the cells.
_PARTIAL_ONLY = 1


# From here on drawing takes longer than handing it to another thread: a chain over 262k tokens
# takes 2.2 ms, 1.3 ms on two threads; over 49k tokens 0.4 ms (2-core Xeon).
PARALLEL_VOCABULARY = 100_000


@dataclass(frozen=True, slots=True)
class ContextParams:
    """How a context is made.

    Attributes:
        num_cells: shared by all sequences.
        batch_size: tokens in one decode call.
        num_outputs: rows with logits in one decode call, not fewer than sequences.
    """

    num_cells: int
    num_sequences: int
    batch_size: int
    num_outputs: int
    threads: int
    batch_threads: int
    cache_type: str = "f16"
    sampling_threads: int = 1
    top_p_prefilter: float = TOP_P_PREFILTER


class LlamaBackend:
    """Implements `backend.Backend`. `close` frees the context."""

    def __init__(
        self, model: Model, params: ContextParams, *, adapters: Sequence[Any] = ()
    ) -> None:
        """Make a context; `adapters` are what `Model.load_adapter` gave.

        Raises:
            LoadError: the library refused; almost always for want of memory.
        """
        self._model = model
        self._api = api = model.native.api
        self._quick = model.native.quick
        self._context = api.llama_init_from_model(model.handle, self._context_params(params))
        if not self._context:
            raise LoadError(
                f"the engine cannot make a context of {params.num_cells} tokens",
                hint="set a smaller num_ctx",
            )
        self._memory = api.llama_get_memory(self._context)
        if not self._memory:
            api.llama_free(self._context)
            raise UnsupportedRequest("this model does not generate text")
        self.num_cells = int(api.llama_n_ctx(self._context))
        self.num_sequences = params.num_sequences
        self.batch_size = int(api.llama_n_batch(self._context))
        self.can_shift = bool(self._quick.llama_memory_can_shift(self._memory))
        self._set_abilities()
        self._batch = RowBatch(api, self.batch_size)
        self._prefilter = params.top_p_prefilter
        self._image_batch: EmbeddingBatch | None = None
        workers = params.sampling_threads
        is_large = model.vocabulary_size >= PARALLEL_VOCABULARY
        self._pool = ThreadPoolExecutor(workers) if is_large and workers > 1 else None
        self._adapters = tuple(adapters)
        self._used: Adapters = ()
        self.use_adapters(None)

    def _context_params(self, params: ContextParams) -> Any:
        result = self._api.llama_context_default_params()
        result.n_ctx = params.num_cells
        result.n_batch = params.batch_size
        result.n_ubatch = params.batch_size
        result.n_seq_max = params.num_sequences
        result.n_threads = params.threads
        result.n_threads_batch = params.batch_threads
        # One pool of cells, so that sequences can share them and lengths are elastic.
        result.kv_unified = True
        # Sliding windows keep all cells: a prefix can then be cut and shared like any other.
        result.swa_full = True
        result.flash_attn_type = -1
        # The library reserves logits of a whole vocabulary for each.
        result.n_outputs_max = params.num_outputs
        result.type_k = result.type_v = _CACHE_TYPES[params.cache_type]
        result.no_perf = True
        return result

    def _set_abilities(self) -> None:
        """What the model's kind of memory can do; llama.cpp says it nowhere in one place."""
        api, model = self._api, self._model
        window = int(api.llama_model_n_swa(model.handle))
        # Its compressed states can be neither cut nor copied apart from the windows beside them.
        is_compressed = model.metadata("general.architecture") == "deepseek4"
        self.can_share = not model.has_states and not is_compressed
        # With a window the flag PARTIAL_ONLY would copy all cells of windowed layers too.
        self.has_points = model.has_states and not window
        # States of windowed layers are saved without the cells that the last token does not see.
        self._window = window
        self.cuttable = (window or self.num_cells) if self.can_share else 0

    def close(self) -> None:
        """Free the context. Idempotent."""
        if self._pool is not None:
            self._pool.shutdown()
        if self._context:
            self._api.llama_free(self._context)
            self._context = None

    def use_threads(self, count: int) -> None:
        """Decode with so many threads from now on."""
        self._api.llama_set_n_threads(self._context, count, count)

    def use_adapters(self, adapters: Adapters) -> None:
        """See `Backend.use_adapters`; numbers that the model does not have are left out."""
        if adapters == self._used or not self._adapters:
            return
        wanted = tuple(enumerate([1.0] * len(self._adapters))) if adapters is None else adapters
        known = [(number, scale) for number, scale in wanted if number < len(self._adapters)]
        pointers = (self._api.llama_adapter_lora_p_ctypes * max(1, len(known)))()
        scales = (ctypes.c_float * max(1, len(known)))()
        for at, (number, scale) in enumerate(known):
            pointers[at], scales[at] = self._adapters[number], scale
        self._api.llama_set_adapters_lora(self._context, pointers, len(known), scales)
        self._used = adapters

    def decode(self, rows: Sequence[Row]) -> DecodeStatus:
        """See `Backend.decode`."""
        return self._decode(self._batch.fill(rows))

    def decode_image(self, rows: ImageRows) -> DecodeStatus:
        """See `Backend.decode_image`."""
        if self._image_batch is None:
            dimensions = 1 if rows.slice.grid is None else 4
            self._image_batch = EmbeddingBatch(self._api, self.batch_size, dimensions)
        if rows.slice.is_causal:
            return self._decode(self._image_batch.fill(rows))
        self._api.llama_set_causal_attn(self._context, False)
        try:
            return self._decode(self._image_batch.fill(rows))
        finally:
            self._api.llama_set_causal_attn(self._context, True)

    def _decode(self, batch: Any) -> DecodeStatus:
        status = self._api.llama_decode(self._context, batch)
        if status == 0:
            self._api.llama_synchronize(self._context)
            return DecodeStatus.DONE
        return DecodeStatus.NO_ROOM if status == 1 else DecodeStatus.FAILED

    def sampler(
        self,
        params: SamplingParams,
        history: Sequence[int],
        *,
        gate: TokenGate | None = None,
        intact: bool = False,
    ) -> TokenSampler:
        """See `Backend.sampler`."""
        return Sampler(
            self._model,
            params,
            context_length=self.num_cells,
            history=history,
            prefilter=self._prefilter,
            gate=gate,
            intact=intact,
        )

    def sample(self, drawn: Sequence[tuple[TokenSampler, int]]) -> list[int]:
        """See `Backend.sample`."""
        context = self._context
        if len(drawn) < 2 or self._pool is None:
            return [_chain(sampler).sample(context, row) for sampler, row in drawn]
        # The library sorts its output rows on first access; after that, reading is safe anywhere.
        self._quick.llama_get_logits_ith(context, drawn[0][1])
        return list(self._pool.map(lambda draw: _chain(draw[0]).sample(context, draw[1]), drawn))

    def logprobs(
        self, row: int, token: int, top: int
    ) -> tuple[tuple[int, float], list[tuple[int, float]]]:
        """See `Backend.logprobs`."""
        import numpy

        pointer = self._quick.llama_get_logits_ith(self._context, row)
        logits = numpy.ctypeslib.as_array(pointer, shape=(self._model.vocabulary_size,))
        highest = float(logits.max())
        total = highest + float(numpy.log(numpy.exp(logits - highest).sum(dtype=numpy.float64)))
        best: list[int] = []
        if top:
            some = numpy.argpartition(logits, -top)[-top:]
            best = [int(index) for index in some[numpy.argsort(-logits[some], kind="stable")]]
        return (token, float(logits[token]) - total), [(i, float(logits[i]) - total) for i in best]

    def copy(self, source: int, target: int, end: int) -> None:
        """See `Backend.copy`."""
        self._quick.llama_memory_seq_cp(self._memory, source, target, 0, end)

    def remove(self, sequence: int, start: int, end: int = -1) -> None:
        """See `Backend.remove`."""
        removed = self._quick.llama_memory_seq_rm(self._memory, sequence, start, end)
        assert removed, "a part of a state that cannot be cut"

    def shift(self, sequence: int, start: int, end: int, delta: int) -> None:
        """See `Backend.shift`."""
        self._quick.llama_memory_seq_add(self._memory, sequence, start, end, delta)

    def reaches(self, sequence: int, length: int) -> bool:
        """See `Backend.reaches`.

        llama.cpp takes cells of windowed layers that their own sequence sees no more for others,
        also where `swa_full` gives it room, but keeps what is left of a sequence without gaps.
        """
        if not self._window:
            return True
        first: int = self._quick.llama_memory_seq_pos_min(self._memory, sequence)
        return first <= max(0, length - self._window + 1)

    def save_point(self, sequence: int) -> bytes | None:
        """See `Backend.save_point`."""
        return self._read_state(sequence, _PARTIAL_ONLY)

    def restore_point(self, sequence: int, state: bytes) -> bool:
        """See `Backend.restore_point`.

        Of a hybrid model llama.cpp writes the recurrent part only, in a place of this sequence's
        own, and leaves attention cells as they are. Its `seq_rm` then takes cells behind it.
        """
        return self._write_state(sequence, state, _PARTIAL_ONLY)

    def clear(self) -> None:
        """See `Backend.clear`."""
        self._api.llama_memory_clear(self._memory, False)

    def save(self, sequence: int) -> bytes | None:
        """See `Backend.save`."""
        return self._read_state(sequence, 0)

    def restore(self, sequence: int, state: bytes) -> bool:
        """See `Backend.restore`."""
        return self._write_state(sequence, state, 0)

    def _read_state(self, sequence: int, flags: int) -> bytes | None:
        size = self._api.llama_state_seq_get_size_ext(self._context, sequence, flags)
        buffer = (ctypes.c_uint8 * size)()
        written = self._api.llama_state_seq_get_data_ext(
            self._context, buffer, size, sequence, flags
        )
        return bytes(memoryview(buffer)[:written]) if written else None

    def _write_state(self, sequence: int, state: bytes, flags: int) -> bool:
        buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        read = self._api.llama_state_seq_set_data_ext(
            self._context, buffer, len(state), sequence, flags
        )
        return bool(read)


def _chain(sampler: TokenSampler) -> Sampler:
    assert isinstance(sampler, Sampler)
    return sampler
