"""Brings a bundle's models into a store from a file, from volumes or from a directory.

What is needed is decided before anything is written: the names, what each model consists of,
what the trust policy says. Each blob is verified as it comes in, and a model gets its name when
all of it is there, so that a second attempt only takes what the first one did not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from .. import attachments, mediatypes
from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import (
    BlobNotFound,
    IncompleteBundle,
    IntegrityError,
    InvalidBundle,
    InvalidOption,
    ModelNotFound,
)
from ..manifest import Index, Manifest
from ..mediatypes import CNCF_FILEPATH, TITLE
from ..reference import Reference
from ..store.collect import is_manifest
from ..store.store import Store
from ..transfer.content import Reader
from ..transfer.events import Advanced, Finished, OnEvent, Planned, Skipped, Started, ignore
from ..trust import gate
from . import delta
from .source import Bundle, Item, open_bundle

_CHUNK = 1 << 20
_COPY_AGAIN = "copy the bundle again, then run the same command: it takes what is missing"
_IMPORT_FIRST = "import the bundle that this one builds on, or export it again without --since"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What an import did.

    Attributes:
        place: the bundle.
        models: the names that are now in the store, with their manifests.
        lacking: for each model that could not be completed, a line with what is missing.
        is_damaged: whether that is so because bytes of the bundle are lost or wrong.
    """

    place: str
    models: tuple[tuple[Reference, Descriptor], ...]
    lacking: tuple[str, ...]
    is_damaged: bool = False

    def require_complete(self) -> None:
        """Complain about what is missing.

        Raises:
            IncompleteBundle: where a model could not be completed.
        """
        if self.lacking:
            hint = _COPY_AGAIN if self.is_damaged else _IMPORT_FIRST
            raise IncompleteBundle(self.place, self.lacking, hint=hint)


def load(
    store: Store, path: Path, names: Sequence[Reference] = (), *, on_event: OnEvent = ignore
) -> Loaded:
    """Import models from a bundle file, its volumes, or an OCI layout directory.

    Args:
        store: where to.
        path: of the bundle.
        names: the models that are wanted; none means all. A bundle of one model without a full
            name, as other tools write it, needs one name to give it.
        on_event: told of progress.

    Raises:
        InvalidBundle: where it is no bundle; nothing was written.
        ModelNotFound: where it does not hold a name that is wanted; nothing was written.
        Untrusted: where the policy refuses one of the models; nothing was written.
        NoSpace: where the disk is full; models that were complete before have their names.
    """
    with open_bundle(path) as bundle, store.lease():
        if path.is_file():
            refuse_strays(bundle)
        return complete(store, bundle, names, on_event)


def refuse_strays(bundle: Bundle) -> None:
    """Check that a tar holds nothing that its index does not lead to.

    Raises:
        InvalidBundle: naming the first blob that belongs to nothing.
    """
    if bundle.damage is None and not bundle.damaged:
        needed = reachable_in(bundle, [item.descriptor for item in bundle.items])
        for digest in bundle.blobs.sizes:
            if digest not in needed:
                raise InvalidBundle(bundle.place, f"blob {digest} belongs to no model")


def describe_lack(bundle: Bundle, item: Item, absent: Sequence[Descriptor]) -> str:
    """One line about what a model lacks."""
    why = f" [{bundle.damage}]" if bundle.damage else ""
    return f"{_called(item)} lacks {_parts(absent)}{why}"


def describe_damage(item: Item, damaged: Sequence[Descriptor]) -> str:
    """One line about what of a model is there with wrong bytes."""
    return f"{_called(item)} has damaged {_parts(damaged)}"


def _called(item: Item) -> str:
    return item.reference.familiar if item.reference else item.name or "the model"


def _parts(descriptors: Sequence[Descriptor]) -> str:
    parts = [f"{_title(descriptor)} ({descriptor.size} bytes)" for descriptor in descriptors[:8]]
    more = f" and {len(descriptors) - 8} more" if len(descriptors) > 8 else ""
    return ", ".join(parts) + more


