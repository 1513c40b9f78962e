"""The local store: an OCI image layout that several processes may use at once.

Implements image-spec v1.1.1, image-layout.md. On disk::

    oci-layout  index.json  blobs/<algorithm>/<hex>   the layout, as any OCI tool reads it
    ingest/     leases/     .lock                     unfinished bytes; who is working; the lock

A blob file appears only after its bytes were verified and synced, a name only after everything
that it needs is there. Every method may be called from several threads.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Set
from contextlib import AbstractContextManager, contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Self

from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import (
    BlobNotFound,
    DigestMismatch,
    InvalidManifest,
    NoSpace,
    SizeMismatch,
)
from ..manifest import MAX_MANIFEST_SIZE, Index, Manifest, parse
from ..reference import Reference
from ..transfer.content import Reader
from . import collect as gc
from .collect import Collected
from .files import disk_errors, file_mark, replace_file
from .index import LAYOUT_FILE, Entry, EntryReader, StoreIndex, check_layout, read_index
from .ingest import Ingest
from .lock import DEFAULT_WAIT_S, flocked
from .lookup import find
from .partial import Partial, receive

_log = logging.getLogger(__name__)

_CHUNK = 1 << 20
# What a transfer leaves free: a fiftieth of its size, for journals and the file system's own.
_SPARE = 50


class Store:
    """One store directory. Holds no open files between calls and needs no closing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._seen: tuple[object, tuple[Entry, ...]] = (None, ())
        self._reader = EntryReader()
        self._reading = threading.Lock()

    @classmethod
    def open(cls, root: Path | None = None) -> Self:
        """Open the store at `root`, making it where it is absent.

        Args:
            root: None means the environment's PANNIER_HOME, else ~/.pannier.

        Raises:
            CorruptStore: where the directory is of another layout version.
        """
        if root is None:
            root = Path(os.environ.get("PANNIER_HOME") or "~/.pannier").expanduser()
        store = cls(root.absolute())
        with disk_errors(store.root):
            store._prepare()
        return store

    @property
    def place(self) -> str:
        """What messages call this store."""
        return f"store {self.root}"

    def path(self, digest: Digest) -> Path:
        """Where the blob of a digest lies, or would lie. The only maker of such paths."""
        return self.root / "blobs" / digest.algorithm / digest.hex

    # Reading

    def resolve(self, reference: Reference) -> Descriptor:
        """The manifest that a name stands for.

        Raises:
            ModelNotFound: where the store has no such name.
        """
        return self.find(reference).descriptor

    def exists(self, descriptor: Descriptor) -> bool:
        """Whether the blob is here in full length; if so, `collect` spares it for a while."""
        path = self.path(descriptor.digest)
        try:
            status = path.stat()
            if status.st_size != descriptor.size:
                return False
            if time.time() - status.st_mtime > gc.FRESH_S:
                self._refresh(path)
        except FileNotFoundError:
            return False
        return True

    @contextmanager
    def fetch(self, descriptor: Descriptor, *, offset: int = 0) -> Iterator[Reader]:
        """Open a blob from byte `offset` on; the caller verifies what it reads.

        Raises:
            BlobNotFound: where it is not here.
        """
        with self._open_blob(descriptor.digest) as file:
            file.seek(offset)
            yield file

    def read(self, descriptor: Descriptor, *, max_size: int) -> bytes:
        """A small blob, verified.

        Args:
            descriptor: what to read.
            max_size: bytes; a longer blob is refused.

        Raises:
            BlobNotFound: where it is not here.
            SizeMismatch: where it is longer than `max_size` or not as long as described.
            DigestMismatch: where the file was damaged.
        """
        digest = descriptor.digest
        if descriptor.size > max_size:
            raise SizeMismatch(str(digest), max_size, descriptor.size, place=self.place)
        with self._open_blob(digest) as file:
            data = file.read(descriptor.size + 1)
        if len(data) != descriptor.size:
            raise SizeMismatch(str(digest), descriptor.size, len(data), place=self.place)
        actual = Digest.of(data, algorithm=digest.algorithm)
        if actual != digest:
            raise DigestMismatch(str(digest), str(actual), place=self.place)
        return data

    def manifest(self, digest: Digest) -> Manifest | Index:
        """A stored manifest or index, parsed from its verified bytes.

        Raises:
            BlobNotFound: where it is not here.
            InvalidManifest: where the blob is no manifest.
            DigestMismatch: where the file was damaged.
        """
        try:
            size = self.path(digest).stat().st_size
        except FileNotFoundError:
            raise BlobNotFound(str(digest), place=self.place) from None
        if size > MAX_MANIFEST_SIZE:
            raise InvalidManifest(f"{size} bytes are over the limit", digest=str(digest))
        return parse(self.read(Descriptor("", digest, size), max_size=MAX_MANIFEST_SIZE))

    def entries(self) -> tuple[Entry, ...]:
        """Every model of the store, newest first.

        Raises:
            CorruptStore: where index.json cannot be read.
        """
        mark = file_mark(self.root / "index.json")
        if mark is None or mark != self._seen[0]:
            with self._reading:
                entries = read_index(self.root / "index.json", self._reader.read)
                self._seen = mark, entries
        return self._seen[1]

    def names(self) -> tuple[tuple[str | None, Descriptor], ...]:
        """Every descriptor of index.json with its name, also those that other tools wrote."""
        return self._index().names()

    def find(self, reference: Reference) -> Entry:
        """The entry of a name, without regard to case; a digest in the name decides.

        Raises:
            ModelNotFound: with a hint where a similar name exists.
        """
        return find(self.entries(), reference, self.place)

    # Writing

    def push(self, descriptor: Descriptor, content: Reader) -> None:
        """Take in one blob or manifest; `content` stays unread where the blob is here already.

        Raises:
            IntegrityError: where the bytes are not what the descriptor says.
            NoSpace: where the disk is full.
        """
        if self.exists(descriptor):
            return
        with self.ingest(algorithm=descriptor.digest.algorithm) as ingest:
            while ingest.size <= descriptor.size and (data := content.read(_CHUNK)):
                ingest.write(data)
            ingest.commit(descriptor)

    def tag(self, descriptor: Descriptor, reference: Reference) -> None:
        """Name a manifest, replacing what had the name.

        Raises:
            BlobNotFound: where the manifest, or a blob that it needs, is not here.
        """
        self.tag_as(descriptor, reference.name)

    def tag_as(self, descriptor: Descriptor, name: str) -> None:
        """`tag` with the name as index.json shall hold it."""
        manifest = self.manifest(descriptor.digest)
        described = Descriptor(
            descriptor.media_type or manifest.descriptor.media_type,
            descriptor.digest,
            manifest.descriptor.size,
            artifact_type=manifest.artifact_type,
        )
        with self._changed_index() as index:
            gc.require_closure(manifest.descriptor, self.manifest, self._has)
            self._write_index(index.with_name(name, described, time.time()))

    def untag(self, reference: Reference) -> Descriptor:
        """Remove a name; its blobs stay until `collect`.

        Raises:
            ModelNotFound: where the store has no such name.
        """
        with self._changed_index() as index:
            entry = self.find(reference)
            self._write_index(index.without_name(entry.reference.name))
        return entry.descriptor

    def discard(self, digest: Digest) -> bool:
        """Remove one blob now, however young; tells whether it went, which it does not if needed.

        Raises:
            BlobNotFound: where it is not here.
        """
        with self.lock(), disk_errors(self.root):
            roots = iter(self._index().descriptors)
            if any(item.digest == digest for item in gc.reachable(roots, self.manifest)):
                return False
            try:
                self.path(digest).unlink()
            except FileNotFoundError:
                raise BlobNotFound(str(digest), place=self.place) from None
        return True

    def ingest(self, *, algorithm: str = "sha256") -> Ingest:
        """Begin to take in a blob whose digest may not be known yet; a context manager.

        Raises:
            NoSpace: where the disk is full.
        """
        return Ingest(self.root / "ingest", algorithm=algorithm, path_of=self.path)

    def ingest_file(
        self, path: Path, *, on_bytes: Callable[[int], None] | None = None
    ) -> tuple[Digest, int]:
        """Take in a file: one pass over its bytes, by reflink where the file system can.

        Args:
            path: a regular file; OSError from opening or reading it is the caller's to explain.
            on_bytes: told how many further bytes are in, many times.

        Returns:
            Digest and size of the blob.
        """
        with open(path, "rb", buffering=0) as source, self.ingest() as ingest:
            ingest.copy_from(source.fileno(), on_bytes=on_bytes)
            return ingest.commit(), ingest.size

    def receive(
        self, descriptor: Descriptor, *, wait: Callable[[float], None]
    ) -> AbstractContextManager[Partial | None]:
        """Take in a blob in pieces, going on where an earlier process stopped.

        Args:
            descriptor: of the blob.
            wait: called with seconds to pause while another process receives the same blob.

        Yields:
            The unfinished blob, or None once the blob is here because another process brought it.
        """
        final = self.path(descriptor.digest)
        return receive(self.root / "ingest", final, descriptor, exists=self.exists, wait=wait)

    def require_space(self, size: int) -> None:
        """Check that `size` more bytes fit, with some to spare.

        Raises:
            NoSpace: naming what is needed and what is free.
        """
        status = os.statvfs(self.root)
        free, needed = status.f_bavail * status.f_frsize, size + size // _SPARE
        if needed > free:
            raise NoSpace(self.root, needed=needed, free=free)

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Keep `collect` from everything that is written or found here during the block.

        Whoever writes blobs and names them later holds one around both.
        """
        path = self.root / "leases" / f"{os.getpid()}-{os.urandom(8).hex()}"
        with disk_errors(path), flocked(self.root / ".lock", shared=True):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            os.close(fd)

    def lock(self, *, wait_s: float = DEFAULT_WAIT_S) -> AbstractContextManager[None]:
        """Hold the lock under which index.json changes; a dead process cannot hold it.

        Raises:
            StoreBusy: where another process held it for longer than `wait_s`.
        """
        return flocked(self.root / ".lock", wait_s=wait_s)

    def collect(
        self, *, grace_s: float, dry_run: bool = False, only: Set[Digest] | None = None
    ) -> Collected:
        """Remove what no name needs and nobody used within `grace_s` seconds, of `only` or all.

        Raises:
            BlobNotFound: where a named manifest is gone; nothing is removed then.
        """
        now = time.time()
        with self.lock(), disk_errors(self.root):
            roots = iter(self._index().descriptors)
            keep = {item.digest for item in gc.reachable(roots, self.manifest)}
            limit = gc.cut_off(now, grace_s, self.root / "leases")
            swept = self.root / "blobs"
            blobs = gc.sweep(swept, keep=keep, older_than=limit, dry_run=dry_run, only=only)
            rest = gc.sweep_unfinished(self.root / "ingest", now=now, dry_run=dry_run)
            saved = self.root / gc.STATES
            states = gc.sweep_states(saved, keep=keep, dry_run=dry_run, only=only)
        parts = (blobs, rest, states)
        return Collected(sum(part.count for part in parts), sum(part.size for part in parts))

    # Details

    def _prepare(self) -> None:
        layout, index = self.root / "oci-layout", self.root / "index.json"
        folders = [self.root / name for name in ("blobs/sha256", "ingest", "leases")]
        if not all(path.exists() for path in (layout, index, *folders)):
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
            with self.lock():
                if not index.is_file():
                    self._write_index(StoreIndex())
                if not layout.is_file():
                    replace_file(layout, LAYOUT_FILE)
        check_layout(layout)

    def _index(self) -> StoreIndex:
        return read_index(self.root / "index.json", StoreIndex.parse)

    @contextmanager
    def _changed_index(self) -> Iterator[StoreIndex]:
        with self.lock():
            yield self._index()

    def _write_index(self, index: StoreIndex) -> None:
        path = self.root / "index.json"
        with disk_errors(path):
            replace_file(path, index.render())

    def _open_blob(self, digest: Digest) -> BufferedReader:
        try:
            return open(self.path(digest), "rb")
        except FileNotFoundError:
            raise BlobNotFound(str(digest), place=self.place) from None

    def _has(self, descriptor: Descriptor) -> bool:
        """`exists` for a caller that holds the lock."""
        try:
            return self.path(descriptor.digest).stat().st_size == descriptor.size
        except FileNotFoundError:
            return False

    def _refresh(self, path: Path) -> None:
        """Mark a blob as used now, in order with a sweep that may be about to take it."""
        try:
            with flocked(self.root / ".lock"):
                os.utime(path)
        except FileNotFoundError:
            raise
        except OSError as error:
            _log.debug("cannot refresh %s: %s", path, error)
