"""What hangs on a manifest: signatures, block indexes, bills of material, any attestation.

Two forms exist and both are read: OCI referrers, manifests with a `subject` (image-spec v1.1.1,
manifest.md; distribution-spec v1.1.1, "Listing Referrers" and its fallback tag), and cosign's
tags `sha256-<hex>.sig`, `.att` and `.sbom` in the model's own repository.

In a store a referrer is an entry whose name is its own digest, so that nothing collects it and
every OCI tool finds it in index.json.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

from . import mediatypes
from .descriptor import Descriptor
from .digest import Digest
from .errors import (
    BlobNotFound,
    IntegrityError,
    InvalidManifest,
    ModelNotFound,
)
from .manifest import Index, Manifest, parse
from .reference import Reference
from .store.collect import is_manifest
from .store.index import Entry
from .store.store import Store
from .transfer.content import Source, Target, until_right
from .transfer.verify import read_manifest

EMPTY = b"{}"
# More than anybody hangs on one model; the rest of a hostile list is not looked at.
MAX_ATTACHMENTS = 256
# Larger ones are left where they are: what hangs on a model is a document and no weights.
MAX_ATTACHMENT_SIZE = 64 << 20
_SUFFIXES = (".sig", ".att", ".sbom")
_TAG = re.compile(r"sha(256|512)-[0-9a-f]{64,128}(\.sig|\.att|\.sbom)?")


@dataclass(frozen=True, slots=True)
class Attachment:
    """One attached manifest, and the tag that it is found by, None for a referrer."""

    manifest: Manifest
    tag: str | None = None

    @property
    def kind(self) -> str:
        """The artifact type, or the config's media type where there is none."""
        return self.manifest.artifact_type or self.manifest.config.media_type

    def reference_in(self, model: Reference) -> Reference:
        """The name of the attachment beside a model."""
        if self.tag is not None:
            return model.with_tag(self.tag)
        return model.with_tag(None).with_digest(self.manifest.descriptor.digest)


@runtime_checkable
class Referring(Protocol):
    """A source that may list referrers itself (the referrers API)."""

    def referrers(self, digest: Digest) -> Iterable[Descriptor] | None:
        """Descriptors of the manifests whose subject is `digest`; None where it cannot tell."""


def is_attachment_tag(tag: str) -> bool:
    """Whether a tag names what hangs on another manifest and no model."""
    return bool(_TAG.fullmatch(tag))


def is_attachment(store: Store, entry: Entry) -> bool:
    """Whether an entry of a store is an attachment and no model."""
    tag = entry.reference.tag
    if tag is not None:
        return is_attachment_tag(tag)
    try:
        return store.manifest(entry.descriptor.digest).subject is not None
    except (BlobNotFound, IntegrityError, InvalidManifest):
        return False


def model_entries(store: Store) -> tuple[Entry, ...]:
    """The entries that are models: neither what hangs on one, nor a nameless member of an index.

    The same order as `store.entries()`. A registry client pushes the members of an index by digest,
    before the index gets its tag; both are in one repository.
    """
    entries = tuple(entry for entry in store.entries() if not is_attachment(store, entry))
    if all(entry.reference.tag for entry in entries):
        return entries
    members = {
        (_repository(entry), digest)
        for entry in entries
        for digest in index_members(store, entry.descriptor)
    }
    return tuple(
        entry
        for entry in entries
        if entry.reference.tag or (_repository(entry), entry.descriptor.digest) not in members
    )


def index_members(store: Store, root: Descriptor) -> frozenset[Digest]:
    """The manifests that an index names, at any depth, as far as they are here."""
    found: set[Digest] = set()
    waiting = [root]
    while waiting:
        descriptor = waiting.pop()
        if descriptor.media_type not in mediatypes.INDEX_TYPES:
            continue
        with suppress(BlobNotFound, IntegrityError, InvalidManifest):
            for child in store.manifest(descriptor.digest).children:
                if is_manifest(child) and child.digest not in found:
                    found.add(child.digest)
                    waiting.append(child)
    return frozenset(found)


