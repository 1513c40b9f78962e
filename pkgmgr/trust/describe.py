"""Gathers what is known of a stored model for its bill of material."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import InvalidGGUF, ManifestError
from ..modelspec import ModelSpec
from ..operations import read_header, read_model
from ..reference import Reference
from ..store.store import Store
from . import gate
from .sbom import Facts, File

if TYPE_CHECKING:
    from ..gguf import Header

_MAX_TEXT = 4096
_MAX_SOURCES = 32


def describe(store: Store, reference: Reference) -> Facts:
    """The facts of a model.

    Raises:
        ModelNotFound: where the store has no such model.
        ManifestError: where what has that name describes no model.
    """
    model = read_model(store, reference)
    name, spec = model.entry.reference, model.spec
    files = tuple(
        File(
            part.filename or f"{part.role}-{part.descriptor.digest.short}",
            part.descriptor.digest,
            part.descriptor.size,
            str(part.role),
        )
        for part in spec.parts
    )
    header = _header(store, model.spec)
    licenses = gate.licenses_of(model.manifest, store)
    if header is not None and not licenses:
        licenses = _texts(header, "general.license")
    return Facts(
        name=f"{name.host}/{name.repository}",
        version=name.tag or str(model.entry.descriptor.digest),
        digest=model.entry.descriptor.digest,
        files=files,
        licenses=licenses,
        parameters=spec.params,
        **_from_header(header) if header is not None else {},
    )


def _header(store: Store, spec: ModelSpec) -> Header | None:
    try:
        return read_header(store, spec)
    except (InvalidGGUF, ManifestError):
        return None


def _from_header(header: Header) -> dict[str, Any]:
    # llama.cpp's converter writes it for models that give vectors or ranks, and for no others.
    is_encoder = f"{header.architecture}.pooling_type" in header.metadata
    return {
        "task": "feature-extraction" if is_encoder else "text-generation",
        "architecture": header.architecture or None,
        "quantization": header.quantization,
        "parameter_count": header.parameter_count,
        "organization": next(iter(_texts(header, "general.organization")), None),
        "description": next(iter(_texts(header, "general.description")), None),
        "base_models": _numbered(header, "general.base_model"),
        "datasets": _numbered(header, "general.dataset") or _texts(header, "general.datasets"),
    }


def _numbered(header: Header, prefix: str) -> tuple[str, ...]:
    """`<prefix>.<n>.repo_url` or `.name` for each n (ggml, docs/gguf.md, "Source metadata")."""
    found: list[str] = []
    for number in range(min(header.number(f"{prefix}.count", 0), _MAX_SOURCES)):
        url = _texts(header, f"{prefix}.{number}.repo_url")
        found += url or _texts(header, f"{prefix}.{number}.name")
    return tuple(found)


def _texts(header: Header, key: str) -> tuple[str, ...]:
    value = header.metadata.get(key)
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, Sequence):
        return ()
    return tuple(item[:_MAX_TEXT] for item in value if isinstance(item, str) and item)
