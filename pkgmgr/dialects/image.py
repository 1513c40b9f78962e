"""Container images that carry a model: RamaLama's raw and car images, modelcars.

An ordinary image is told from one by its config's labels, or by a layer's annotations. The model
lies in the file system under /models, so every layer is looked into.
"""

from __future__ import annotations

from .. import mediatypes as mt
from ..errors import UnknownDialect
from ..manifest import Manifest
from ..modelspec import ModelSpec, Part, Role
from . import layers
from .base import OpenBlob

name = "image"

_LABELS = ("com.ramalama.model.file.location", "org.cncf.model.model", "org.cnai.model.model")
_OLOT_PREFIXES = ("io.opendatahub.", "olot.")


def matches(manifest: Manifest) -> bool:
    """Whether the config is a container image's."""
    return manifest.config.media_type in (mt.OCI_CONFIG, mt.DOCKER_CONFIG)


def read(manifest: Manifest, open_blob: OpenBlob) -> ModelSpec:
    """Understand an image by its labels; its layers are left to be unpacked."""
    config = layers.read_json(manifest.config, open_blob, "image config")
    if not (_is_labelled(config) or _is_annotated(manifest) or _copies_models(config)):
        raise UnknownDialect(
            "it is an ordinary container image", digest=str(manifest.descriptor.digest)
        )
    parts = tuple(Part(Role.WEIGHTS, layer, None, is_packed=True) for layer in manifest.layers)
    if not parts:
        raise UnknownDialect("it has no layers", digest=str(manifest.descriptor.digest))
    return ModelSpec(manifest.descriptor.digest, name, parts)


def _is_labelled(config: dict[str, object]) -> bool:
    labels = layers.section(
        layers.section(config, "config", "image config"), "Labels", "image config"
    )
    kind = str(labels.get(mt.CONTAINERS_TYPE, ""))
    return kind.startswith(mt.CONTAINERS_MODEL) or any(label in labels for label in _LABELS)


def _is_annotated(manifest: Manifest) -> bool:
    keys = [*manifest.annotations, *(key for layer in manifest.layers for key in layer.annotations)]
    return any(key.startswith(_OLOT_PREFIXES) or key in _LABELS for key in keys)


def _copies_models(config: dict[str, object]) -> bool:
    """Whether a build step put something under /models."""
    history = config.get("history")
    steps = history if isinstance(history, list) else []
    return any(
        "/models" in str(step.get("created_by", "")) for step in steps if isinstance(step, dict)
    )
