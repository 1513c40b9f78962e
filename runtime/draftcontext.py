"""Loading a draft model beside the model that it drafts for, with cells of its own.

Whether their vocabularies fit is decided before, from the files' headers (`pkgmgr.vocabularies`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .context import ContextParams, LlamaBackend
from .draft import DraftModel, draft_cells
from .errors import LoadError
from .model import Model
from .request import LoadOptions
from .speculate import MAX_STREAMS

BATCH = 512


def load_draft(
    paths: Sequence[Path],
    options: LoadOptions,
    *,
    vocabulary_size: int,
    context_length: int,
    threads: int,
) -> tuple[LlamaBackend, DraftModel]:
    """Load a draft model whose vocabulary is known to fit, with cells for the streams it serves.

    Raises:
        LoadError: the engine refused it, or it cannot take tokens back.
    """
    model = Model.load(paths, options)
    params = ContextParams(
        num_cells=draft_cells(context_length),
        num_sequences=MAX_STREAMS,
        batch_size=BATCH,
        num_outputs=MAX_STREAMS,
        threads=threads,
        batch_threads=threads,
        cache_type=options.cache_type,
    )
    backend = LlamaBackend(model, params)
    if not backend.can_share:
        hint = "take a draft model without recurrent layers"
        raise LoadError("its draft model cannot take tokens back", hint=hint)
    size = min(model.vocabulary_size, vocabulary_size)
    return backend, DraftModel(backend, vocabulary_size=size, context_length=context_length)
