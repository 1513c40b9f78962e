"""Dialects: the shapes that tools put models into registries in. Pure: manifest ↔ ModelSpec."""

from __future__ import annotations

from typing import cast

from ..errors import UnknownDialect
from ..manifest import Manifest
from ..modelspec import ModelSpec
from . import modelpack, ollama
from .base import Dialect, OpenBlob

# In the order in which they are asked: the config's type says more than the layers'.
# cast: modules have the functions and the name that the protocol wants.
DIALECTS: tuple[Dialect, ...] = (cast(Dialect, modelpack), cast(Dialect, ollama))


def dialect_for(manifest: Manifest) -> Dialect:
    """The dialect that a manifest is written in.

    Raises:
        UnknownDialect: where it is none that we know.
    """
    for dialect in DIALECTS:
        if dialect.matches(manifest):
            return dialect
    raise UnknownDialect(
        f"config type {manifest.config.media_type or 'none'} belongs to no dialect",
        digest=str(manifest.descriptor.digest),
    )


def read_spec(manifest: Manifest, open_blob: OpenBlob) -> ModelSpec:
    """Understand a manifest, whatever its dialect.

    Raises:
        UnknownDialect: where no dialect can.
    """
    return dialect_for(manifest).read(manifest, open_blob)
