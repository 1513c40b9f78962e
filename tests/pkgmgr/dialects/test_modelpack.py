from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from support.drafts import FULL, MINIMAL, drafts, opener

from pannier.pkgmgr import mediatypes as mt
from pannier.pkgmgr.descriptor import Descriptor
from pannier.pkgmgr.dialects import dialect_for, modelpack, read_spec
from pannier.pkgmgr.dialects.base import Composition, ModelDraft
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import UnknownDialect
from pannier.pkgmgr.manifest import Manifest, parse_manifest
from pannier.pkgmgr.modelspec import ModelSpec, Role

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "golden" / "modelpack-config-schema.json").read_text()
)


def read(composition: Composition) -> ModelSpec:
    return read_spec(parse_manifest(composition.manifest), opener(composition))


def config_of(composition: Composition) -> Any:
    return json.loads(composition.blobs[-1][1])


def foreign(*layers: dict[str, Any], config: dict[str, Any] | None = None) -> ModelSpec:
    """What we understand of a manifest that somebody else wrote."""
    data = json.dumps(config or {"descriptor": {}, "config": {}, "modelfs": {}}).encode()
    document = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "config": {
            "mediaType": mt.CNCF_CONFIG,
            "digest": str(Digest.of(data)),
            "size": len(data),
        },
        "layers": [*layers],
    }
    manifest = parse_manifest(json.dumps(document).encode())
    return modelpack.read(manifest, lambda descriptor: data)


def layer(kind: str, path: str | None, *, prefix: str = "cncf", **annotations: str) -> Any:
    notes = dict(annotations)
    if path is not None:
        notes[f"org.{prefix}.model.filepath"] = path
    return {
        "mediaType": f"application/vnd.{prefix}.model.{kind}",
        "digest": str(Digest.of(repr((kind, path)).encode())),
        "size": 5,
        "annotations": notes,
    }


def test_a_full_model_comes_back_as_it_was_written() -> None:
    spec = read(modelpack.compose(FULL))
    assert spec.dialect == "modelpack"
    assert spec.template == FULL.template
    assert spec.jinja_template == FULL.jinja_template
    assert spec.system == FULL.system
    assert spec.params == FULL.params
    assert spec.messages == FULL.messages
    assert spec.licenses == FULL.licenses
    assert spec.settings == FULL.settings
    assert spec.details == {**FULL.details, "title": "tiny"}
    for role in (Role.WEIGHTS, Role.PROJECTOR, Role.ADAPTER, Role.DRAFT):
        assert [part.descriptor.digest for part in spec.select(role)] == [
            file.digest for file in FULL.select(role)
        ]


@settings(max_examples=100)
@given(drafts())
def test_every_draft_comes_back(draft: ModelDraft) -> None:
    composition = modelpack.compose(draft)
    spec = read(composition)
    assert (spec.template, spec.jinja_template, spec.system) == (
        draft.template,
        draft.jinja_template,
        draft.system,
    )
    assert (spec.params, spec.messages, spec.licenses) == (
        draft.params,
        draft.messages,
        draft.licenses,
    )
    weights = [part.descriptor.digest for part in spec.select(Role.WEIGHTS)]
    assert weights == [file.digest for file in draft.select(Role.WEIGHTS)]
    jsonschema.validate(config_of(composition), SCHEMA)


@pytest.mark.parametrize("draft", [FULL, MINIMAL], ids=["full", "minimal"])
def test_the_config_keeps_the_modelpack_schema(draft: ModelDraft) -> None:
    jsonschema.validate(config_of(modelpack.compose(draft)), SCHEMA)


def test_equal_drafts_give_equal_bytes() -> None:
    assert modelpack.compose(FULL) == modelpack.compose(FULL)
    assert b"createdAt" not in modelpack.compose(FULL).blobs[-1][1]


def test_every_layer_says_its_file_and_its_role() -> None:
    manifest = parse_manifest(modelpack.compose(FULL).manifest)
    assert [
        (item.annotations[mt.ROLE], item.annotations[mt.CNCF_FILEPATH]) for item in manifest.layers
    ] == [
        ("weights", "model.gguf"),
        ("projector", "mmproj.gguf"),
        ("adapter", "adapter.gguf"),
        ("draft", "draft.gguf"),
        ("template", "template.tmpl"),
        ("jinja-template", "chat_template.jinja"),
        ("system", "system.txt"),
        ("params", "params.json"),
        ("messages", "messages.json"),
        ("settings", "settings.json"),
        ("license", "LICENSE"),
        ("license", "LICENSE-2"),
    ]
    assert manifest.artifact_type == mt.CNCF_MANIFEST
    assert dialect_for(manifest).name == "modelpack"