def in_store(store: Store, digest: Digest) -> tuple[Attachment, ...]:
    """What hangs on a manifest in a store, referrers first, in the order of their digests."""
    found: dict[Digest, Attachment] = {}
    stem = fallback_tag(digest)
    for entry in store.entries():
        attachment = _stored(store, entry, digest, stem)
        if attachment is not None:
            found[attachment.manifest.descriptor.digest] = attachment
    return tuple(sorted(found.values(), key=_order))[:MAX_ATTACHMENTS]


def in_source(source: Source, model: Reference, digest: Digest) -> tuple[Attachment, ...]:
    """What hangs on a manifest in a registry, up to a number and a size of each.

    Raises:
        TransferError: where it cannot be asked.
        IntegrityError: where it answers with other bytes than it names.
    """
    found: dict[Digest, Attachment] = {}
    for descriptor in list(_listed(source, model, digest))[:MAX_ATTACHMENTS]:
        content = read_manifest(source, descriptor)
        if isinstance(content, Manifest) and _subject(content) == digest:
            found[descriptor.digest] = Attachment(content)
    for suffix in _SUFFIXES:
        tag = fallback_tag(digest) + suffix
        try:
            content = read_manifest(source, source.resolve(model.with_tag(tag)))
        except ModelNotFound:
            continue
        if isinstance(content, Manifest):
            found[content.descriptor.digest] = Attachment(content, tag)
    small = (item for item in found.values() if item.manifest.size <= MAX_ATTACHMENT_SIZE)
    return tuple(sorted(small, key=_order))


def make_referrer(
    subject: Descriptor,
    *,
    artifact_type: str,
    layers: Iterable[Descriptor],
    annotations: Mapping[str, str],
) -> Manifest:
    """A referrer's manifest with an empty config; nothing is stored."""
    config = Descriptor(mediatypes.OCI_EMPTY, Digest.of(EMPTY), len(EMPTY))
    bare = Descriptor(subject.media_type, subject.digest, subject.size)
    document = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": config.to_json(),
        "layers": [layer.to_json() for layer in layers],
        "subject": bare.to_json(),
    }
    if annotations:
        document["annotations"] = dict(sorted(annotations.items()))
    raw = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    content = parse(raw)
    assert isinstance(content, Manifest)
    return content


def add(
    target: Target, model: Reference, attachment: Attachment, blobs: Mapping[Digest, bytes]
) -> None:
    """Write an attachment beside a model.

    Args:
        target: a store or a registry repository.
        model: the name of the model; host and repository count.
        attachment: what to write.
        blobs: the content of its config and layers.
    """
    manifest = attachment.manifest
    for descriptor in manifest.children:
        content = EMPTY if descriptor.digest == Digest.of(EMPTY) else blobs[descriptor.digest]
        target.push(descriptor, io.BytesIO(content))
    finish(target, model, attachment)


def copy_all(
    source: Source, target: Target, model: Reference, attachments: Iterable[Attachment]
) -> None:
    """Copy attachments with their blobs from one place to another.

    Raises:
        TransferError, IntegrityError: as `push` and `fetch` do.
    """
    for attachment in attachments:
        for descriptor in attachment.manifest.children:
            if not target.exists(descriptor):
                until_right(source, descriptor, partial(_copy_blob, source, target, descriptor))
        finish(target, model, attachment)


def _copy_blob(source: Source, target: Target, descriptor: Descriptor) -> None:
    with source.fetch(descriptor) as content:
        target.push(descriptor, content)


def finish(target: Target, model: Reference, attachment: Attachment) -> None:
    """Write an attachment's manifest, its blobs being there, and make it findable."""
    manifest = attachment.manifest
    target.push(manifest.descriptor, io.BytesIO(manifest.raw))
    if attachment.tag is not None or isinstance(target, Store):
        target.tag(manifest.descriptor, attachment.reference_in(model))
    elif not _lists(target, manifest):
        _add_to_fallback(target, model, manifest)


