"""KitOps ModelKits, old and new, and Jozu's form before them. The config is the Kitfile as JSON.

Layers up to 1.9 are always tars, from 1.10 on also raw files; a model's files may stand in `model`
and `modelpart` layers, so each is looked into.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from .. import mediatypes as mt
from ..descriptor import Descriptor
from ..errors import InvalidOption, UnknownDialect
from ..manifest import Manifest
from ..modelfile.parameters import PARAMETERS, check_values
from ..modelspec import ModelSpec, Part, Role
from . import layers
from .base import OpenBlob
from .shards import safe_filename

name = "kitops"

_KINDS = {
    "model": Role.WEIGHTS,
    "modelpart": Role.WEIGHTS,
    "content": Role.WEIGHTS,
    "docs": Role.OTHER,
    "code": Role.OTHER,
    "dataset": Role.OTHER,
    "datasets": Role.OTHER,
}


def matches(manifest: Manifest) -> bool:
    """Whether config or artifact type is KitOps' or Jozu's."""
    config = manifest.config.media_type
    own = config.startswith((mt.KIT_PREFIX, mt.JOZU_PREFIX))
    return own or (manifest.artifact_type or "").startswith(mt.KIT_MANIFEST_PREFIX)


def read(manifest: Manifest, open_blob: OpenBlob) -> ModelSpec:
    """Understand a ModelKit."""
    kitfile = layers.read_json(manifest.config, open_blob, "Kitfile")
    parts = tuple(_part(layer) for layer in manifest.layers)
    if not any(part.role is Role.WEIGHTS for part in parts):
        raise UnknownDialect("its Kitfile packs no model", digest=str(manifest.descriptor.digest))
    model = layers.section(kitfile, "model", "Kitfile")
    package = layers.section(kitfile, "package", "Kitfile")
    details = {
        "title": layers.string(model, "name") or layers.string(package, "name"),
        "spdx": layers.string(model, "license") or layers.string(package, "license"),
        "format": layers.string(model, "format"),
    }
    return ModelSpec(
        manifest.descriptor.digest,
        name,
        parts,
        params=MappingProxyType(_params(model.get("parameters"))),
        details=MappingProxyType({key: value for key, value in details.items() if value}),
    )


def _part(layer: Descriptor) -> Part:
    kind = layer.media_type.removeprefix(mt.KIT_PREFIX).removeprefix(mt.JOZU_PREFIX)
    role = _KINDS.get(kind.partition(".v1.")[0], Role.OTHER)
    filename = safe_filename(
        layer.annotations.get(mt.CNCF_FILEPATH) or layer.annotations.get(mt.TITLE)
    )
    return Part(role, layer, filename, is_packed=role is Role.WEIGHTS)


def _params(parameters: Any) -> dict[str, Any]:
    """Kitfile parameters are free; those with an option's name and a fitting value are used."""
    found: dict[str, Any] = {}
    for key, value in parameters.items() if isinstance(parameters, dict) else ():
        try:
            found |= check_values({key: value}) if key in PARAMETERS else {}
        except InvalidOption:
            continue
    return found
