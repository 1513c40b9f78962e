"""Smaller weights for a model that is being made; what makes them smaller comes from above."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..dialects.base import DraftFile, ModelDraft
from ..errors import InvalidOption
from ..gguf_types import WHOLE_TYPES
from ..modelspec import Role
from ..store.store import Store
from .sources import read_checked_header


@dataclass(frozen=True, slots=True)
class Quantizer:
    """Makes the weights of a model smaller.

    Attributes:
        kind: what they become, such as Q4_K_M.
        write: gets a GGUF file, where to write the smaller one, and what the first one is (F16, …).
    """

    kind: str
    write: Callable[[Path, Path, str], object]


def with_quantized_weights(store: Store, draft: ModelDraft, quantizer: Quantizer) -> ModelDraft:
    """A draft with its weights as `quantizer` makes them; the draft itself if they are that.

    Raises:
        InvalidOption: where they are several files, or quantized already.
    """
    files = [file for file in draft.files if file.role is Role.WEIGHTS]
    if len(files) != 1:
        raise InvalidOption("a model in several weight files cannot be quantized")
    source = store.path(files[0].digest)
    level = read_checked_header(source, name="the model").quantization
    if level not in WHOLE_TYPES:
        raise InvalidOption(
            "quantization is only supported for F16, BF16 and F32 models",
            hint=f"this one is {level}; `pannier quantize --again` allows the loss",
        )
    if level == quantizer.kind:
        return draft
    # What a crash leaves there, the store's collector removes.
    path = store.root / "ingest" / f"{secrets.token_hex(8)}.quantized"
    try:
        quantizer.write(source, path, level)
        made = read_checked_header(path, name="the model").quantization
        digest, size = store.ingest_file(path, on_bytes=None)
    finally:
        path.unlink(missing_ok=True)
    others = [file for file in draft.files if file.role is not Role.WEIGHTS]
    return replace(
        draft,
        files=(DraftFile(Role.WEIGHTS, digest, size), *others),
        details={**draft.details, "quantization_level": made},
    )