def remove_name(store: Store, model: Reference) -> None:
    """Take a model's name away, and what hangs on it where no other name needs it.

    With the name of an index go the digests that its members are called by in its repository.

    Raises:
        ModelNotFound: where the store has no such name.
    """
    root = store.untag(model)
    if any(entry.descriptor.digest == root.digest for entry in store.entries()):
        return
    found = {item.manifest.descriptor.digest for item in in_store(store, root.digest)}
    for entry in store.entries():
        if entry.descriptor.digest in found:
            store.untag(entry.reference)
    near = [e for e in store.entries() if _repository(e) == (model.host, model.repository.lower())]
    kept = {digest for entry in near for digest in index_members(store, entry.descriptor)}
    gone = index_members(store, root) - kept
    for entry in near:
        if entry.reference.tag is None and entry.descriptor.digest in gone:
            remove_name(store, entry.reference)


def _repository(entry: Entry) -> tuple[str, str]:
    return entry.reference.host, entry.reference.repository.lower()


def fallback_tag(digest: Digest) -> str:
    """The referrers tag of a digest (distribution-spec v1.1.1, "Referrers Tag Schema")."""
    return f"{digest.algorithm}-{digest.hex[:64]}"


def _stored(store: Store, entry: Entry, digest: Digest, stem: str) -> Attachment | None:
    tag = entry.reference.tag
    if tag is not None and tag not in [stem + suffix for suffix in _SUFFIXES]:
        return None
    try:
        content = store.manifest(entry.descriptor.digest)
    except (BlobNotFound, IntegrityError, InvalidManifest):
        return None
    if not isinstance(content, Manifest) or (tag is None and _subject(content) != digest):
        return None
    return Attachment(content, tag)


def _listed(source: Source, model: Reference, digest: Digest) -> Iterator[Descriptor]:
    listed = source.referrers(digest) if isinstance(source, Referring) else None
    if listed is not None:
        yield from listed
        return
    try:
        index = read_manifest(source, source.resolve(model.with_tag(fallback_tag(digest))))
    except ModelNotFound:
        return
    if isinstance(index, Index):
        yield from index.manifests


def _lists(target: Target, manifest: Manifest) -> bool:
    subject = _subject(manifest)
    if subject is None or not isinstance(target, Referring):
        return False
    listed = target.referrers(subject) or ()
    return any(item.digest == manifest.descriptor.digest for item in listed)


def _add_to_fallback(target: Target, model: Reference, manifest: Manifest) -> None:
    """Keep the index under the fallback tag, as clients must for registries without the API."""
    subject = _subject(manifest)
    assert subject is not None
    name = model.with_tag(fallback_tag(subject))
    described = manifest.descriptor
    try:
        index = read_manifest(target, target.resolve(name))
        listed = index.manifests if isinstance(index, Index) else ()
    except ModelNotFound:
        listed = ()
    if any(item.digest == described.digest for item in listed):
        return
    kind = manifest.artifact_type or manifest.config.media_type
    new = Descriptor(
        described.media_type, described.digest, described.size, manifest.annotations, kind
    )
    document = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_INDEX,
        "manifests": [item.to_json() for item in (*listed, new)],
    }
    raw = json.dumps(document, separators=(",", ":")).encode("utf-8")
    descriptor = Descriptor(mediatypes.OCI_INDEX, Digest.of(raw), len(raw))
    target.push(descriptor, io.BytesIO(raw))
    target.tag(descriptor, name)


def _subject(manifest: Manifest) -> Digest | None:
    return manifest.subject.digest if manifest.subject else None


def _order(attachment: Attachment) -> tuple[bool, Digest]:
    return attachment.tag is not None, attachment.manifest.descriptor.digest