def complete(store: Store, bundle: Bundle, names: Sequence[Reference], on_event: OnEvent) -> Loaded:
    """Bring in and name every model that can be completed; the caller holds a lease.

    Raises:
        as `load`.
    """
    chosen = choose(bundle, names)
    deltas = delta.listed(bundle)
    wanted, lacking = [], []
    for item in chosen:
        parts = parts_of(bundle, item, store)
        absent = [part for part in parts.values() if not _obtainable(store, bundle, deltas, part)]
        rotten = [part for part in absent if part.digest in bundle.damaged]
        if rotten:
            lacking.append(describe_damage(item, rotten))
        elif absent:
            lacking.append(describe_lack(bundle, item, absent))
        else:
            ask_policy(store, bundle, item, on_event)
            wanted.append((item, parts))
    everything = {digest: part for _, parts in wanted for digest, part in parts.items()}
    on_event(Planned(tuple(everything.values())))
    done = []
    is_damaged = bundle.damage is not None or bool(bundle.damaged)
    for item, parts in wanted:
        damaged, baseless = _bring(store, bundle, deltas, parts, on_event)
        is_damaged = is_damaged or bool(damaged)
        if damaged:
            lacking.append(describe_damage(item, damaged))
        elif baseless:
            lacking.append(f"{_called(item)} lacks what {_parts(baseless)} builds on")
        else:
            done.append(_name(store, bundle, item))
    if bundle.damage and not lacking:
        lacking.append(f"nothing but the end of the archive is missing [{bundle.damage}]")
    return Loaded(bundle.place, tuple(done), tuple(lacking), is_damaged)


def choose(bundle: Bundle, names: Sequence[Reference]) -> tuple[Item, ...]:
    """The models that are meant, each with the name it will have.

    Raises:
        ModelNotFound: where the bundle does not hold a wanted one.
        InvalidOption: where a model has no full name and none was given.
    """
    models = [item for item in bundle.items if is_model(bundle, item)]
    if len(models) == 1 and len(names) == 1 and models[0].reference is None:
        return (replace(models[0], reference=names[0]),)
    if names:
        return tuple(_find(bundle, models, name) for name in names)
    for item in models:
        if item.reference is None:
            raise InvalidOption(
                f"bundle {bundle.place}: {item.name or item.descriptor.digest.short!r} is no full "
                "model name",
                hint=f"pannier import {bundle.place} NAME",
            )
    return tuple(models)


def _find(bundle: Bundle, models: Sequence[Item], name: Reference) -> Item:
    for item in models:
        if item.reference is not None and item.reference.key == name.key:
            if name.digest in (None, item.descriptor.digest):
                return item
        elif item.reference is None and item.name == name.tag:
            return replace(item, reference=name)
    held = ", ".join(item.reference.familiar if item.reference else item.name for item in models)
    raise ModelNotFound(name.familiar, place=bundle.place, hint=f"it holds {held}")


def parts_of(bundle: Bundle, item: Item, store: Store | None = None) -> dict[Digest, Descriptor]:
    """What a model and its attachments need, as far as manifests are in the bundle or the store."""
    return reachable_in(bundle, [item.descriptor, *_attached(bundle, item)], store)


def is_model(bundle: Bundle, item: Item) -> bool:
    """Whether an item is a model, and not what hangs on one."""
    if item.reference is not None and item.reference.tag is not None:
        return not attachments.is_attachment_tag(item.reference.tag)
    try:
        return bundle.manifest(item.descriptor.digest).subject is None
    except (BlobNotFound, IntegrityError):
        return True


def _obtainable(store: Store, bundle: Bundle, deltas: delta.Deltas, part: Descriptor) -> bool:
    return part.digest in deltas or bundle.exists(part) or store.exists(part)


def ask_policy(store: Store, bundle: Bundle, item: Item, on_event: OnEvent) -> None:
    """Ask the trust policy about a model of a bundle.

    Raises:
        Untrusted: where it refuses.
    """
    assert item.reference is not None
    digest = item.descriptor.digest
    content = bundle.manifest(digest) if digest in bundle.blobs.sizes else store.manifest(digest)
    gate.check_manifest(
        store,
        _Either(bundle, store),
        item.reference,
        content,
        bundle.attached(digest),
        on_event=on_event,
    )


