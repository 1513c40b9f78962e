"""Bills of material for a model: CycloneDX 1.6 (ML-BOM) and SPDX 3.0.1 (AI profile).

Pure: facts in, bytes out. What neither the artifact nor its GGUF says is left out, not guessed.
The same model at the same time gives the same bytes.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from .. import mediatypes
from ..digest import Digest

# Identifiers are made from digests below this name, so that the same model has the same ones.
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_OID, "pannier sbom")


class Form(StrEnum):
    """A format of bills of material; the value is what the command line calls it."""

    CYCLONEDX = "cyclonedx"
    SPDX = "spdx"


MEDIA_TYPES: Mapping[Form, str] = MappingProxyType(
    {Form.CYCLONEDX: mediatypes.CYCLONEDX, Form.SPDX: mediatypes.SPDX}
)


@dataclass(frozen=True, slots=True)
class File:
    """One layer: the name that the artifact gives it, its digest and size in bytes."""

    name: str
    digest: Digest
    size: int
    role: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a model.

    Attributes:
        name: host and repository.
        version: the tag, or the digest where there is none.
        digest: of the manifest.
        licenses: SPDX expressions, or free names.
        base_models: what it was made from, as its GGUF tells.
        datasets: what it was trained on, as its GGUF tells.
        parameters: run-time parameters that the artifact fixes.
        task: what it is for, by CycloneDX's examples; None where nothing tells.
    """

    name: str
    version: str
    digest: Digest
    files: tuple[File, ...]
    architecture: str | None = None
    quantization: str | None = None
    parameter_count: int | None = None
    organization: str | None = None
    description: str | None = None
    licenses: tuple[str, ...] = ()
    base_models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    task: str | None = None


def render(facts: Facts, form: Form, *, created: str, tool_version: str) -> bytes:
    """A bill of material.

    Args:
        facts: what is known.
        form: which format.
        created: RFC 3339, UTC.
        tool_version: pannier's.
    """
    make = _cyclonedx if form is Form.CYCLONEDX else _spdx
    document = make(facts, created, tool_version)
    return json.dumps(document, indent=2, ensure_ascii=False).encode("utf-8") + b"\n"


def _cyclonedx(facts: Facts, created: str, tool_version: str) -> dict[str, Any]:
    ref = f"pkg:oci/{facts.name.rpartition('/')[2]}@{facts.digest}"
    model: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": ref,
        "name": facts.name,
        "version": facts.version,
        "hashes": [_cdx_hash(facts.digest)],
        "purl": _purl(facts),
        "modelCard": {"modelParameters": _cdx_parameters(facts)},
        "properties": [{"name": k, "value": v} for k, v in _properties(facts)],
        "components": [
            {
                "type": "file",
                "bom-ref": str(file.digest),
                "name": file.name,
                "hashes": [_cdx_hash(file.digest)],
                "properties": [
                    {"name": "pannier:role", "value": file.role},
                    {"name": "pannier:size", "value": str(file.size)},
                ],
            }
            for file in _distinct(facts.files)
        ],
    }
    if facts.description:
        model["description"] = facts.description
    if facts.organization:
        model["supplier"] = {"name": facts.organization}
    if facts.licenses:
        model["licenses"] = [{"license": {"name": name}} for name in facts.licenses]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, str(facts.digest))}",
        "version": 1,
        "metadata": {
            "timestamp": created,
            "tools": {
                "components": [{"type": "application", "name": "pannier", "version": tool_version}]
            },
            "component": model,
        },
        "dependencies": [{"ref": ref}],
    }


def _cdx_parameters(facts: Facts) -> dict[str, Any]:
    card: dict[str, Any] = {}
    if facts.task:
        card["task"] = facts.task
    if facts.architecture:
        card["modelArchitecture"] = facts.architecture
    if facts.datasets:
        card["datasets"] = [{"type": "dataset", "name": name} for name in facts.datasets]
    return card


def _cdx_hash(digest: Digest) -> dict[str, str]:
    return {"alg": "SHA-" + digest.algorithm.removeprefix("sha"), "content": digest.hex}


def _properties(facts: Facts) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    if facts.quantization:
        found.append(("pannier:quantization", facts.quantization))
    if facts.parameter_count:
        found.append(("pannier:parameter_count", str(facts.parameter_count)))
    found += [("pannier:base_model", name) for name in facts.base_models]
    found += [
        (f"pannier:parameter:{key}", json.dumps(value, ensure_ascii=False))
        for key, value in sorted(facts.parameters.items())
    ]
    return found


