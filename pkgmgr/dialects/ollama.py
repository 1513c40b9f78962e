"""Ollama's dialect: a Docker schema-2 manifest whose layers' media types say what they are.

What is written is a fixed point of Ollama's own code: it reads a manifest into Go structs and
writes them again when it pushes, so only its members in its order, with Go's escaping and without a
newline at the end, keep their digest through a real Ollama.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

from .. import mediatypes as mt
from ..descriptor import Descriptor
from ..errors import UnknownDialect
from ..manifest import Manifest
from ..modelspec import ModelSpec, Part, Role
from . import gojson, layers
from .base import Composition, ModelDraft, OpenBlob

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
_FILE_TYPES = {
    Role.WEIGHTS: "model",
    Role.PROJECTOR: "projector",
    Role.ADAPTER: "adapter",
    Role.DRAFT: "draft",
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


def compose(draft: ModelDraft) -> Composition:
    """Write a model. Equal drafts give equal bytes."""
    blobs: list[tuple[Descriptor, bytes]] = []
    described = [
        Descriptor(mt.OLLAMA_PREFIX + _FILE_TYPES[file.role], file.digest, file.size)
        for role in _FILE_TYPES
        for file in draft.select(role)
    ]
    for kind, data in _small_layers(draft):
        descriptor = layers.describe(mt.OLLAMA_PREFIX + kind, data, {})
        described.append(descriptor)
        blobs.append((descriptor, data))
    described += [Descriptor(mt.ORIGIN, item.digest, item.size) for item in draft.origin]
    config = gojson.dumps(_config(draft)).encode()
    config_descriptor = layers.describe(mt.DOCKER_CONFIG, config, {})
    blobs.append((config_descriptor, config))
    manifest = {
        "schemaVersion": 2,
        "mediaType": mt.DOCKER_MANIFEST,
        "config": config_descriptor.to_json(),
        "layers": [item.to_json() for item in described],
    }
    raw = gojson.dumps(manifest).encode()
    return Composition(raw, mt.DOCKER_MANIFEST, tuple(blobs), tuple(_dropped(draft)))


def _small_layers(draft: ModelDraft) -> Iterator[tuple[str, bytes]]:
    if draft.template is not None:
        yield "template", draft.template.encode()
    if draft.system is not None:
        yield "system", draft.system.encode()
    for text in draft.licenses:
        yield "license", text.encode()
    if draft.params:
        yield "params", layers.params_bytes(draft.params)
    if draft.messages:
        yield "messages", layers.messages_bytes(draft.messages)


def _config(draft: ModelDraft) -> dict[str, Any]:
    """The members of its ConfigV2 in its order; empty ones after `file_type` are left out."""
    known = {**dict.fromkeys(_DETAILS, ""), "model_families": None}
    for theirs, ours in _DETAILS.items():
        known[theirs] = draft.details.get(ours) or known[theirs]
    settings = {key: draft.settings[key] for key in _SETTINGS if draft.settings.get(key)}
    return {**known, **settings, "architecture": "amd64", "os": "linux"}


def _dropped(draft: ModelDraft) -> Iterator[str]:
    if len(draft.select(Role.WEIGHTS)) > 1:
        yield "the split into shards: Ollama does not run a model in several files"
    if draft.jinja_template is not None:
        yield "the Jinja template: Ollama takes only the one inside the GGUF"
    unknown = sorted(set(draft.settings) - set(_SETTINGS))
    if unknown:
        yield f"{', '.join(unknown)}: Ollama's config has no place for it"


def _role(layer: Descriptor) -> Role:
    if layer.media_type == mt.ORIGIN:
        return Role.ORIGIN
    return _ROLES.get(layer.media_type.removeprefix(mt.OLLAMA_PREFIX), Role.OTHER)


def _details(config: dict[str, Any]) -> dict[str, Any]:
    return {ours: config[theirs] for theirs, ours in _DETAILS.items() if config.get(theirs)}
