"""Docker Model Runner's dialect, v0.1 and v0.2: an OCI manifest, layers by media type.

Implements what its pkg/distribution reads and writes. In v0.1 the layers' order is the shards'
order; v0.2 goes by `org.cncf.model.filepath`. It has no parameters but a context size.
"""

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
from .shards import LICENSE_NAMES, in_shard_order, safe_filename

name = "docker"

_ROLES = {
    mt.DMR_GGUF: Role.WEIGHTS,
    mt.DMR_MMPROJ: Role.PROJECTOR,
    mt.DMR_JINJA: Role.JINJA_TEMPLATE,
    mt.DMR_LICENSE: Role.LICENSE,
    mt.ORIGIN_MANIFEST: Role.ORIGIN,
    mt.ORIGIN_BLOB: Role.ORIGIN,
}


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
        return Role.PROJECTOR if "mmproj" in base else Role.WEIGHTS
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
