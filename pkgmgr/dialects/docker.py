"""Docker Model Runner's dialect, v0.1 and v0.2: an OCI manifest, layers by media type.

Implements what its pkg/distribution reads and writes. In v0.1 the layers' order is the shards'
order; v0.2 goes by `org.cncf.model.filepath`. It has no parameters but a context size.
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
from .shards import LICENSE_NAMES, canonical_names, in_shard_order, role_of_weights, safe_filename

name = "docker"

_ROLES = {
    mt.DMR_GGUF: Role.WEIGHTS,
    mt.DMR_MMPROJ: Role.PROJECTOR,
    mt.DMR_JINJA: Role.JINJA_TEMPLATE,
    mt.DMR_LICENSE: Role.LICENSE,
    mt.ORIGIN: Role.ORIGIN,
}
_TYPES = {Role.WEIGHTS: mt.DMR_GGUF, Role.PROJECTOR: mt.DMR_MMPROJ}


def matches(manifest: Manifest) -> bool:
    """Whether the config is Docker Model Runner's."""
    return manifest.config.media_type.startswith(mt.DMR_CONFIG_PREFIX)


def read(manifest: Manifest, open_blob: OpenBlob) -> ModelSpec:
    """Understand a Docker Model Runner manifest."""
    config = layers.section(
        layers.read_json(manifest.config, open_blob, "config"), "config", "config"
    )
    parts = [_part(layer) for layer in manifest.layers]
    weights = in_shard_order([part for part in parts if part.role is Role.WEIGHTS])
    if not weights:
        raise UnknownDialect("it has no GGUF layer", digest=str(manifest.descriptor.digest))
    others = [part for part in parts if part.role is not Role.WEIGHTS]
    jinja = [part for part in parts if part.role is Role.JINJA_TEMPLATE]
    context = config.get("context_size")
    size = context if isinstance(context, int) and not isinstance(context, bool) else None
    return ModelSpec(
        manifest.descriptor.digest,
        name,
        (*weights, *others),
        jinja_template=layers.read_text(jinja[0].descriptor, open_blob, "template")
        if jinja
        else None,
        licenses=tuple(
            layers.read_text(part.descriptor, open_blob, "licence")
            for part in parts
            if part.role is Role.LICENSE
        ),
        params=MappingProxyType({"num_ctx": size} if size else {}),
        context_size=size,
        details=MappingProxyType(_details(config)),
    )


def compose(draft: ModelDraft) -> Composition:
    """Write a v0.1 model. Equal drafts give equal bytes."""
    blobs: list[tuple[Descriptor, bytes]] = []
    described = [
        Descriptor(_TYPES[file.role], file.digest, file.size, {mt.CNCF_FILEPATH: path})
        for file, path in canonical_names(draft)
        if file.role in _TYPES
    ]
    for media_type, path, text in _texts(draft):
        data = text.encode()
        descriptor = layers.describe(media_type, data, {mt.CNCF_FILEPATH: path})
        described.append(descriptor)
        blobs.append((descriptor, data))
    described += [Descriptor(mt.ORIGIN, item.digest, item.size) for item in draft.origin]
    config = gojson.dumps(_config(draft, described)).encode()
    config_descriptor = layers.describe(mt.DMR_CONFIG, config, {})
    blobs.append((config_descriptor, config))
    manifest = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "config": _in_order(config_descriptor),
        "layers": [_in_order(item) for item in described],
    }
    raw = gojson.dumps(manifest).encode()
    return Composition(raw, mt.OCI_MANIFEST, tuple(blobs), tuple(_dropped(draft)))


def _texts(draft: ModelDraft) -> Iterator[tuple[str, str, str]]:
    if draft.jinja_template is not None:
        yield mt.DMR_JINJA, "chat_template.jinja", draft.jinja_template
    for number, text in enumerate(draft.licenses, 1):
        yield mt.DMR_LICENSE, "LICENSE" if number == 1 else f"LICENSE-{number}", text


def _config(draft: ModelDraft, described: list[Descriptor]) -> dict[str, Any]:
    size = sum(file.size for file in draft.select(Role.WEIGHTS))
    context = draft.params.get("num_ctx")
    model = {
        "format": draft.details.get("format", "gguf"),
        "quantization": draft.details.get("quantization_level"),
        "parameters": draft.details.get("parameter_size"),
        "architecture": draft.details.get("family"),
        "size": _human_size(size),
        "context_size": context if isinstance(context, int) and context > 0 else None,
    }
    return {
        "config": {key: value for key, value in model.items() if value is not None},
        "descriptor": {"created": draft.created} if draft.created else {},
        "rootfs": {"type": "rootfs", "diff_ids": [str(item.digest) for item in described]},
    }


def _dropped(draft: ModelDraft) -> Iterator[str]:
    for role, what in ((Role.ADAPTER, "adapter"), (Role.DRAFT, "draft model")):
        if draft.select(role):
            yield f"the {what}: Docker Model Runner has none"
    for what, value in (
        ("the Go template", draft.template),
        ("the system prompt", draft.system),
        ("the example messages", draft.messages),
    ):
        if value:
            yield f"{what}: Docker Model Runner has no place for it"
    names = sorted(set(draft.params) - {"num_ctx"}) + sorted(draft.settings)
    if names:
        yield f"{', '.join(names)}: of parameters only num_ctx has a place"


def _in_order(descriptor: Descriptor) -> dict[str, Any]:
    """Members in the order in which its Go struct has them."""
    out: dict[str, Any] = {
        "mediaType": descriptor.media_type,
        "size": descriptor.size,
        "digest": str(descriptor.digest),
    }
    return out | ({"annotations": dict(descriptor.annotations)} if descriptor.annotations else {})


def _human_size(size: int) -> str:
    number, units = float(size), ["B", "KiB", "MiB", "GiB", "TiB"]
    while number >= 1024 and len(units) > 1:
        number /= 1024
        units.pop(0)
    return f"{number:.2f}{units[0]}"


def _part(layer: Descriptor) -> Part:
    filename = safe_filename(
        layer.annotations.get(mt.CNCF_FILEPATH) or layer.annotations.get(mt.TITLE)
    )
    role = _ROLES.get(layer.media_type, Role.OTHER)
    if layer.media_type == mt.DMR_FILE:
        role = _role_of_file((filename or "").rpartition("/")[2].lower())
    return Part(role, layer, filename)


def _role_of_file(base: str) -> Role:
    if base.endswith(".gguf"):
        return role_of_weights(base)
    if base.endswith(".jinja"):
        return Role.JINJA_TEMPLATE
    return Role.LICENSE if base.startswith(LICENSE_NAMES) else Role.OTHER


def _details(config: dict[str, Any]) -> dict[str, Any]:
    family = layers.string(config, "architecture")
    found = {
        "format": layers.string(config, "format"),
        "family": family,
        "families": [family] if family else None,
        "parameter_size": layers.string(config, "parameters"),
        "quantization_level": layers.string(config, "quantization"),
    }
    return {key: value for key, value in found.items() if value}
