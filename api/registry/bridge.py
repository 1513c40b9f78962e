"""A bridge: another registry through this one, with the store as its cache.

Pulls go through and stay (`pannier.api.registry.fills`, `pannier.api.registry.cache`), pushes land
here, are verified, and go on with the operator's credentials before they are confirmed. While the
upstream registry is out of reach, what the cache has keeps being served.
"""

from __future__ import annotations

import io
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from pannier.pkgmgr.descriptor import Descriptor
from pannier.pkgmgr.dialects import modelpack, ollama
from pannier.pkgmgr.dialects.convert import convert, writable
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import (
    BlobNotFound,
    InvalidManifest,
    ModelNotFound,
    RegistryError,
    TransferError,
)
from pannier.pkgmgr.manifest import Index, Manifest
from pannier.pkgmgr.mediatypes import DOCKER_MANIFEST, INDEX_TYPES, MANIFEST_TYPES, OCTET_STREAM
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.store.collect import is_optional
from pannier.pkgmgr.store.store import Store
from pannier.pkgmgr.transfer.content import Reader
from pannier.pkgmgr.transfer.copy import read_manifest
from pannier.pkgmgr.transfer.registry import RegistryRepository
from pannier.pkgmgr.transfer.verify import VerifyingReader

from .cache import Cache
from .contents import Contents, lexical, parse_digest
from .errors import Code, Problem
from .fills import Fill, Fills, FollowedBlob, PassedBlob
from .source import Blob
from .uploads import Uploads
from .upstream import Upstream, is_down

# Manifests seen lately, whose blobs may be asked for next or are still on their way.
_MAX_PENDING = 256
_MAX_KNOWN = 16_384
# After a failure the upstream registry is left alone this long where the cache has an answer.
_DOWN_S = 5.0

_Answer = TypeVar("_Answer")


