"""What the repositories of a store hold, and the rules by which it changes.

Knows no HTTP. A manifest belongs to a repository when a name of that repository leads to it, by
its tag, by its digest, or through an index. One invariant keeps digests usable and lists short: a
manifest has a name by digest exactly while no tag of the repository leads to it, so replacing or
deleting a tag never takes away what somebody pinned.

Blobs belong to the store: whoever may ask this registry may have any of them under any repository.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import lru_cache

from pannier.pkgmgr.descriptor import Descriptor
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import BlobNotFound, InvalidDigest
from pannier.pkgmgr.manifest import Index, Manifest
from pannier.pkgmgr.mediatypes import INDEX_TYPES
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.store.collect import is_optional
from pannier.pkgmgr.store.index import Entry
from pannier.pkgmgr.store.store import Store
from pannier.pkgmgr.transfer.content import Reader

from .errors import Code, Problem
from .names import Home
from .source import StoredBlob

# Parsed manifests are immutable; one of usual size costs 0.2 ms to parse. Large ones are not kept,
# because whoever may push could fill the memory with them.
_PARSED = 512
_PARSED_SIZE = 64 << 10


class Contents:
    """The repositories of one store. Methods may be called from any thread."""

    def __init__(self, store: Store, home: Home) -> None:
        self._store = store
        self._home = home
        self._changing = threading.RLock()
        self._parse_small = lru_cache(maxsize=_PARSED)(store.manifest)

    def repositories(self) -> list[str]:
        """The names of all repositories, sorted."""
        names = {self._home.repository(entry.reference) for entry in self._store.entries()}
        return sorted(name for name in names if name is not None)

    def tags(self, name: str) -> list[str]:
        """The tags of a repository, sorted.

        Raises:
            Problem: NAME_UNKNOWN where there is no such repository.
        """
        entries = self._entries(name)
        if not entries:
            raise Problem(Code.NAME_UNKNOWN, f"repository {name} is not known here")
        return lexical(tag for entry in entries if (tag := entry.reference.tag) is not None)

    def manifest(self, name: str, reference: str) -> tuple[Descriptor, Manifest | Index]:
        """The manifest that a tag or digest of a repository stands for.

        Raises:
            Problem: MANIFEST_UNKNOWN, DIGEST_INVALID.
            InvalidReference: for a name or tag outside the grammar.
        """
        descriptor = self._resolve(name, reference)
        return descriptor, self._parse(descriptor.digest)

    def referrers(self, name: str, subject: Digest) -> Iterator[Descriptor]:
        """Descriptors of the manifests with that subject, as the referrers API shows them."""
        found = {str(item.digest): item for item in self._members(name)}
        for _, descriptor in sorted(found.items()):
            content = self._parse(descriptor.digest)
            if content.subject is not None and content.subject.digest == subject:
                yield _referrer(descriptor, content)

    def blob(self, name: str, digest: Digest) -> StoredBlob:
        """A blob of the store.

        Raises:
            BlobNotFound: where it is not here.
        """
        try:
            return StoredBlob(self._store.path(digest))
        except FileNotFoundError:
            raise BlobNotFound(str(digest)) from None

    def open(self, name: str, descriptor: Descriptor) -> AbstractContextManager[Reader]:
        """Open a blob of the store.

        Raises:
            BlobNotFound: where it is not here.
        """
        return self._store.fetch(descriptor)

    def bring(self, name: str, descriptor: Descriptor) -> None:
        """See that a blob is in the store.

        Raises:
            BlobNotFound: where it is not.
        """
        if not self._store.exists(descriptor):
            raise BlobNotFound(str(descriptor.digest))

    def put(
        self, name: str, content: Manifest | Index, *, digest: Digest, tags: tuple[str, ...]
    ) -> None:
        """Store a manifest whose blobs are here and name it by its tags, or by digest without one.

        Raises:
            Problem: MANIFEST_BLOB_UNKNOWN, MANIFEST_INVALID where sizes differ.
            InvalidReference: for a name or tag outside the grammar.
        """
        references = [self._home.reference(name, tag=tag) for tag in tags]
        by_digest = self._home.reference(name, digest=digest)
        self._require_children(content)
        descriptor = replace(content.descriptor, digest=digest)
        # By sha256 too, which is what the store itself goes by.
        for item in dict.fromkeys((digest, content.descriptor.digest)):
            self._store.push(replace(descriptor, digest=item), io.BytesIO(content.raw))
        with self._changing:
            for reference in references:
                self._keep_by_digest(name, reference)
                self._store.tag(descriptor, reference)
            named = [item for item in self._entries(name) if item.descriptor.digest == digest]
            if not any(item.reference.tag for item in named):
                self._store.tag(descriptor, by_digest)
            elif not all(item.reference.tag for item in named):
                self._store.untag(by_digest)

    def delete(self, name: str, reference: str) -> None:
        """Remove a tag, or a manifest with all its tags.

        Raises:
            Problem: MANIFEST_UNKNOWN; DENIED while an index of the repository needs it.
        """
        with self._changing:
            descriptor = self._resolve(name, reference)
            if ":" not in reference:
                wanted = self._home.reference(name, tag=reference)
                self._keep_by_digest(name, wanted)
                self._store.untag(wanted)
                return
            if descriptor.digest in {item.digest for item in self._children(name)}:
                raise Problem(Code.DENIED, "an index of this repository needs the manifest", 405)
            for entry in self._entries(name):
                if entry.descriptor.digest == descriptor.digest:
                    self._store.untag(entry.reference)

    def delete_blob(self, name: str, digest: Digest) -> None:
        """Remove a blob.

        Raises:
            BlobNotFound: where it is not here.
            Problem: DENIED while a manifest needs it.
        """
        if not self._store.discard(digest):
            raise Problem(Code.DENIED, "a manifest needs this blob", 405)

    def _resolve(self, name: str, reference: str) -> Descriptor:
        if ":" in reference:
            digest = parse_digest(reference)
            for descriptor in self._members(name):
                if descriptor.digest == digest:
                    return descriptor
        else:
            wanted = self._home.reference(name, tag=reference).key
            for entry in self._entries(name):
                if entry.reference.key == wanted:
                    return entry.descriptor
        raise Problem(Code.MANIFEST_UNKNOWN, f"{name} has no manifest {reference}")

    def _entries(self, name: str) -> list[Entry]:
        sample = self._home.reference(name)
        return [
            entry
            for entry in self._store.entries()
            if entry.reference.host == sample.host
            and entry.reference.repository.lower() == sample.repository
        ]

    def _members(self, name: str) -> Iterator[Descriptor]:
        for entry in self._entries(name):
            yield entry.descriptor
        yield from self._children(name)

    def _children(self, name: str) -> Iterator[Descriptor]:
        """The manifests that a repository's indexes name, at any depth."""
        seen: set[Digest] = set()
        waiting = [entry.descriptor for entry in self._entries(name)]
        while waiting:
            descriptor = waiting.pop()
            if descriptor.digest in seen or descriptor.media_type not in INDEX_TYPES:
                continue
            seen.add(descriptor.digest)
            children = self._parse(descriptor.digest).children
            yield from children
            waiting.extend(children)

    def _parse(self, digest: Digest) -> Manifest | Index:
        try:
            size = self._store.path(digest).stat().st_size
        except FileNotFoundError:
            raise BlobNotFound(str(digest)) from None
        return (self._parse_small if size <= _PARSED_SIZE else self._store.manifest)(digest)

    def _keep_by_digest(self, name: str, reference: Reference) -> None:
        """Name what a tag leads to by its digest, if nothing else of the repository would."""
        entries = self._entries(name)
        losing = [entry for entry in entries if entry.reference.key == reference.key]
        for entry in losing:
            digest = entry.descriptor.digest
            others = [
                item for item in entries if item is not entry and item.descriptor.digest == digest
            ]
            if not others:
                self._store.tag(entry.descriptor, reference.with_tag(None).with_digest(digest))

    def _require_children(self, content: Manifest | Index) -> None:
        for child in content.children:
            if self._store.exists(child) or is_optional(child):
                continue
            if self._store.path(child.digest).exists():
                raise Problem(Code.MANIFEST_INVALID, f"size of {child.digest} is not {child.size}")
            raise Problem(Code.MANIFEST_BLOB_UNKNOWN, f"blob {child.digest} is not here")


def _referrer(descriptor: Descriptor, content: Manifest | Index) -> Descriptor:
    """An index without artifactType has none; a manifest has its config's type then."""
    kind = content.artifact_type
    if kind is None and isinstance(content, Manifest):
        kind = content.config.media_type
    return Descriptor(
        descriptor.media_type, descriptor.digest, len(content.raw), content.annotations, kind
    )


def lexical(names: Iterable[str]) -> list[str]:
    """In the spec's order of names: alphanumeric without regard to case ("Listing Tags")."""
    return sorted(names, key=lexical_key)


def lexical_key(name: str) -> tuple[str, str]:
    """What the order goes by."""
    return name.lower(), name


def parse_digest(text: str) -> Digest:
    """A digest of a URL.

    Raises:
        Problem: DIGEST_INVALID.
    """
    try:
        return Digest.parse(text)
    except InvalidDigest as error:
        raise Problem(Code.DIGEST_INVALID, error.message) from error
