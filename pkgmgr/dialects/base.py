"""The Dialect protocol: a pure pair of functions between a manifest and roles.

The opener of small layers (templates, params, config) is handed in, so that a dialect needs no
I/O of its own; weights are never opened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, Self, runtime_checkable

from ..descriptor import Descriptor
from ..digest import Digest
from ..manifest import Manifest
from ..modelspec import ChatMessage, ModelSpec, Role

# A text layer or a config may be this long; weights are never read whole.
MAX_SMALL_BLOB = 16 << 20
# Reads a whole small blob (config, template, …), at most MAX_SMALL_BLOB bytes, verified.
OpenBlob = Callable[[Descriptor], bytes]
_FILES = frozenset({Role.WEIGHTS, Role.PROJECTOR, Role.ADAPTER, Role.DRAFT})


@dataclass(frozen=True, slots=True)
class DraftFile:
    """One file of a model that is about to be written: weights, projector, adapter or draft."""

    role: Role
    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class ModelDraft:
    """A model before it is written in any dialect. Equal drafts give equal manifests.

    Attributes:
        files: in order; weights' order is the shard order.
        params, settings, details: as in `ModelSpec`.
        title: what the weights call themselves (`general.name`); None if they do not.
        spdx: the weights' licence as an SPDX expression, None if unknown.
        created: RFC 3339 time that is to stand in the artifact; None for none.
        annotations: for the manifest (provenance), where the dialect has a place for them.
        origin: what a converted artifact keeps of the one that it was made from, so that
            converting back restores it: the manifest, and blobs that only that manifest names.
    """

    files: tuple[DraftFile, ...]
    template: str | None = None
    jinja_template: str | None = None
    system: str | None = None
    params: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    messages: tuple[ChatMessage, ...] = ()
    licenses: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    details: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    title: str | None = None
    spdx: str | None = None
    created: str | None = None
    annotations: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    origin: tuple[DraftFile, ...] = ()

    @classmethod
    def of(cls, spec: ModelSpec) -> Self:
        """The draft that gives a model like this one; without its provenance."""
        details = dict(spec.details)
        return cls(
            files=tuple(
                DraftFile(part.role, part.descriptor.digest, part.descriptor.size)
                for part in spec.parts
                if part.role in _FILES
            ),
            template=spec.template,
            jinja_template=spec.jinja_template,
            system=spec.system,
            params=spec.params,
            messages=spec.messages,
            licenses=spec.licenses,
            settings=spec.settings,
            title=details.pop("title", None),
            spdx=details.pop("spdx", None),
            details=details,
        )

    def select(self, role: Role) -> tuple[DraftFile, ...]:
        """The files of one role, in order."""
        return tuple(file for file in self.files if file.role is role)


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

    @property
    def descriptor(self) -> Descriptor:
        """The manifest's."""
        return Descriptor(self.media_type, Digest.of(self.manifest), len(self.manifest))


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


@runtime_checkable
class WritableDialect(Dialect, Protocol):
    """A dialect that models can be written in as well."""

    def compose(self, draft: ModelDraft) -> Composition:
        """Write a model. Pure; equal drafts give equal bytes."""
