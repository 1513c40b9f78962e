"""The Dialect protocol: a pure pair of functions between a manifest and roles.

The opener of small layers (templates, params, config) is handed in, so that a dialect needs no
I/O of its own; weights are never opened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ..descriptor import Descriptor
from ..manifest import Manifest
from ..modelspec import ModelSpec

# A text layer or a config may be this long; weights are never read whole.
MAX_SMALL_BLOB = 16 << 20
# Reads a whole small blob (config, template, …), at most MAX_SMALL_BLOB bytes, verified.
OpenBlob = Callable[[Descriptor], bytes]


@dataclass(frozen=True, slots=True)
class Composition:
    """A model written in a dialect, before any of it is stored.

    Attributes:
        manifest: the exact bytes.
        media_type: the manifest's Content-Type.
        blobs: content of the small blobs that the manifest names (config, templates, …), each
            with its descriptor. The weights' descriptors stand in the manifest only.
        dropped: what the dialect cannot express, one line each for people.
    """

    manifest: bytes
    media_type: str
    blobs: tuple[tuple[Descriptor, bytes], ...]
    dropped: tuple[str, ...] = ()


class Dialect(Protocol):
    """One way to write a model as an OCI artifact."""

    @property
    def name(self) -> str:
        """Short, lower case: what `--as` and `list` call it."""

    def matches(self, manifest: Manifest) -> bool:
        """Whether the manifest is written in this dialect; looks at nothing else."""

    def read(self, manifest: Manifest, open_blob: OpenBlob) -> ModelSpec:
        """Understand a manifest.

        Raises:
            UnknownDialect: where it contradicts itself or lacks what a model needs.
        """