class Bridge:
    """A registry in front of another. Methods may be called from any thread.

    Args:
        cache: where models are kept; None where everything only goes through.
    """

    def __init__(
        self,
        store: Store,
        local: Contents,
        upstream: Upstream,
        uploads: Uploads,
        *,
        cache: Cache | None,
    ) -> None:
        self._store = store
        self._local = local
        self._upstream = upstream
        self._cache = cache
        self._fills = Fills(upstream, uploads, store.path, on_filled=self._filled)
        self._lock = threading.Lock()
        self._pending: OrderedDict[str, tuple[Reference, Descriptor]] = OrderedDict()
        self._known: OrderedDict[Digest, Descriptor] = OrderedDict()
        self._down_until = float("-inf")

    def repositories(self) -> list[str]:
        """What the upstream registry lists, else what is here."""
        try:
            return self._upstream.repositories()
        except (TransferError, ModelNotFound):
            return self._local.repositories()

    def tags(self, name: str) -> list[str]:
        """The upstream repository's tags, else those that are here."""
        try:
            with self._upstream.repository(name) as repository:
                return lexical(repository.list_tags())
        except ModelNotFound as error:
            raise Problem(Code.NAME_UNKNOWN, f"repository {name} is not known there") from error
        except TransferError as error:
            return self._while_down(error, lambda: self._local.tags(name))

    def manifest(self, name: str, reference: str) -> tuple[Descriptor, Manifest | Index]:
        """What the upstream registry has under a tag now, else what was there last."""
        wanted = self._wanted(name, reference)
        if time.monotonic() < self._down_until:
            try:
                return self._local.manifest(name, reference)
            except Problem:
                self._down_until = float("-inf")
        try:
            descriptor, content = self._ask(name, wanted)
        except TransferError as error:
            found = self._while_down(error, lambda: self._local.manifest(name, reference))
            self._down_until = time.monotonic() + _DOWN_S
            return found
        self._learn(wanted, descriptor, content)
        return descriptor, content

    def referrers(self, name: str, subject: Digest) -> Iterator[Descriptor]:
        """What the upstream registry lists, else what is here."""
        try:
            found = self._upstream.referrers(name, subject)
            yield from sorted(found, key=lambda item: str(item.digest))
        except TransferError as error:
            yield from self._while_down(error, lambda: self._local.referrers(name, subject))

    def blob(self, name: str, digest: Digest) -> Blob:
        """A blob from here, or from there."""
        try:
            return self._local.blob(name, digest)
        except BlobNotFound:
            descriptor = self._known.get(digest)
        if descriptor is None:
            size = self._upstream.blob_size(name, digest)
            descriptor = Descriptor(OCTET_STREAM, digest, size)
        if self._cache is None or not self._cache.fits(descriptor.size):
            return PassedBlob(self._upstream, name, descriptor)
        return FollowedBlob(self._fills, name, descriptor)

    @contextmanager
    def open(self, name: str, descriptor: Descriptor) -> Iterator[Reader]:
        """The content of a blob, from here or from there, not kept."""
        if self._store.exists(descriptor):
            with self._store.fetch(descriptor) as content:
                yield content
            return
        with (
            self._upstream.repository(name) as repository,
            repository.fetch(descriptor) as content,
        ):
            yield content

    def bring(self, name: str, descriptor: Descriptor) -> None:
        """Fetch a blob into the store, if this bridge keeps such.

        Raises:
            BlobNotFound: where it keeps none of that size.
            NetworkError: where fetching failed.
        """
        if self._store.exists(descriptor):
            return
        if self._cache is None or not self._cache.fits(descriptor.size):
            raise BlobNotFound(str(descriptor.digest))
        if (fill := self._fills.start(name, descriptor)) is not None:
            fill.wait()

    def put(
        self, name: str, content: Manifest | Index, *, digest: Digest, tags: tuple[str, ...]
    ) -> None:
        """Push a manifest on, with those of its blobs that only we have; then name it here.

        Raises:
            Problem: MANIFEST_BLOB_UNKNOWN where a blob is in neither place.
            TransferError: where the upstream registry refuses.
        """
        described = content.descriptor
        original = descriptor = Descriptor(described.media_type, digest, described.size)
        with self._upstream.repository(name) as repository:
            here = [self._push_child(repository, child) for child in content.children]
            try:
                repository.push(descriptor, io.BytesIO(content.raw))
            except RegistryError as error:
                if not (isinstance(content, Manifest) and _refuses_docker(error, described)):
                    raise
                descriptor = self._push_converted(name, repository, content)
            for tag in tags:
                repository.tag(descriptor, self._wanted(name, tag))
        if not all(here) or self._cache is None:
            return
        self._store.push(original, io.BytesIO(content.raw))
        self._store.push(described, io.BytesIO(content.raw))
        for reference in tags or (str(digest),):
            self._cache.adopt(self._wanted(name, reference), original)

    def delete(self, name: str, reference: str) -> None:
        """Refuse: what is deleted has to be deleted where it is."""
        raise Problem(Code.UNSUPPORTED, f"delete it at {self._upstream.home.host}")

    def delete_blob(self, name: str, digest: Digest) -> None:
        """Refuse, as `delete` does."""
        raise Problem(Code.UNSUPPORTED, f"delete it at {self._upstream.home.host}")

    def close(self) -> None:
        """End what is under way."""
        self._upstream.close()

    def _wanted(self, name: str, reference: str) -> Reference:
        if ":" in reference:
            return self._upstream.home.reference(name, digest=parse_digest(reference))
        return self._upstream.home.reference(name, tag=reference)

    def _ask(self, name: str, wanted: Reference) -> tuple[Descriptor, Manifest | Index]:
        if wanted.digest is not None and self._store.path(wanted.digest).exists():
            content = self._store.manifest(wanted.digest)
            kind, size = content.descriptor.media_type, content.descriptor.size
            return Descriptor(kind, wanted.digest, size), content
        with self._upstream.repository(name) as repository:
            descriptor = repository.resolve(wanted)
            try:
                return descriptor, self._store.manifest(descriptor.digest)
            except (BlobNotFound, InvalidManifest):
                content = read_manifest(repository, descriptor)
        if self._cache is not None:
            self._store.push(descriptor, io.BytesIO(content.raw))
        return descriptor, content

    def _learn(self, wanted: Reference, descriptor: Descriptor, content: Manifest | Index) -> None:
        """Remember what a manifest tells of its blobs, and name it once they are here."""
        with self._lock:
            for child in content.children:
                self._known[child.digest] = Descriptor(OCTET_STREAM, child.digest, child.size)
                self._known.move_to_end(child.digest)
            while len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)
            if wanted.tag is not None:
                self._pending[wanted.key] = wanted, descriptor
                self._pending.move_to_end(wanted.key)
            while len(self._pending) > _MAX_PENDING:
                self._pending.popitem(last=False)
        if self._cache is not None:
            self._cache.touch(wanted)
        self._settle()

    def _filled(self, fill: Fill) -> None:
        self._settle()

    def _settle(self) -> None:
        """Name every manifest whose last blob has come."""
        if self._cache is None:
            return
        with self._lock:
            waiting = list(self._pending.items())
        for key, (reference, descriptor) in waiting:
            if not self._is_whole(descriptor):
                continue
            self._cache.adopt(reference, descriptor)
            with self._lock:
                if self._pending.get(key) == (reference, descriptor):
                    del self._pending[key]

    def _is_whole(self, descriptor: Descriptor) -> bool:
        if not self._store.exists(descriptor):
            return False
        if descriptor.media_type not in MANIFEST_TYPES | INDEX_TYPES:
            return True
        children = self._store.manifest(descriptor.digest).children
        return all(is_optional(child) or self._is_whole(child) for child in children)

    def _push_child(self, repository: RegistryRepository, child: Descriptor) -> bool:
        """Make sure that the upstream registry has a blob; tells whether we have it, too."""
        is_here = self._store.exists(child)
        if is_optional(child) or repository.exists(child):
            return is_here
        if not is_here:
            raise Problem(Code.MANIFEST_BLOB_UNKNOWN, f"blob {child.digest} is not here")
        with self._store.fetch(child) as content:
            repository.push(child, content)
        return True

    def _push_converted(
        self, name: str, repository: RegistryRepository, manifest: Manifest
    ) -> Descriptor:
        """Push an Ollama model as a ModelPack one, which keeps the original within it."""

        def open_blob(descriptor: Descriptor) -> bytes:
            with self.open(name, descriptor) as content:
                return VerifyingReader(content, descriptor).read()

        spec = ollama.read(manifest, open_blob)
        made = convert(manifest, spec, writable(modelpack.name), open_blob)
        original = Descriptor(OCTET_STREAM, manifest.descriptor.digest, len(manifest.raw))
        for descriptor, data in (*made.blobs, (original, manifest.raw)):
            repository.push(descriptor, io.BytesIO(data))
        repository.push(made.descriptor, io.BytesIO(made.manifest))
        return made.descriptor

    def _while_down(self, error: TransferError, answer: Callable[[], _Answer]) -> _Answer:
        """What the cache says instead, where an error means that nobody can be asked."""
        if not is_down(error):
            raise error
        try:
            return answer()
        except Problem:
            raise error from None


def _refuses_docker(error: RegistryError, described: Descriptor) -> bool:
    """Whether a registry takes OCI manifests only: zot says 415, others 400 or 404."""
    kind = described.media_type
    return kind == DOCKER_MANIFEST and error.status in (400, 404, 406, 415)