def test_shards_come_in_the_order_of_their_names() -> None:
    spec = foreign(
        layer("weight.v1.raw", "m-00002-of-00002.gguf"),
        layer("weight.v1.raw", "m-00001-of-00002.gguf"),
    )
    assert [part.filename for part in spec.select(Role.WEIGHTS)] == [
        "m-00001-of-00002.gguf",
        "m-00002-of-00002.gguf",
    ]


def test_foreign_layers_are_told_apart_by_their_names() -> None:
    spec = foreign(
        layer("weight.v1.raw", "m.gguf"),
        layer("weight.v1.raw", "mmproj-f16.gguf"),
        layer("weight.config.v1.raw", "tokenizer.json"),
        layer("doc.v1.raw", "README.md"),
    )
    assert [part.role for part in spec.parts] == [
        Role.WEIGHTS,
        Role.PROJECTOR,
        Role.OTHER,
        Role.OTHER,
    ]


def test_several_models_are_listed() -> None:
    with pytest.raises(UnknownDialect, match=r"several models: m-q4\.gguf, m-q8\.gguf"):
        foreign(layer("weight.v1.raw", "m-q4.gguf"), layer("weight.v1.raw", "m-q8.gguf"))


def test_an_adapter_is_known_by_its_name() -> None:
    spec = foreign(layer("weight.v1.raw", "m.gguf"), layer("weight.v1.raw", "style-lora.gguf"))
    assert [part.role for part in spec.parts] == [Role.WEIGHTS, Role.ADAPTER]


def test_generation_defaults_of_others_are_parameters() -> None:
    spec = foreign(
        layer("weight.v1.raw", "m.gguf"),
        layer("weight.config.v1.raw", "generation_config.json"),
        config={"temperature": 0.6, "top_k": True, "repetition_penalty": 1.1, "eos_token_id": 2},
    )
    assert spec.params == {"temperature": 0.6, "repeat_penalty": 1.1}


def test_the_former_names_are_read_too() -> None:
    data = b"{}"
    document = {
        "schemaVersion": 2,
        "config": {"mediaType": mt.CNAI_CONFIG, "digest": str(Digest.of(data)), "size": 2},
        "layers": [layer("weight.v1.raw", "m.gguf", prefix="cnai")],
    }
    spec = read_spec(parse_manifest(json.dumps(document).encode()), lambda _: data)
    assert [part.filename for part in spec.select(Role.WEIGHTS)] == ["m.gguf"]


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../m.gguf", "a/../../m.gguf", "C:\\m.gguf", "a\0b", "\\\\host\\m"]
)
def test_a_file_name_that_is_a_path_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(UnknownDialect, match="plain relative path"):
        foreign(layer("weight.v1.raw", path))


def test_a_missing_shard_is_an_error() -> None:
    with pytest.raises(UnknownDialect, match="1 weight shards where their names say 2"):
        foreign(layer("weight.v1.raw", "m-00001-of-00002.gguf"))


def test_a_role_against_its_media_type_is_an_error() -> None:
    with pytest.raises(UnknownDialect, match="says it is weights"):
        foreign(layer("doc.v1.raw", "m.gguf", **{mt.ROLE: "weights"}))


def test_a_manifest_without_weights_is_an_error() -> None:
    with pytest.raises(UnknownDialect, match="no weights"):
        foreign(layer("doc.v1.raw", "README.md"))


def test_a_config_that_is_no_object_is_an_error() -> None:
    composition = modelpack.compose(MINIMAL)
    manifest = parse_manifest(composition.manifest)

    def open_blob(descriptor: Descriptor) -> bytes:
        return b"[]"

    with pytest.raises(UnknownDialect, match="not a JSON object"):
        modelpack.read(manifest, open_blob)


def test_an_ordinary_image_is_no_model() -> None:
    document = {
        "schemaVersion": 2,
        "config": {"mediaType": mt.OCI_CONFIG, "digest": str(Digest.of(b"{}")), "size": 2},
        "layers": [],
    }
    manifest: Manifest = parse_manifest(json.dumps(document).encode())
    with pytest.raises(UnknownDialect, match="no model in manifest"):
        read_spec(manifest, lambda _: b"{}")
