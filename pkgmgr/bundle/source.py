"""A bundle as a place to read from: a tar, its volumes, or an OCI layout directory.

Implements image-spec v1.1.1, image-layout.md. Opening a tar walks its headers once and reads no
weights; after that every blob can be fetched at any offset, from several threads.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .. import attachments, strictjson
from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import (
    BlobNotFound,
    DigestMismatch,
    InvalidBundle,
    InvalidDigest,
    InvalidManifest,
    InvalidReference,
    ModelNotFound,
    SizeMismatch,
    TruncatedBundle,
)
from ..manifest import MAX_MANIFEST_SIZE, Index, Manifest, parse
from ..mediatypes import REF_NAME
from ..reference import Reference
from ..store.collect import is_manifest
from ..store.index import StoreIndex
from ..transfer.content import Reader
from ..transfer.verify import read_small
from .tarstream import INDEX_NAME, LAYOUT_NAME, TarStream
from .volumes import Cursor, Volumes, find

MAX_LAYOUT = 4096
# Some 15,000 names.
MAX_INDEX = 4 << 20


@dataclass(frozen=True, slots=True)
class Item:
    """One descriptor of a bundle's index. `reference` is None where it has no full name."""

    descriptor: Descriptor
    reference: Reference | None
    name: str


class Bundle:
    """An open bundle; a `Source`. Made by `open_bundle`, which closes it.

    Attributes:
        items: what its index.json names, in order.
        damage: why less can be read than it should hold, None where all is well.
        damaged: blobs that are known to be damaged; manifests among them count as absent.
    """

    def __init__(self, place: str, index: StoreIndex, blobs: Blobs) -> None:
        self.place = place
        self.damage: str | None = None
        self.damaged: set[Digest] = set()
        self.items = tuple(_item(descriptor) for descriptor in index.descriptors)
        self.blobs = blobs

    def resolve(self, reference: Reference) -> Descriptor:
        """The manifest that a name stands for in this bundle.

        Raises:
            ModelNotFound: where the bundle has no such name.
        """
        for item in self.items:
            if item.reference is not None and item.reference.key == reference.key:
                return item.descriptor
        raise ModelNotFound(reference.familiar, place=self.place)

    def exists(self, descriptor: Descriptor) -> bool:
        """Whether the bundle holds a blob in full length, as far as is known in good order."""
        if descriptor.digest in self.damaged:
            return False
        return self.blobs.sizes.get(descriptor.digest) == descriptor.size

    @contextmanager
    def fetch(self, descriptor: Descriptor, *, offset: int = 0) -> Iterator[Reader]:
        """Open a blob from byte `offset` on; the caller verifies what it reads.

        Raises:
            BlobNotFound: where the bundle lacks it.
        """
        if descriptor.digest not in self.blobs.sizes:
            raise BlobNotFound(str(descriptor.digest), place=self.place)
        with self.blobs.open(descriptor.digest, offset) as content:
            yield content

    def manifest(self, digest: Digest) -> Manifest | Index:
        """A manifest of the bundle, verified.

        Raises:
            BlobNotFound, InvalidManifest, IntegrityError: as it is.
        """
        size = self.blobs.sizes.get(digest)
        if size is None or digest in self.damaged:
            raise BlobNotFound(str(digest), place=self.place)
        if size > MAX_MANIFEST_SIZE:
            raise InvalidManifest(f"{size} bytes are over the limit", digest=str(digest))
        return parse(read_small(self, Descriptor("", digest, size)))

    def note_damaged_manifests(self) -> None:
        """Look at every manifest, so that a damaged one is no obstacle to the others."""
        waiting = [item.descriptor for item in self.items]
        seen: set[Digest] = set()
        while waiting:
            digest = waiting.pop().digest
            if digest in seen:
                continue
            seen.add(digest)
            try:
                waiting += filter(is_manifest, self.manifest(digest).children)
            except (BlobNotFound, InvalidManifest):
                continue
            except (DigestMismatch, SizeMismatch):
                self.damaged.add(digest)

    def attached(self, digest: Digest) -> tuple[attachments.Attachment, ...]:
        """What hangs on a manifest in this bundle."""
        stem = attachments.fallback_tag(digest)
        found = []
        for item in self.items:
            tag = item.reference.tag if item.reference else None
            if not is_manifest(item.descriptor) or (tag and not tag.startswith(stem)):
                continue
            try:
                content = self.manifest(item.descriptor.digest)
            except BlobNotFound:
                continue
            hangs = content.subject is not None and content.subject.digest == digest
            if isinstance(content, Manifest) and (tag or hangs):
                found.append(attachments.Attachment(content, tag))
        return tuple(found)


class Blobs(Protocol):
    """Where the blobs of a bundle lie."""

    @property
    def sizes(self) -> Mapping[Digest, int]:
        """Every blob that is whole, with its size in bytes, in the order of the medium."""

    def open(self, digest: Digest, offset: int) -> AbstractContextManager[Reader]:
        """The content from an offset on."""

    def piece(self, digest: Digest) -> tuple[int, int] | None:
        """An open file and the offset at which the whole content lies in it, if it does."""


