"""What the command line and the API both do with models: pull, push, list, show, copy, remove.

Plain functions over a store, a registry and the dialects. They print nothing and ask nobody;
progress goes to `on_event`. Building a model is `pannier.pkgmgr.modelfile.build`.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import attachments
from .descriptor import Descriptor
from .dialects import dialect_for, read_spec
from .dialects.base import MAX_SMALL_BLOB
from .digest import Digest
from .errors import (
    BlobNotFound,
    IntegrityError,
    InvalidManifest,
    InvalidOption,
    ManifestError,
    NotFound,
    UnknownDialect,
)
from .manifest import MAX_MANIFEST_SIZE, Index, Manifest, parse
from .mediatypes import INDEX_TYPES, MANIFEST_TYPES, REF_NAME
from .modelspec import ModelSpec, Role
from .reference import Reference, is_tag
from .store.collect import reachable
from .store.index import Entry
from .store.store import Store
from .transfer.events import Noticed, OnEvent, ignore
from .transfer.verify import read_manifest

if TYPE_CHECKING:
    from .gguf import Header
    from .settings import Settings
    from .transfer.registry import RegistryRepository

# What `list` calls a manifest that no dialect reads, and one that is gone or rotted.
UNKNOWN = "unknown"
DAMAGED = "damaged"
INDEX = "index"


@dataclass(frozen=True, slots=True)
class Listed:
    """One name in the store. `size` is in bytes, `modified` in seconds since the epoch."""

    reference: Reference
    digest: Digest
    size: int
    modified: float
    dialect: str


@dataclass(frozen=True, slots=True)
class Model:
    """A stored model, understood."""

    entry: Entry
    manifest: Manifest
    spec: ModelSpec


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or index as it lies in a place."""

    reference: Reference
    descriptor: Descriptor
    content: Manifest | Index


@dataclass(frozen=True, slots=True)
class Removed:
    """What `remove` took away: the names, and the bytes that became free."""

    references: tuple[Reference, ...]
    size: int


def pull(
    store: Store,
    reference: Reference,
    *,
    settings: Settings,
    on_event: OnEvent = ignore,
    variant: str | None = None,
) -> Descriptor:
    """Copy a model from its registry into the store, and give it its name there.

    Args:
        store: takes it in.
        reference: the model.
        settings: of the user.
        on_event: told of the transfer, and of which variant was chosen.
        variant: which child of an index (`variants.choose`); None for the best that fits this
            machine's free memory, `all` for the index with all of them.

    Raises:
        InvalidOption: where the name is an index and no single variant is meant.
        Untrusted: where the trust policy refuses the model; no layer was fetched.
        ModelNotFound, TransferError, IntegrityError, NoSpace: the name is as it was before.
    """
    from . import pulling

    with ExitStack() as closing:
        registry = _open(closing, reference, settings, on_event)
        root = registry.resolve(reference)
        chosen = _chosen(registry, root, variant, on_event)
        if chosen.digest != root.digest and reference.digest:
            reference = reference.with_digest(chosen.digest)
        closing.enter_context(store.lease())
        pulling.pull(registry, store, chosen, reference, on_event=on_event)
    return chosen


def push(
    store: Store,
    reference: Reference,
    destination: Reference | None = None,
    *,
    settings: Settings,
    on_event: OnEvent = ignore,
    root: Descriptor | None = None,
) -> Descriptor:
    """Copy a stored model and what hangs on it to a registry, under `destination` or its own name.

    Args:
        store: holds the model.
        reference: its name there.
        destination: the name in the registry; None for the same one.
        settings: of the user.
        on_event: told of the transfer.
        root: a stored manifest that is sent in the named one's place (another dialect of it).

    Raises:
        ModelNotFound: where the store has no such model.
        TransferError: where the registry cannot be asked or refuses.
    """
    from .transfer.copy import copy
    from .transfer.mounts import likely_mounts

    root = root or store.find(reference).descriptor
    target = destination or reference
    target.require_registry_name()
    with ExitStack() as closing:
        registry = _open(closing, target, settings, on_event)
        mounts = likely_mounts(store, registry.reference)
        copy(store, registry, root, on_event=on_event, mounts=mounts)
        for child, tag in _tagged_children(store.manifest(root.digest)):
            registry.tag(child, target.with_tag(tag))
        registry.tag(root, target)
        attachments.copy_all(store, registry, target, attachments.in_store(store, root.digest))
    return root


