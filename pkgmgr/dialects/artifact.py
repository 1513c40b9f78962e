"""Artifacts without a model format of their own: oras defaults, RamaLama's artifacts, omlmd.

Only file names tell what is in them (`org.opencontainers.image.title`), or the first four bytes:
layers without a telling name are looked into. RamaLama's say ModelPack in their artifact type and
have the empty config, so they are no ModelPack.
"""

from __future__ import annotations

from .. import mediatypes as mt
from ..descriptor import Descriptor
from ..errors import UnknownDialect
from ..manifest import Manifest
from ..modelspec import ModelSpec, Part, Role
from . import layers
from .base import MAX_SMALL_BLOB, OpenBlob
from .shards import LICENSE_NAMES, in_shard_order, role_of_weights, safe_filename

name = "artifact"

_CONFIGS = frozenset({mt.OCI_EMPTY, mt.UNKNOWN_CONFIG, mt.OMLMD_CONFIG, ""})
# The smallest layer without a name that is looked into; a model is larger.
_MIN_WEIGHTS = 64


def matches(manifest: Manifest) -> bool:
    """Whether the config is empty or unknown, or a file's name ends in .gguf."""
    return manifest.config.media_type in _CONFIGS or any(
        _filename(layer).endswith(".gguf") for layer in manifest.layers
    )


def read(manifest: Manifest, open_blob: OpenBlob) -> ModelSpec:
    """Understand an artifact by the names of its files."""
    parts = [_part(layer) for layer in manifest.layers]
    weights = in_shard_order([part for part in parts if part.role is Role.WEIGHTS])
    if not weights:
        raise UnknownDialect("none of its files is a model", digest=str(manifest.descriptor.digest))
    others = [part for part in parts if part.role is not Role.WEIGHTS]
    jinja = [part.descriptor for part in parts if part.role is Role.JINJA_TEMPLATE]
    licenses = [part.descriptor for part in parts if part.role is Role.LICENSE]
    return ModelSpec(
        manifest.descriptor.digest,
        name,
        (*weights, *others),
        jinja_template=layers.read_text(jinja[0], open_blob, "template") if jinja else None,
        licenses=tuple(layers.read_text(item, open_blob, "licence") for item in licenses),
    )


def _part(layer: Descriptor) -> Part:
    filename = safe_filename(
        layer.annotations.get(mt.CNCF_FILEPATH) or layer.annotations.get(mt.TITLE)
    )
    base = _filename(layer)
    if base.endswith(".gguf"):
        return Part(role_of_weights(base), layer, filename)
    is_model = layer.media_type == mt.OMLMD_MODEL
    if is_model or (not base and layer.size >= _MIN_WEIGHTS) or layer.size > MAX_SMALL_BLOB:
        return Part(Role.WEIGHTS, layer, filename, is_packed=True)
    if base.endswith(".jinja") or base == "chat_template":
        return Part(Role.JINJA_TEMPLATE, layer, filename)
    return Part(Role.LICENSE if base.startswith(LICENSE_NAMES) else Role.OTHER, layer, filename)


def _filename(layer: Descriptor) -> str:
    text = layer.annotations.get(mt.CNCF_FILEPATH) or layer.annotations.get(mt.TITLE) or ""
    return text.rpartition("/")[2].lower()
