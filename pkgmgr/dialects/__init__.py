"""Dialects: the shapes that tools put models into registries in. Pure: manifest ↔ ModelSpec.

An installed package adds one with an entry point of the group ``pannier.dialects`` that names a
module or an object with the members of `base.Dialect` (docs/formats.md, "A dialect of your own").
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import cast

from .. import mediatypes as mt
from ..errors import InvalidOption, UnknownDialect
from ..manifest import Manifest
from ..modelspec import ModelSpec
from . import artifact, docker, image, kitops, modelpack, ollama
from .base import Dialect, OpenBlob

# In the order in which they are asked: the config's type says more than the layers' do, and file
# names the least. cast: modules have the functions and the name that the protocol wants.
DIALECTS: tuple[Dialect, ...] = tuple(
    cast(Dialect, module) for module in (docker, modelpack, kitops, ollama, image, artifact)
)
_GROUP = "pannier.dialects"
# artifactType → the dialects whose manifests may have it.
_ARTIFACT_TYPES = {
    mt.CNCF_MANIFEST: ("modelpack", "artifact"),
    mt.KIT_MANIFEST_PREFIX: ("kitops",),
}


@cache
def added_dialects() -> tuple[Dialect, ...]:
    """The dialects of installed packages, by name.

    Raises:
        InvalidOption: where a package's dialect cannot be used.
    """
    from importlib.metadata import entry_points

    found = []
    for point in sorted(entry_points(group=_GROUP), key=lambda point: point.name):
        dialect = point.load()
        if not all(hasattr(dialect, member) for member in ("name", "matches", "read")):
            raise InvalidOption(f"{point.value} is no dialect: it needs name, matches and read")
        found.append(dialect)
    return tuple(found)


def dialect_for(manifest: Manifest) -> Dialect:
    """The dialect that a manifest is written in.

    Raises:
        UnknownDialect: where it is none that we know, or it contradicts itself.
    """
    for dialect in _candidates():
        if dialect.matches(manifest):
            _require_consistent(manifest, dialect)
            return dialect
    raise UnknownDialect(
        f"config type {manifest.config.media_type or 'none'} belongs to no dialect",
        digest=str(manifest.descriptor.digest),
    )


def read_spec(manifest: Manifest, open_blob: OpenBlob) -> ModelSpec:
    """Understand a manifest, whatever its dialect.

    Raises:
        UnknownDialect: where no dialect can.
    """
    return dialect_for(manifest).read(manifest, open_blob)


def _candidates() -> Iterator[Dialect]:
    """Ours; those of packages before the one that goes by file names alone.

    Looking for packages takes longer than all else that `list` does, hence only where needed.
    """
    yield from DIALECTS[:-1]
    yield from added_dialects()
    yield DIALECTS[-1]


def _require_consistent(manifest: Manifest, dialect: Dialect) -> None:
    for prefix, names in _ARTIFACT_TYPES.items():
        if (manifest.artifact_type or "").startswith(prefix) and dialect.name not in names:
            raise UnknownDialect(
                f"its artifactType {manifest.artifact_type} contradicts its config "
                f"{manifest.config.media_type}",
                digest=str(manifest.descriptor.digest),
            )