def list_models(store: Store) -> tuple[Listed, ...]:
    """Every model in the store, the newest first; signatures and the like are none."""
    return tuple(_listed(store, entry) for entry in attachments.model_entries(store))


def read_model(store: Store, reference: Reference) -> Model:
    """Find a stored model and understand its manifest.

    Raises:
        ModelNotFound: where the store has no such model.
        ManifestError: where what has that name describes no model.
    """
    from .unpack import unpack

    entry = store.find(reference)
    manifest = model_manifest(store, entry.descriptor.digest)
    return Model(entry, manifest, unpack(store, read_spec_of(store, manifest)))


def read_spec_of(store: Store, manifest: Manifest) -> ModelSpec:
    """Understand a stored manifest.

    Raises:
        UnknownDialect: where it describes no model.
        BlobNotFound, IntegrityError: where one of its small layers is absent or damaged.
    """
    return read_spec(manifest, lambda item: store.read(item, max_size=MAX_SMALL_BLOB))


def model_manifest(store: Store, digest: Digest) -> Manifest:
    """The manifest of that digest; of an index the stored model that fits this machine best.

    Raises:
        BlobNotFound: where the store does not have it.
        UnknownDialect: where an index names no model that is here, or nothing tells which.
    """
    content = store.manifest(digest)
    if isinstance(content, Manifest):
        return content
    models = {item.descriptor.digest: item for item in _stored_models(store, content)}
    if not models:
        raise UnknownDialect("the index names no model that is stored here", digest=str(digest))
    if len(models) > 1:
        return models[_fitting(content, models)]
    return next(iter(models.values()))


def _stored_models(store: Store, index: Index) -> Iterator[Manifest]:
    for child in index.manifests:
        if store.exists(child):
            manifest = store.manifest(child.digest)
            if isinstance(manifest, Manifest) and _dialect_name(manifest) != UNKNOWN:
                yield manifest


def _fitting(index: Index, models: Container[Digest]) -> Digest:
    from . import variants

    try:
        choice = variants.choose(index, None, free=variants.free_memory(), among=models)
    except InvalidOption as error:
        raise UnknownDialect(
            f"{error.message}: {error.hint}", digest=str(index.descriptor.digest)
        ) from error
    return choice.variant.descriptor.digest


def read_header(
    store: Store, spec: ModelSpec, *, role: Role = Role.WEIGHTS, arrays: bool = False
) -> Header:
    """The GGUF header of a model's first file of a role.

    Raises:
        UnknownDialect: where the model has no such file.
        BlobNotFound: where the file is not in the store.
        InvalidGGUF: where it is no GGUF.
    """
    from .gguf import read_header as read

    parts = spec.select(role)
    if not parts:
        raise UnknownDialect(f"it has no {role}", digest=str(spec.digest))
    name = parts[0].filename or parts[0].descriptor.digest.short
    with store.fetch(parts[0].descriptor) as stream:
        return read(stream, size=parts[0].descriptor.size, name=name, arrays=arrays)


def modelfile_text(store: Store, model: Model) -> str:
    """The Modelfile that would build a stored model again; files are named by store paths."""
    from .modelfile.show import modelfile_of
    from .modelfile.syntax import render

    return render(modelfile_of(model.spec, store.path))


def inspect(store: Store, reference: Reference) -> Document:
    """The manifest or index that a name has in the store."""
    descriptor = store.find(reference).descriptor
    return Document(reference, descriptor, store.manifest(descriptor.digest))


def inspect_remote(reference: Reference, *, settings: Settings) -> Document:
    """The manifest or index that a name has in its registry; nothing is stored.

    Raises:
        ModelNotFound, TransferError, IntegrityError: as for `pull`.
    """
    from .transfer.verify import VerifyingReader

    with ExitStack() as closing:
        registry = _open(closing, reference, settings)
        descriptor = registry.resolve(reference)
        if descriptor.size > MAX_MANIFEST_SIZE:
            raise InvalidManifest(f"{descriptor.size} bytes", digest=str(descriptor.digest))
        with registry.fetch(descriptor) as content:
            raw = VerifyingReader(content, descriptor).read()
    return Document(reference, descriptor, parse(raw, media_type=descriptor.media_type))