def _spdx(facts: Facts, created: str, tool_version: str) -> dict[str, Any]:
    base = f"urn:uuid:{uuid.uuid5(_NAMESPACE, str(facts.digest))}"
    package = f"{base}#model"
    files = _distinct(facts.files)
    elements = [
        _element("SoftwareAgent", f"{base}#tool", name=f"pannier {tool_version}"),
        _spdx_package(facts, package, base),
        *(
            _element(
                "software_File",
                f"{base}#file-{file.digest.hex}",
                name=file.name,
                verifiedUsing=[_spdx_hash(file.digest)],
                software_primaryPurpose="model" if file.role == "weights" else "data",
            )
            for file in files
        ),
    ]
    if files:
        inside = [f"{base}#file-{file.digest.hex}" for file in files]
        elements.append(_relation(base, "contains", package, inside))
    if facts.organization:
        elements.append(_element("Organization", f"{base}#supplier", name=facts.organization))
    for number, name in enumerate(facts.licenses):
        identifier = f"{base}#license-{number}"
        elements.append(
            _element(
                "simplelicensing_LicenseExpression",
                identifier,
                simplelicensing_licenseExpression=_expression(name),
            )
        )
        elements.append(_relation(base, "hasDeclaredLicense", package, [identifier]))
    document = _element(
        "SpdxDocument",
        f"{base}#document",
        profileConformance=["core", "software", "ai", "simpleLicensing"],
        rootElement=[package],
        element=[item["spdxId"] for item in elements],
    )
    creation = {
        "type": "CreationInfo",
        "@id": "_:creation",
        "specVersion": "3.0.1",
        "created": created,
        "createdBy": [f"{base}#tool"],
    }
    return {
        "@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld",
        "@graph": [creation, document, *elements],
    }


def _spdx_package(facts: Facts, identifier: str, base: str) -> dict[str, Any]:
    package = _element(
        "ai_AIPackage",
        identifier,
        name=facts.name,
        software_packageVersion=facts.version,
        software_primaryPurpose="model",
        software_downloadLocation=f"oci://{facts.name}@{facts.digest}",
        software_packageUrl=_purl(facts),
        verifiedUsing=[_spdx_hash(facts.digest)],
    )
    if facts.description:
        package["description"] = facts.description
    if facts.architecture:
        package["ai_typeOfModel"] = [facts.architecture]
    if facts.organization:
        package["suppliedBy"] = f"{base}#supplier"
    entries = _properties(facts) + [("dataset", name) for name in facts.datasets]
    if entries:
        package["ai_hyperparameter"] = [
            {"type": "DictionaryEntry", "key": key, "value": value} for key, value in entries
        ]
    return package


def _element(kind: str, identifier: str, **members: Any) -> dict[str, Any]:
    return {"type": kind, "spdxId": identifier, "creationInfo": "_:creation", **members}


def _relation(base: str, kind: str, source: str, targets: Sequence[str]) -> dict[str, Any]:
    name = f"{base}#{kind}-{uuid.uuid5(_NAMESPACE, ' '.join((source, *targets)))}"
    return _element(
        "Relationship", name, relationshipType=kind, to=list(targets), **{"from": source}
    )


def _spdx_hash(digest: Digest) -> dict[str, str]:
    return {"type": "Hash", "algorithm": digest.algorithm, "hashValue": digest.hex}


def _expression(name: str) -> str:
    """A licence as an SPDX expression; what is none becomes a LicenseRef."""
    good = all(char.isalnum() or char in ".-+ ()" for char in name)
    if good and " " not in name:
        return name
    return "LicenseRef-" + "".join(char if char.isalnum() else "-" for char in name)[:100]


def _purl(facts: Facts) -> str:
    """A package URL of type oci (purl-spec, "oci")."""
    host, _, last = facts.name.rpartition("/")
    digest = str(facts.digest).replace(":", "%3A")
    return f"pkg:oci/{last}@{digest}?repository_url={host}/{last}&tag={facts.version}"


def _distinct(files: Sequence[File]) -> list[File]:
    return list({file.digest: file for file in files}.values())