def _bring(
    store: Store,
    bundle: Bundle,
    deltas: delta.Deltas,
    parts: dict[Digest, Descriptor],
    on_event: OnEvent,
) -> tuple[list[Descriptor], list[Descriptor]]:
    """Take in what the store lacks; gives what is damaged, and deltas without what they change."""
    damaged, baseless = [], []
    order = {digest: i for i, digest in enumerate(bundle.blobs.sizes)}
    for part in sorted(parts.values(), key=lambda item: order.get(item.digest, len(order))):
        if store.exists(part):
            on_event(Skipped(part))
            continue
        try:
            if bundle.exists(part):
                take(store, bundle, part, on_event)
            else:
                delta.apply(store, bundle, deltas[part.digest], part, on_event=on_event)
        except BlobNotFound:
            baseless.append(part)
        except IntegrityError:
            damaged.append(part)
    return damaged, baseless


def take(store: Store, bundle: Bundle, part: Descriptor, on_event: OnEvent) -> None:
    """Take one blob in, verified, by reflink where the file system can.

    Raises:
        IntegrityError: where its bytes are not what its name says.
        NoSpace: where the disk is full.
    """
    on_event(Started(part))
    piece = bundle.blobs.piece(part.digest)
    with store.ingest(algorithm=part.digest.algorithm) as ingest:
        if piece is not None:
            ingest.copy_range(
                *piece, part.size, on_bytes=lambda count: on_event(Advanced(part, count))
            )
        else:
            with bundle.fetch(part) as content:
                while ingest.size <= part.size and (data := content.read(_CHUNK)):
                    ingest.write(data)
                    on_event(Advanced(part, len(data)))
        ingest.commit(part)
    on_event(Finished(part))


def _name(store: Store, bundle: Bundle, item: Item) -> tuple[Reference, Descriptor]:
    assert item.reference is not None
    root = replace(item.descriptor, annotations={})
    for attachment in bundle.attached(root.digest):
        if attachment.kind != mediatypes.DELTA:
            attachments.finish(store, item.reference, attachment)
    store.tag(root, item.reference)
    return item.reference, root


def _attached(bundle: Bundle, item: Item) -> Iterator[Descriptor]:
    for attachment in bundle.attached(item.descriptor.digest):
        if attachment.kind != mediatypes.DELTA:
            yield attachment.manifest.descriptor


def reachable_in(
    bundle: Bundle, roots: Sequence[Descriptor], store: Store | None = None
) -> dict[Digest, Descriptor]:
    """Everything that these manifests lead to, as far as they are in the bundle or the store."""
    found: dict[Digest, Descriptor] = {}
    waiting = list(roots)
    while waiting:
        descriptor = waiting.pop()
        if descriptor.digest in found:
            continue
        found[descriptor.digest] = descriptor
        if is_manifest(descriptor):
            content = _manifest(bundle, store, descriptor.digest)
            waiting.extend(content.children if content is not None else ())
    return found


def _manifest(bundle: Bundle, store: Store | None, digest: Digest) -> Manifest | Index | None:
    try:
        return bundle.manifest(digest)
    except BlobNotFound:
        pass
    try:
        return store.manifest(digest) if store is not None else None
    except BlobNotFound:
        return None


def _title(descriptor: Descriptor) -> str:
    notes = descriptor.annotations
    name = notes.get(CNCF_FILEPATH) or notes.get(TITLE)
    return f"{descriptor.digest.algorithm}:{descriptor.digest.short}" + (f" {name}" if name else "")


class _Either:
    """A source that reads from the bundle what it has and from the store what it has not."""

    def __init__(self, bundle: Bundle, store: Store) -> None:
        self._bundle = bundle
        self._store = store
        self.place = bundle.place

    def resolve(self, reference: Reference) -> Descriptor:
        return self._bundle.resolve(reference)

    def exists(self, descriptor: Descriptor) -> bool:
        return self._bundle.exists(descriptor) or self._store.exists(descriptor)

    def fetch(self, descriptor: Descriptor, *, offset: int = 0) -> AbstractContextManager[Reader]:
        place = self._bundle if self._bundle.exists(descriptor) else self._store
        return place.fetch(descriptor, offset=offset)
