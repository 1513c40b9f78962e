"""ModelSpec, the waist of the project: all that a runtime needs to know of a model.

Below it nothing knows prompts; above it nothing knows manifests. Pure: weights are descriptors,
and `files` turns them into paths where they are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .descriptor import Descriptor
from .digest import Digest


class Role(StrEnum):
    """What one layer of a model artifact is for."""

    WEIGHTS = "weights"
    PROJECTOR = "projector"
    ADAPTER = "adapter"
    DRAFT = "draft"
    TEMPLATE = "template"
    JINJA_TEMPLATE = "jinja-template"
    SYSTEM = "system"
    PARAMS = "params"
    MESSAGES = "messages"
    LICENSE = "license"
    SETTINGS = "settings"
    ORIGIN = "origin"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Part:
    """One layer with its role and the file name its artifact gives it (never a path to use).

    Attributes:
        is_packed: the layer may be an archive, or of another kind than it says: `unpack` finds
            what is in it.
    """

    role: Role
    descriptor: Descriptor
    filename: str | None = None
    is_packed: bool = False


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One example message of a model (Modelfile MESSAGE): role system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Paths of a model's files in a store, all of them present and verified."""

    weights: tuple[Path, ...]
    projector: Path | None = None
    adapters: tuple[Path, ...] = ()
    draft: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model, whatever dialect it was written in.

    Attributes:
        digest: of the manifest.
        dialect: the name of the dialect that the manifest was written in.
        parts: every layer, in manifest order.
        template: Go text/template source, as Ollama's TEMPLATE layer holds it; None if absent.
        jinja_template: Jinja source shipped as a layer, which goes before the one in the GGUF.
        params: option name → value, as a Modelfile's PARAMETER lines give them.
        context_size: tokens that the artifact itself asks for; None if it does not say.
        settings: whatever else the artifact fixes by name (`renderer`, `parser`, `requires`).
        details: `format`, `family`, `families`, `parameter_size`, `quantization_level`, as far as
            the artifact's config tells them without a look into the weights.
    """

    digest: Digest
    dialect: str
    parts: tuple[Part, ...]
    template: str | None = None
    jinja_template: str | None = None
    system: str | None = None
    params: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    messages: tuple[ChatMessage, ...] = ()
    licenses: tuple[str, ...] = ()
    context_size: int | None = None
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    details: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def select(self, role: Role) -> tuple[Part, ...]:
        """The parts of one role, in order; weights' order is the shard order."""
        return tuple(part for part in self.parts if part.role is role)

    def files(self, path_of: Callable[[Digest], Path]) -> ModelFiles:
        """Where the files of this model lie, given where a store keeps each digest."""
        paths = {
            role: tuple(path_of(part.descriptor.digest) for part in self.select(role))
            for role in (Role.WEIGHTS, Role.PROJECTOR, Role.ADAPTER, Role.DRAFT)
        }
        return ModelFiles(
            weights=paths[Role.WEIGHTS],
            projector=next(iter(paths[Role.PROJECTOR]), None),
            adapters=paths[Role.ADAPTER],
            draft=paths[Role.DRAFT],
        )
