"""Looking at a model without pulling or running it: what its manifest says, and what that means."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

from .compare import Side
from .descriptor import Descriptor
from .dialects import dialect_for, read_spec
from .dialects.base import MAX_SMALL_BLOB, OpenBlob
from .errors import InvalidManifest, InvalidOption, ManifestError, UnknownDialect
from .gguf import Header, read_header
from .manifest import Index, Manifest
from .modelspec import Part, Role
from .operations import Document, Model, inspect, inspect_remote
from .reference import Reference
from .settings import Settings
from .store.index import Entry
from .store.store import Store
from .transfer.blocks import BlockReader
from .transfer.content import Source
from .transfer.open import open_registry
from .transfer.verify import read_small
from .variants import Variant, list_variants

# Where a model comes from, as image-spec's annotations.md and ours name it.
_PROVENANCE = ("org.opencontainers.image.", "dev.pannier.", "org.cncf.model.", "ml.kitops.")


@dataclass(frozen=True, slots=True)
class Annotated:
    """A manifest or index with what it means.

    Attributes:
        dialect: its name; `index`, or `unknown` where no dialect reads it.
        parts: the layers with their roles, empty for an index.
        variants: the children of an index.
        provenance: the annotations that tell where the model comes from.
        problem: why no dialect reads it, None where one does.
    """

    document: Document
    dialect: str
    parts: tuple[Part, ...] = ()
    variants: tuple[Variant, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    problem: str | None = None


def annotate_stored(store: Store, reference: Reference) -> Annotated:
    """What a name in the store stands for.

    Raises:
        ModelNotFound: where the store has no such name.
    """
    return _annotate(inspect(store, reference), _opener(store))


def annotate_remote(reference: Reference, *, settings: Settings) -> Annotated:
    """What a name in its registry stands for; nothing is stored.

    Raises:
        ModelNotFound, TransferError: as for `pull`.
    """
    document = inspect_remote(reference, settings=settings)
    with open_registry(reference, settings=settings) as registry:
        return _annotate(document, _opener(registry))


def read_remote(reference: Reference, *, settings: Settings) -> tuple[Model, Header]:
    """A model in its registry and the header of its weights, fetched by ranges; nothing is stored.

    Raises:
        ModelNotFound, TransferError: as for `pull`.
        InvalidOption: for an index, and for weights inside an archive.
        InvalidGGUF: where the weights are no GGUF.
    """
    with ExitStack() as closing:
        side = remote_side(closing, reference, settings=settings)
        registry = closing.enter_context(open_registry(reference, settings=settings))
        weights = side.spec.select(Role.WEIGHTS)
        if not weights:
            raise UnknownDialect("it has no weights", digest=str(side.spec.digest))
        blob = weights[0].descriptor
        name = weights[0].filename or blob.digest.short
        header = read_header(BlockReader(registry, blob), size=blob.size, name=name, arrays=False)
    return Model(Entry(reference, side.manifest.descriptor, 0.0), side.manifest, side.spec), header


def remote_side(closing: ExitStack, reference: Reference, *, settings: Settings) -> Side:
    """A model in a registry, for `compare`; the registry is open as long as `closing`.

    Raises:
        ModelNotFound, TransferError: as for `pull`.
        InvalidOption: for an index, and for weights inside an archive.
    """
    content = inspect_remote(reference, settings=settings).content
    if not isinstance(content, Manifest):
        raise InvalidOption(
            f"{reference.familiar} is an index", hint="name one of its models by tag or digest"
        )
    registry = closing.enter_context(open_registry(reference, settings=settings))
    spec = read_spec(content, _opener(registry))
    if any(part.is_packed for part in spec.parts):
        raise InvalidOption(
            f"the weights of {reference.familiar} lie in an archive", hint="pull the model first"
        )
    return Side(
        reference.familiar,
        content,
        spec,
        lambda item, offset: registry.fetch(item, offset=offset),
    )


def _annotate(document: Document, open_blob: OpenBlob) -> Annotated:
    content = document.content
    provenance = {
        key: value for key, value in content.annotations.items() if key.startswith(_PROVENANCE)
    }
    if isinstance(content, Index):
        return Annotated(document, "index", variants=list_variants(content), provenance=provenance)
    try:
        dialect = dialect_for(content)
        spec = dialect.read(content, open_blob)
    except ManifestError as error:
        return Annotated(document, "unknown", provenance=provenance, problem=error.message)
    return Annotated(document, dialect.name, spec.parts, provenance=provenance)


def _opener(source: Source) -> OpenBlob:
    def open_blob(item: Descriptor) -> bytes:
        if item.size > MAX_SMALL_BLOB:
            raise InvalidManifest(f"layer {item.digest} of {item.size} bytes is no text")
        return read_small(source, item)

    return open_blob
