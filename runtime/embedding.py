"""Embeddings and relevance scores: many texts in one decode, in a context beside the chat's.

The second context shares the model's weights and has no more memory than one batch needs. Texts of
several requests go into one batch; a text must fit a batch whole, as pooling sees one batch.
"""

from __future__ import annotations

import ctypes
import math
import re
from array import array
from collections.abc import Sequence
from typing import Any

from .backend import Row
from .embeddingqueue import EmbeddingJob, EmbeddingQueue, Text
from .errors import EngineError, LoadError
from .model import Model
from .rows import RowBatch

# Tokens in one decode, and so in one text at most (Ollama's batch for embedding models too).
MAX_TOKENS = 2048
MAX_TEXTS = 64
# Of models that keep a state for each: 20 MB for 3B parameters.
MAX_STATES = 8
# Tokens of several texts in one decode: more are no faster, and where all of them are pooled the
# library keeps logits of a whole vocabulary for each, twice (800 MB for 2048 tokens and 49k).
PACKED_TOKENS = 512
# llama.cpp's pooling types.
_NONE, _MEAN, _LAST, _RANK = 0, 1, 3, 4
# What llama_decode says where it cannot make room for its results.
_NO_MEMORY = -2


class Embedder:
    """One context for embeddings. Used by the engine's thread.

    Attributes:
        queue: of texts none of which is longer than `max_tokens`.
    """

    def __init__(self, model: Model, *, context_length: int, threads: int) -> None:
        """Make the context.

        Raises:
            LoadError: the library refused; almost always for want of memory.
        """
        self._model = model
        self._api = api = model.native.api
        self.max_tokens = max(8, min(MAX_TOKENS, context_length))
        self.pooling = _pooling(model)
        params = api.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = self.max_tokens
        self._most_texts = MAX_STATES if model.has_states else MAX_TEXTS
        params.n_seq_max = self._most_texts
        self._pools_last = self.pooling == _LAST and model.is_causal
        if self._pools_last:
            # What other kinds pool must be in one part.
            params.n_ubatch = min(PACKED_TOKENS, self.max_tokens)
            params.n_outputs_max = min(self._most_texts, self.max_tokens)
        params.n_threads = params.n_threads_batch = threads
        params.embeddings = True
        params.pooling_type = self.pooling
        params.kv_unified = True
        params.flash_attn_type = -1
        params.no_perf = True
        self._context = api.llama_init_from_model(model.handle, params)
        if not self._context:
            raise LoadError("the engine cannot make a context for embeddings")
        self._memory = api.llama_get_memory(self._context)
        self._batch = RowBatch(api, self.max_tokens)
        self.width = int(
            api.llama_model_n_cls_out(model.handle) if self.is_ranker else _width(api, model)
        )
        self.queue = EmbeddingQueue()

    @property
    def is_ranker(self) -> bool:
        """Whether the model scores texts against a query, instead of embedding them."""
        return self.pooling == _RANK

    def use_threads(self, count: int) -> None:
        """Decode with so many threads from now on."""
        self._api.llama_set_n_threads(self._context, count, count)

    def take(self, most_tokens: int) -> list[Text]:
        """The texts of the next batch, of so many tokens in all; at least one text."""
        return self.queue.take(self._most_texts, min(most_tokens, PACKED_TOKENS))

    def compute(self, texts: list[Text]) -> list[EmbeddingJob]:
        """Compute one batch; returns the requests that are done with it.

        Raises:
            EngineError: the library cannot decode.
        """
        if self._memory:
            self._api.llama_memory_clear(self._memory, False)
        rows = [
            Row(token, at, sequence, not self._pools_last or at == len(job.texts[number]) - 1)
            for sequence, (job, number) in enumerate(texts)
            for at, token in enumerate(job.texts[number])
        ]
        # With embeddings on, llama.cpp computes logits of every row: a half of all work where a
        # vocabulary is large. Rows that only the last one looks at come first, without.
        self._decode([row for row in rows if not row.output], pools=False)
        self._decode([row for row in rows if row.output], pools=True)
        done = []
        for sequence, (job, number) in enumerate(texts):
            job.vectors[number] = self._vector(sequence)
            job.missing -= 1
            if not job.missing:
                done.append(job)
        return done

    def _decode(self, rows: list[Row], *, pools: bool) -> None:
        if not rows:
            return
        self._api.llama_set_embeddings(self._context, pools)
        status = self._api.llama_decode(self._context, self._batch.fill(rows))
        if status != 0:
            reason = "no memory for it" if status == _NO_MEMORY else f"status {status}"
            raise EngineError(f"the engine cannot compute {len(rows)} tokens: {reason}")
        self._api.llama_synchronize(self._context)

    def close(self) -> None:
        """Free the context. Idempotent."""
        if self._context:
            self._api.llama_free(self._context)
            self._context = None

    def _vector(self, sequence: int) -> bytes:
        pointer = self._api.llama_get_embeddings_seq(self._context, sequence)
        if not pointer:
            raise EngineError("the engine gave no embedding")
        values = array("f", ctypes.string_at(pointer, 4 * self.width))
        if self.is_ranker:
            return values.tobytes()
        return normalised(values).tobytes()


def normalised(values: Sequence[float]) -> array[float]:
    """A vector of length 1; one of zeros stays as it is.

    >>> list(normalised([3.0, 4.0]))
    [0.6000000238418579, 0.800000011920929]

    Raises:
        EngineError: some value is not a number.
    """
    length = math.hypot(*values)
    if not math.isfinite(length):
        raise EngineError("the model gave an embedding that is not a number")
    scale = 1 / length if length else 1.0
    return array("f", (value * scale for value in values))


def fit(tokens: list[int], limit: int, *, end_tokens: frozenset[int]) -> list[int]:
    """Cut a text at its end so that it fits, keeping a closing token where it has one."""
    if len(tokens) <= limit:
        return tokens
    if tokens[-1] in end_tokens:
        return [*tokens[: limit - 1], tokens[-1]]
    return tokens[:limit]


def rank_tokens(model: Model, query: str, text: str) -> list[int]:
    """The pair of a query and a text as rerankers were trained to see it (as llama-server does)."""
    api, vocab = model.native.api, model.vocab
    template = api.llama_model_chat_template(model.handle, b"rerank")
    if template:
        values = {"{query}": query, "{document}": text}
        parts = re.split(r"(\{query\}|\{document\})", template.decode("utf-8", "replace"))
        return [
            token
            for part in parts
            for token in model.tokenize(values.get(part, part), special=part not in values)
        ]
    end = model.eos if model.eos >= 0 else int(api.llama_vocab_sep(vocab))
    bos = [model.bos] if api.llama_vocab_get_add_bos(vocab) else []
    eos = [end] if api.llama_vocab_get_add_eos(vocab) else []
    sep = [int(api.llama_vocab_sep(vocab))] if api.llama_vocab_get_add_sep(vocab) else []
    question = model.tokenize(query, special=False)
    return [*bos, *question, *eos, *sep, *model.tokenize(text, special=False), *eos]


def _pooling(model: Model) -> int:
    """What the metadata say; else the mean of encoders and the last token of decoders."""
    architecture = model.metadata("general.architecture")
    stated = model.metadata(f"{architecture}.pooling_type")
    if stated is not None and stated.isdecimal() and int(stated) != _NONE:
        return int(stated)
    return _LAST if model.is_causal else _MEAN


def _width(api: Any, model: Model) -> int:
    return int(api.llama_model_n_embd_out(model.handle))
