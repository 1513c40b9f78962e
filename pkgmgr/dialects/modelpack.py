"""CNCF ModelPack, our native dialect: reads it and writes it with raw layers.

Implements model-spec v0.0.7, docs/spec.md, docs/config.md and schema/config-schema.json, whose
objects allow no members of our own: what a layer is for stands in the annotation
`dev.pannier.role` beside `org.cncf.model.filepath`.
"""

from __future__ import annotations

import json
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
from .shards import (
    LICENSE_NAMES,
    canonical_names,
    in_shard_order,
    role_of_weights,
    safe_filename,
)

name = "modelpack"

_WEIGHT_ROLES = frozenset({Role.WEIGHTS, Role.PROJECTOR, Role.ADAPTER, Role.DRAFT})
_GENERATION_CONFIG = "generation_config.json"
_GENERATION_KEYS = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "repetition_penalty": "repeat_penalty",
}


def matches(manifest: Manifest) -> bool:
    """Whether the config is a ModelPack one, by its new or its former name."""
    return manifest.config.media_type in (mt.CNCF_CONFIG, mt.CNAI_CONFIG)


def read(manifest: Manifest, open_blob: OpenBlob) -> ModelSpec:
    """Understand a ModelPack manifest, ours or anyone's."""
    config = layers.read_json(manifest.config, open_blob, "config")
    parts = tuple(_part(layer) for layer in manifest.layers)
    others = [part for part in parts if part.role is not Role.WEIGHTS]
    weights = in_shard_order([part for part in parts if part.role is Role.WEIGHTS])
    if not weights:
        raise UnknownDialect("it has no weights", digest=str(manifest.descriptor.digest))
    spec = ModelSpec(manifest.descriptor.digest, name, (*weights, *others))
    return _with_texts(spec, open_blob, _details(config, spec))


def compose(draft: ModelDraft) -> Composition:
    """Write a model. Equal drafts give equal bytes; there is no time but `draft.created`."""
    blobs: list[tuple[Descriptor, bytes]] = []
    described = [
        Descriptor(mt.CNCF_WEIGHT_RAW, file.digest, file.size, _annotations(file.role, path))
        for file, path in canonical_names(draft)
    ]
    for media_type, role, path, data in _small_layers(draft):
        descriptor = layers.describe(media_type, data, _annotations(role, path))
        described.append(descriptor)
        blobs.append((descriptor, data))
    described += [
        Descriptor(mt.CNCF_DOC_RAW, item.digest, item.size, _annotations(Role.ORIGIN, path))
        for item in draft.origin
        for path in [f".pannier/origin/{item.digest.hex}"]
    ]
    config = _compact(_config(draft, described))
    config_descriptor = layers.describe(mt.CNCF_CONFIG, config, {})
    blobs.append((config_descriptor, config))
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "artifactType": mt.CNCF_MANIFEST,
        "config": config_descriptor.to_json(),
        "layers": [descriptor.to_json() for descriptor in described],
    }
    if draft.annotations:
        manifest["annotations"] = dict(sorted(draft.annotations.items()))
    return Composition(_compact(manifest), mt.OCI_MANIFEST, tuple(blobs))


def _part(layer: Descriptor) -> Part:
    filename = safe_filename(
        layer.annotations.get(mt.CNCF_FILEPATH)
        or layer.annotations.get(mt.CNAI_FILEPATH)
        or layer.annotations.get(mt.TITLE)
    )
    is_packed = ".v1.tar" in layer.media_type
    return Part(_role(layer, filename or ""), layer, filename, is_packed)


def _role(layer: Descriptor, filename: str) -> Role:
    family = _family(layer.media_type)
    declared = layer.annotations.get(mt.ROLE)
    if declared is not None and family is not None:
        return _declared_role(declared, family, layer)
    base = filename.rpartition("/")[2].lower()
    if family == "weight" or layer.media_type == mt.DMR_GGUF:
        return role_of_weights(base)
    if family == "weight.config" and base.endswith(".jinja"):
        return Role.JINJA_TEMPLATE
    if family == "doc" and base.startswith(LICENSE_NAMES):
        return Role.LICENSE
    return Role.OTHER


def _family(media_type: str) -> str | None:
    """`weight`, `weight.config`, `doc`, `code` or `dataset`; None for foreign layers.

    Docker Model Runner wrote `weight.v1.gguf` and `weight.gguf` for a while.
    """
    for prefix in (mt.CNCF_PREFIX, mt.CNAI_PREFIX):
        if media_type.startswith(prefix):
            return media_type.removeprefix(prefix).partition(".v1.")[0].removesuffix(".gguf")
    return None


