"""From one dialect to another, and back to the very same manifest. Pure.

A converted artifact keeps the manifest that it was made from, and what only that one names (its
config, unknown layers), as layers of their own. Converting back finds it there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..descriptor import Descriptor
from ..errors import InvalidOption, ManifestError
from ..manifest import MAX_MANIFEST_SIZE, Manifest, parse_manifest
from ..modelspec import ModelSpec, Role
from . import DIALECTS, added_dialects, dialect_for
from .base import (
    MAX_SMALL_BLOB,
    Composition,
    DraftFile,
    ModelDraft,
    OpenBlob,
    WritableDialect,
)


def writable(name: str) -> WritableDialect:
    """The dialect of a name, if models can be written in it.

    Raises:
        InvalidOption: where there is none.
    """
    known = {
        dialect.name: dialect
        for dialect in (*DIALECTS, *added_dialects())
        if isinstance(dialect, WritableDialect)
    }
    if name not in known:
        raise InvalidOption(f"models cannot be written as {name!r}", hint=f"use {', '.join(known)}")
    return known[name]


def convert(
    manifest: Manifest, spec: ModelSpec, target: WritableDialect, open_blob: OpenBlob
) -> Composition:
    """A model in another dialect; in its own one, or in one that it came from, as it was.

    Args:
        manifest: what is converted.
        spec: the same, understood, with its packed layers unpacked.
        target: what to write.
        open_blob: reads small blobs.
    """
    if dialect_for(manifest).name == target.name:
        return _as_it_is(manifest)
    for origin in _origins(manifest, spec, open_blob):
        if dialect_for(origin).name == target.name:
            return _as_it_is(origin)
    draft = ModelDraft.of(spec)
    plain = target.compose(draft)
    own = {child.digest for child in parse_manifest(plain.manifest).children}
    alone = [c for c in (manifest.descriptor, *manifest.children) if c.digest not in own]
    kept = [child for child in alone if child.size <= MAX_SMALL_BLOB]
    left = [child for child in alone if child.size > MAX_SMALL_BLOB]
    written = target.compose(replace(draft, origin=tuple(_origin(child) for child in kept)))
    notes = (*plain.dropped, *_invisible(spec), *(_too_large(child) for child in left))
    return replace(written, dropped=notes)


def _as_it_is(manifest: Manifest) -> Composition:
    return Composition(manifest.raw, manifest.descriptor.media_type, ())


def _origins(manifest: Manifest, spec: ModelSpec, open_blob: OpenBlob) -> Iterator[Manifest]:
    """The manifests that this one keeps, of which it has every blob."""
    have = {child.digest for child in manifest.children}
    for part in spec.select(Role.ORIGIN):
        if part.descriptor.size > MAX_MANIFEST_SIZE:
            continue
        try:
            origin = parse_manifest(open_blob(part.descriptor))
        except ManifestError:  # a config or another small blob that is kept
            continue
        if all(child.digest in have for child in origin.children):
            yield origin


def _origin(child: Descriptor) -> DraftFile:
    return DraftFile(Role.ORIGIN, child.digest, child.size)


def _invisible(spec: ModelSpec) -> Iterator[str]:
    for part in spec.select(Role.OTHER):
        yield f"{part.filename or part.descriptor.media_type}: kept, but only for converting back"


def _too_large(child: Descriptor) -> str:
    return (
        f"layer {child.digest.short} of {child.size} bytes: not kept, "
        "so converting back gives another digest"
    )
