from __future__ import annotations

import io
import json

import pytest

from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.trust.sbom import Facts, File, Form, render

WEIGHTS = File("m.gguf", Digest.of(b"w"), 1, "weights")
FACTS = Facts(
    name="registry.corp/team/reviewer",
    version="1.2",
    digest=Digest.of(b"manifest"),
    files=(WEIGHTS, File("LICENSE", Digest.of(b"l"), 2, "license"), WEIGHTS),
    architecture="llama",
    quantization="Q4_K_M",
    parameter_count=135_000_000,
    organization="HuggingFaceTB",
    licenses=("apache-2.0", "some odd licence"),
    base_models=("https://example.org/base",),
    datasets=("https://example.org/data",),
    parameters={"temperature": 0.2},
    task="text-generation",
)
BARE = Facts(name="a.example:5000/b", version="latest", digest=Digest.of(b"m"), files=())


def rendered(form: Form, facts: Facts = FACTS) -> dict[str, object]:
    raw = render(facts, form, created="2026-01-02T03:04:05Z", tool_version="0.1.0")
    value = json.loads(raw)
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("form", list(Form))
def test_the_same_model_at_the_same_time_gives_the_same_bytes(form: Form) -> None:
    assert rendered(form) == rendered(form)


def test_cyclonedx_describes_the_model_and_its_files() -> None:
    value = json.dumps(rendered(Form.CYCLONEDX))
    for text in (
        '"specVersion": "1.6"',
        '"machine-learning-model"',
        '"modelArchitecture": "llama"',
        WEIGHTS.digest.hex,
        FACTS.digest.hex,
        "https://example.org/base",
        "https://example.org/data",
        '"name": "apache-2.0"',
    ):
        assert text in value
    assert value.count('"m.gguf"') == 1


def test_spdx_elements_are_all_listed_and_defined() -> None:
    graph = rendered(Form.SPDX)["@graph"]
    assert isinstance(graph, list)
    defined = {item["spdxId"] for item in graph if "spdxId" in item}
    document = next(item for item in graph if item["type"] == "SpdxDocument")
    assert set(document["element"]) | {document["spdxId"]} == defined
    for item in graph:
        if item["type"] == "Relationship":
            assert {item["from"], *item["to"]} <= defined
    licences = [
        item["simplelicensing_licenseExpression"]
        for item in graph
        if item["type"] == "simplelicensing_LicenseExpression"
    ]
    assert licences == ["apache-2.0", "LicenseRef-some-odd-licence"]


@pytest.mark.parametrize("form", list(Form))
def test_what_is_not_known_is_left_out(form: Form) -> None:
    bare = Facts("a.example/b", "latest", Digest.of(b""), ())
    text = json.dumps(rendered(form, bare))
    assert "null" not in text
    assert "None" not in text


@pytest.mark.parametrize("facts", [FACTS, BARE], ids=["full", "bare"])
def test_cyclonedx_is_valid_by_its_own_schema(facts: Facts) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json")
    schema = pytest.importorskip("cyclonedx.schema")
    validator = validation.JsonStrictValidator(schema.SchemaVersion.V1_6)
    assert validator.validate_str(json.dumps(rendered(Form.CYCLONEDX, facts))) is None


@pytest.mark.parametrize("facts", [FACTS, BARE], ids=["full", "bare"])
def test_spdx_is_valid_by_its_own_model(facts: Facts) -> None:
    spdx = pytest.importorskip("spdx_python_model").v3_0_1
    found = spdx.SHACLObjectSet()
    raw = json.dumps(rendered(Form.SPDX, facts)).encode()
    spdx.JSONLDDeserializer().read(io.BytesIO(raw), found)
    assert not found.missing_ids
    (package,) = found.foreach_type(spdx.ai_AIPackage)
    assert package.name == facts.name
    # Writing checks what each class must have.
    spdx.JSONLDSerializer().write(found, io.BytesIO())