def _declared_role(declared: str, family: str, layer: Descriptor) -> Role:
    try:
        role = Role(declared)
    except ValueError:
        return Role.OTHER
    if (role in _WEIGHT_ROLES) != (family == "weight"):
        raise UnknownDialect(f"layer {layer.digest} says it is {declared} and {layer.media_type}")
    return role


def _details(config: dict[str, Any], spec: ModelSpec) -> dict[str, Any]:
    model = layers.section(config, "config", "config")
    descriptor = layers.section(config, "descriptor", "config")
    found = {
        "format": layers.string(model, "format"),
        "family": layers.string(descriptor, "family"),
        "parameter_size": layers.string(model, "paramSize"),
        "quantization_level": layers.string(model, "quantization"),
        "title": layers.string(descriptor, "title"),
    }
    families = [found["family"]] if found["family"] else []
    # What every projector's `general.architecture` is.
    families += ["clip"] if spec.select(Role.PROJECTOR) else []
    return _present({**found, "families": families or None})


def _with_texts(spec: ModelSpec, open_blob: OpenBlob, details: dict[str, Any]) -> ModelSpec:
    def text(role: Role) -> str | None:
        found = _plain(spec, role)
        return layers.read_text(found[0].descriptor, open_blob, role.value) if found else None

    def document(role: Role) -> dict[str, Any]:
        found = _plain(spec, role)
        return layers.read_json(found[0].descriptor, open_blob, role.value) if found else {}

    messages = _plain(spec, Role.MESSAGES)
    licenses = _plain(spec, Role.LICENSE)
    return ModelSpec(
        spec.digest,
        spec.dialect,
        spec.parts,
        template=text(Role.TEMPLATE),
        jinja_template=text(Role.JINJA_TEMPLATE),
        system=text(Role.SYSTEM),
        params=MappingProxyType(document(Role.PARAMS) or _generation_config(spec, open_blob)),
        messages=layers.read_messages(messages[0].descriptor, open_blob) if messages else (),
        licenses=tuple(layers.read_text(p.descriptor, open_blob, "licence") for p in licenses),
        settings=MappingProxyType(document(Role.SETTINGS)),
        details=MappingProxyType(details),
    )


def _generation_config(spec: ModelSpec, open_blob: OpenBlob) -> dict[str, Any]:
    """Hugging Face's sampling defaults, which artifacts of other tools carry beside the weights."""
    for part in spec.select(Role.OTHER):
        if (part.filename or "").rpartition("/")[2] == _GENERATION_CONFIG and not part.is_packed:
            config = layers.read_json(part.descriptor, open_blob, _GENERATION_CONFIG)
            return {
                ours: config[theirs]
                for theirs, ours in _GENERATION_KEYS.items()
                if isinstance(config.get(theirs), int | float)
                and not isinstance(config[theirs], bool)
            }
    return {}


def _plain(spec: ModelSpec, role: Role) -> list[Part]:
    return [part for part in spec.select(role) if not part.is_packed]


def _annotations(role: Role, path: str) -> dict[str, str]:
    return {mt.ROLE: role.value, mt.CNCF_FILEPATH: path}


def _small_layers(draft: ModelDraft) -> Iterator[tuple[str, Role, str, bytes]]:
    config = mt.CNCF_WEIGHT_CONFIG_RAW
    if draft.template is not None:
        yield config, Role.TEMPLATE, "template.tmpl", draft.template.encode()
    if draft.jinja_template is not None:
        yield config, Role.JINJA_TEMPLATE, "chat_template.jinja", draft.jinja_template.encode()
    if draft.system is not None:
        yield config, Role.SYSTEM, "system.txt", draft.system.encode()
    if draft.params:
        yield config, Role.PARAMS, "params.json", layers.params_bytes(draft.params)
    if draft.messages:
        yield config, Role.MESSAGES, "messages.json", layers.messages_bytes(draft.messages)
    if draft.settings:
        text = gojson.dumps(dict(draft.settings), sort=True) + "\n"
        yield config, Role.SETTINGS, "settings.json", text.encode()
    for number, text in enumerate(draft.licenses, 1):
        path = "LICENSE" if number == 1 else f"LICENSE-{number}"
        yield mt.CNCF_DOC_RAW, Role.LICENSE, path, text.encode()


def _config(draft: ModelDraft, described: list[Descriptor]) -> dict[str, Any]:
    descriptor = {
        "createdAt": draft.created,
        "family": draft.details.get("family"),
        "licenses": [draft.spdx] if draft.spdx else None,
        "title": draft.title,
    }
    model = {
        "format": draft.details.get("format"),
        "paramSize": draft.details.get("parameter_size"),
        "quantization": draft.details.get("quantization_level"),
    }
    return {
        "descriptor": _present(descriptor),
        "modelfs": {"type": "layers", "diffIds": [str(item.digest) for item in described]},
        "config": _present(model),
    }


def _present(members: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in members.items() if value is not None}


def _compact(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