class TarBlobs:
    """The blobs of a tar, where the walk over its headers found them."""

    def __init__(self, volumes: Volumes, places: Mapping[Digest, tuple[int, int]]) -> None:
        self._volumes = volumes
        self._places = places
        self.sizes: Mapping[Digest, int] = {digest: size for digest, (_, size) in places.items()}

    @contextmanager
    def open(self, digest: Digest, offset: int) -> Iterator[Reader]:
        """The content from an offset on."""
        begin, size = self._places[digest]
        yield Cursor(self._volumes, begin + min(offset, size), begin + size)

    def piece(self, digest: Digest) -> tuple[int, int] | None:
        """An open file and the offset at which the whole content lies in it, if it does."""
        return self._volumes.piece(*self._places[digest])


class DirectoryBlobs:
    """The blobs of an OCI layout directory. Links are not followed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.sizes: Mapping[Digest, int] = dict(_files(root))

    @contextmanager
    def open(self, digest: Digest, offset: int) -> Iterator[Reader]:
        """The content from an offset on."""
        path = self._root / "blobs" / digest.algorithm / digest.hex
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb") as file:
            file.seek(offset)
            yield file

    def piece(self, digest: Digest) -> tuple[int, int] | None:
        """None: a file of a directory is opened when it is read."""
        return None


@contextmanager
def open_bundle(path: Path) -> Iterator[Bundle]:
    """Open a bundle for reading.

    Raises:
        InvalidBundle: where it is none.
        FileNotFoundError: where there is nothing of that name.
    """
    with ExitStack() as closing:
        if path.is_dir():
            bundle = _open_directory(path)
        else:
            bundle = _open_tar(path, closing.enter_context(Volumes(find(path))))
        bundle.note_damaged_manifests()
        yield bundle


def _open_tar(path: Path, volumes: Volumes) -> Bundle:
    place = str(path)
    places: dict[Digest, tuple[int, int]] = {}
    index: StoreIndex | None = None
    has_layout = False
    stream = TarStream(Cursor(volumes), place=place, seekable=True)
    damage = None
    try:
        for member in stream:
            if member.digest is not None:
                if member.offset + member.size <= volumes.size:
                    places[member.digest] = (member.offset, member.size)
            elif member.name == LAYOUT_NAME:
                check_layout(stream.read_all(member, max_size=MAX_LAYOUT), place)
                has_layout = True
            else:
                index = parse_index(stream.read_all(member, max_size=MAX_INDEX), place)
    except TruncatedBundle as error:
        if index is None or not has_layout:
            raise
        damage = error.reason
    if index is None or not has_layout:
        missing = INDEX_NAME if has_layout else LAYOUT_NAME
        raise InvalidBundle(place, f"not an OCI archive: it has no {missing}")
    bundle = Bundle(place, index, TarBlobs(volumes, places))
    bundle.damage = damage
    return bundle


def _open_directory(path: Path) -> Bundle:
    place = str(path)
    check_layout(_small_file(path / LAYOUT_NAME, MAX_LAYOUT, place), place)
    index = parse_index(_small_file(path / INDEX_NAME, MAX_INDEX, place), place)
    return Bundle(place, index, DirectoryBlobs(path))


def check_layout(raw: bytes, place: str) -> None:
    """Check an `oci-layout` file.

    Raises:
        InvalidBundle: where it is of another version or no such file.
    """
    try:
        version = strictjson.loads(raw, max_size=MAX_LAYOUT)["imageLayoutVersion"]
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidBundle(place, "its oci-layout file is malformed") from error
    if version != "1.0.0":
        raise InvalidBundle(place, f"its layout version is {str(version)[:20]!r}, not 1.0.0")


def parse_index(raw: bytes, place: str) -> StoreIndex:
    """Read a bundle's index.json.

    Raises:
        InvalidBundle: where it is malformed or names nothing.
    """
    try:
        index = StoreIndex.parse(raw)
    except InvalidManifest as error:
        raise InvalidBundle(place, f"its index.json is malformed: {error.reason}") from error
    if not index.descriptors:
        raise InvalidBundle(place, "its index.json names nothing")
    if not all(is_manifest(item) for item in index.descriptors):
        raise InvalidBundle(place, "its index.json names something that is no manifest")
    return index


def _item(descriptor: Descriptor) -> Item:
    name = descriptor.annotations.get(REF_NAME, "")
    try:
        reference = Reference.parse(name)
    except InvalidReference:
        return Item(descriptor, None, name)
    return Item(descriptor, reference if reference.name == name else None, name)


def _small_file(path: Path, limit: int, place: str) -> bytes:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb") as file:
            raw = file.read(limit + 1)
    except OSError as error:
        raise InvalidBundle(
            place, f"not an OCI layout: {path.name}: {error.strerror or error}"
        ) from error
    if len(raw) > limit:
        raise InvalidBundle(place, f"{path.name} is over {limit} bytes")
    return raw


def _files(root: Path) -> Iterator[tuple[Digest, int]]:
    for algorithm in ("sha256", "sha512"):
        try:
            entries = list(os.scandir(root / "blobs" / algorithm))
        except (FileNotFoundError, NotADirectoryError):
            continue
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            try:
                digest = Digest.parse(f"{algorithm}:{entry.name}")
            except InvalidDigest:
                continue
            if stat.S_ISREG(status.st_mode):
                yield digest, status.st_size
