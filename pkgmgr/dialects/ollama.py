"""Ollama's dialect: a Docker schema-2 manifest whose layers' media types say what they are."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from .. import mediatypes as mt
from ..descriptor import Descriptor
from ..errors import UnknownDialect
from ..manifest import Manifest
from ..modelspec import ModelSpec, Part, Role
from . import layers
from .base import OpenBlob

name = "ollama"

_ROLES = {
    "model": Role.WEIGHTS,
    "projector": Role.PROJECTOR,
    "adapter": Role.ADAPTER,
    "draft": Role.DRAFT,
    "template": Role.TEMPLATE,
    "prompt": Role.TEMPLATE,
    "system": Role.SYSTEM,
    "params": Role.PARAMS,
    "messages": Role.MESSAGES,
    "license": Role.LICENSE,
}
_DETAILS = {
    "model_format": "format",
    "model_family": "family",
    "model_families": "families",
    "model_type": "parameter_size",
    "file_type": "quantization_level",
}
_SETTINGS = ("renderer", "parser", "requires", "capabilities", "context_length",
             "embedding_length", "base_name")  # fmt: skip


def matches(manifest: Manifest) -> bool:
    """Whether any layer is of one of Ollama's types."""
    return any(layer.media_type.startswith(mt.OLLAMA_PREFIX) for layer in manifest.layers)


def read(manifest: Manifest, open_blob: OpenBlob) -> ModelSpec:
    """Understand an Ollama manifest. Of layers that may stand once, the last one counts."""
    parts = tuple(Part(_role(layer), layer) for layer in manifest.layers)
    by_role = {part.role: part.descriptor for part in parts}
    if Role.WEIGHTS not in by_role:
        raise UnknownDialect("it has no model layer", digest=str(manifest.descriptor.digest))
    config = layers.read_json(manifest.config, open_blob, "config")

    def text(role: Role) -> str | None:
        layer = by_role.get(role)
        return layers.read_text(layer, open_blob, role.value) if layer else None

    params, messages = by_role.get(Role.PARAMS), by_role.get(Role.MESSAGES)
    licenses = [part.descriptor for part in parts if part.role is Role.LICENSE]
    return ModelSpec(
        manifest.descriptor.digest,
        name,
        parts,
        template=text(Role.TEMPLATE),
        system=text(Role.SYSTEM),
        params=MappingProxyType(layers.read_json(params, open_blob, "params") if params else {}),
        messages=layers.read_messages(messages, open_blob) if messages else (),
        licenses=tuple(layers.read_text(item, open_blob, "licence") for item in licenses),
        settings=MappingProxyType({key: config[key] for key in _SETTINGS if config.get(key)}),
        details=MappingProxyType(_details(config)),
    )


def _role(layer: Descriptor) -> Role:
    return _ROLES.get(layer.media_type.removeprefix(mt.OLLAMA_PREFIX), Role.OTHER)


def _details(config: dict[str, Any]) -> dict[str, Any]:
    return {ours: config[theirs] for theirs, ours in _DETAILS.items() if config.get(theirs)}