def copy_name(store: Store, source: Reference, destination: Reference) -> Descriptor:
    """Give a stored model a second name. No content is copied.

    Raises:
        ModelNotFound: where the store has no such model.
    """
    descriptor = store.find(source).descriptor
    store.tag(descriptor, destination)
    return descriptor


def remove(store: Store, references: Sequence[Reference]) -> Removed:
    """Take names away, and with them what they needed and no other name needs.

    Blobs that have no name yet, such as those uploaded for a model to come, stay.

    Raises:
        ModelNotFound: for the first name that is not there; nothing was removed then.
    """
    found = [store.find(reference).reference for reference in references]
    named = {entry.descriptor.digest: entry.descriptor for entry in store.entries()}
    for reference in found:
        attachments.remove_name(store, reference)
    for entry in store.entries():
        named.pop(entry.descriptor.digest, None)
    only = {digest for descriptor in named.values() for digest in _needs(store, descriptor)}
    return Removed(tuple(found), store.collect(grace_s=0, only=only).size)


def _needs(store: Store, root: Descriptor) -> Iterator[Digest]:
    """The digests of a manifest and all that it needs, as far as it can be read."""
    with suppress(NotFound, ManifestError, IntegrityError):
        for descriptor in reachable(iter((root,)), store.manifest):
            yield descriptor.digest


def _chosen(
    registry: RegistryRepository, root: Descriptor, variant: str | None, on_event: OnEvent
) -> Descriptor:
    """The manifest that is pulled for a root; of an index one child, said out loud."""
    from . import variants

    if root.media_type in MANIFEST_TYPES and variant is None:
        return root
    content = read_manifest(registry, root)
    if isinstance(content, Manifest) and variant not in (None, variants.ALL):
        raise InvalidOption("the name stands for one model, which has no variants")
    if isinstance(content, Manifest) or variant == variants.ALL:
        return root
    for _ in range(variants.MAX_NESTING):
        choice = variants.choose(content, variant, free=variants.free_memory())
        on_event(Noticed(f"taking variant {choice.variant}: {choice.reason}"))
        root = choice.variant.descriptor
        if root.media_type not in INDEX_TYPES:
            return root
        content = read_manifest(registry, root)
        if isinstance(content, Manifest):
            break
    raise InvalidManifest("its indexes are nested too deeply", digest=str(root.digest))


def _tagged_children(content: Manifest | Index) -> Iterator[tuple[Descriptor, str]]:
    """The children of an index that have tags of their own, for clients that know no index."""
    for child in content.manifests if isinstance(content, Index) else ():
        tag = child.annotations.get(REF_NAME, "")
        if is_tag(tag):
            yield child, tag


def _open(
    closing: ExitStack, reference: Reference, settings: Settings, on_event: OnEvent = ignore
) -> RegistryRepository:
    """A registry whose warnings are told as notices."""
    from .transfer.open import open_registry

    def warn(text: str) -> None:
        on_event(Noticed(text))

    return closing.enter_context(open_registry(reference, settings=settings, on_warning=warn))


def _listed(store: Store, entry: Entry) -> Listed:
    digest = entry.descriptor.digest
    try:
        content = store.manifest(digest)
        if isinstance(content, Index):
            size = content.descriptor.size + sum(m.size for m in _stored_models(store, content))
            return Listed(entry.reference, digest, size, entry.modified, INDEX)
        manifest = content
    except ManifestError:
        return Listed(entry.reference, digest, entry.descriptor.size, entry.modified, UNKNOWN)
    except (BlobNotFound, IntegrityError):
        return Listed(entry.reference, digest, entry.descriptor.size, entry.modified, DAMAGED)
    size = manifest.size + manifest.descriptor.size
    return Listed(entry.reference, digest, size, entry.modified, _dialect_name(manifest))


def _dialect_name(manifest: Manifest) -> str:
    try:
        return dialect_for(manifest).name
    except UnknownDialect:
        return UNKNOWN
