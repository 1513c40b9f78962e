"""Ollama's own store on disk, as a source of models and as a place to write them to.

Layout: ``manifests/<host>/<namespace>/<model>/<tag>`` are raw manifests, ``blobs/sha256-<hex>``
their blobs. Ollama verifies neither, so every byte that comes in is hashed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .conversion import convert_stored
from .descriptor import Descriptor
from .digest import Digest
from .errors import (
    BlobNotFound,
    DigestMismatch,
    InvalidReference,
    ManifestError,
    ModelNotFound,
    PannierError,
    SizeMismatch,
    TransferError,
)
from .manifest import MAX_MANIFEST_SIZE, parse_manifest
from .operations import model_manifest
from .reference import Reference
from .store.files import disk_errors
from .store.store import Store
from .transfer.events import Advanced, Finished, Noticed, OnEvent, Skipped, Started, ignore

# linux/fs.h: _IOW(0x94, 9, int).
_FICLONE = 0x40049409
_DIALECT = "ollama"


@dataclass(frozen=True, slots=True)
class Found:
    """A model in an Ollama store: its name, and the file of its manifest."""

    reference: Reference
    path: Path


def find_ollama_store(text: str) -> Path | None:
    """The Ollama store that a path means: itself, or the `models` directory in it; None if none."""
    path = Path(os.path.expanduser(text))
    for root in (path, path / "models"):
        if (root / "manifests").is_dir() and (root / "blobs").is_dir():
            return root
    return None


def list_models(root: Path) -> tuple[Found, ...]:
    """The models of an Ollama store, by name; files with impossible names are passed over."""
    found = []
    for path in sorted((root / "manifests").glob("*/*/*/*")):
        host, namespace, model, tag = path.relative_to(root / "manifests").parts
        with suppress(InvalidReference):
            if path.is_file():
                found.append(Found(Reference.parse(f"{host}/{namespace}/{model}:{tag}"), path))
    return tuple(found)


def import_models(
    store: Store,
    root: Path,
    references: Sequence[Reference] | None,
    *,
    link: bool = False,
    on_event: OnEvent = ignore,
) -> tuple[tuple[Reference, Descriptor], ...]:
    """Take models in, manifests byte for byte; each is named when all of it is here.

    Args:
        store: takes them in.
        root: the Ollama store, such as ``~/.ollama/models``.
        references: which ones; None for all, where a damaged one is passed over and told.
        link: share files by hard link where reflinks are not possible. A program that then
            changes one in place changes it for both.
        on_event: told of every blob.

    Raises:
        ModelNotFound: where one of the names is not there; nothing was taken in.
        IntegrityError: where a blob is not what its name says; its model gets no name.
    """
    models = {item.reference.key: item for item in list_models(root)}
    for reference in references or ():
        if reference.key not in models:
            raise ModelNotFound(reference.familiar, place=f"Ollama store {root}")
    wanted = (
        list(models.values())
        if references is None
        else [models[reference.key] for reference in references]
    )
    done = []
    for item in wanted:
        try:
            done.append((item.reference, _import(store, root, item, link, on_event)))
        except PannierError as error:
            if references is not None:
                raise
            on_event(Noticed(f"{item.reference.familiar} is left out: {error.message}"))
    return tuple(done)


def export_models(
    store: Store,
    references: Iterable[Reference],
    root: Path,
    *,
    link: bool = False,
    on_event: OnEvent = ignore,
) -> tuple[tuple[Reference, Digest], ...]:
    """Write models into an Ollama store, in its dialect; what it cannot express is told.

    Raises:
        ModelNotFound: where the store lacks one.
        TransferError: where a name has no place in that layout.
    """
    done = []
    for reference in references:
        target = _manifest_path(root, reference)
        converted = convert_stored(store, reference, _DIALECT)
        for line in converted.dropped:
            on_event(Noticed(f"{reference.familiar} loses {line}"))
        manifest = model_manifest(store, converted.descriptor.digest)
        for child in manifest.children:
            _export_blob(store, child, root, link, on_event)
        _write(target, partial(_write_bytes, manifest.raw))
        done.append((reference, manifest.descriptor.digest))
    return tuple(done)


def _import(store: Store, root: Path, item: Found, link: bool, on_event: OnEvent) -> Descriptor:
    raw = _read_manifest(item.path)
    manifest = parse_manifest(raw)
    with store.lease():
        for child in manifest.children:
            if store.exists(child):
                on_event(Skipped(child))
            else:
                _import_blob(store, root, child, link, on_event)
        descriptor = Descriptor(manifest.descriptor.media_type, Digest.of(raw), len(raw))
        store.push(descriptor, io.BytesIO(raw))
        store.tag(descriptor, item.reference)
    return descriptor


def _read_manifest(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_MANIFEST_SIZE + 1)
    except OSError as error:
        raise TransferError(f"cannot read {path}: {error.strerror}", place=str(path)) from error


def _import_blob(
    store: Store, root: Path, child: Descriptor, link: bool, on_event: OnEvent
) -> None:
    path = _blob_path(root, child.digest)
    place = str(path)
    if not path.is_file():
        raise BlobNotFound(str(child.digest), place=f"Ollama store {root}")
    if (size := path.stat().st_size) != child.size:
        raise SizeMismatch(str(child.digest), child.size, size, place=place)
    on_event(Started(child))
    try:
        if link and _linked(path, store.path(child.digest), child.digest):
            on_event(Finished(child))
            return
        digest, _ = store.ingest_file(path, on_bytes=lambda count: on_event(Advanced(child, count)))
    except OSError as error:
        raise TransferError(
            f"cannot read {path}: {error.strerror}",
            place=place,
            hint="Ollama's service keeps its files for itself: run this as its user or as root",
        ) from error
    if digest != child.digest:
        raise DigestMismatch(str(child.digest), str(digest), place=place)
    on_event(Finished(child))


def _linked(path: Path, target: Path, digest: Digest) -> bool:
    """Verify a file and link it in; False where the two places are on different file systems."""
    with path.open("rb") as stream:
        actual = Digest("sha256", hashlib.file_digest(stream, "sha256").hexdigest())
        if actual != digest:
            raise DigestMismatch(str(digest), str(actual), place=str(path))
        try:
            os.link(path, target)
        except FileExistsError:
            return True
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
                raise
            return False
    return True


def _blob_path(root: Path, digest: Digest) -> Path:
    if digest.algorithm != "sha256":
        raise ManifestError(f"Ollama has no place for a {digest.algorithm} digest")
    return root / "blobs" / f"sha256-{digest.hex}"


def _manifest_path(root: Path, reference: Reference) -> Path:
    parts = reference.repository.split("/")
    if len(parts) == 1:
        parts = ["library", *parts]
    if len(parts) != 2 or reference.tag is None:
        raise TransferError(
            f"Ollama cannot name {reference}: it wants HOST/NAMESPACE/MODEL:TAG",
            hint="give it such a name first with `pannier cp`",
        )
    return root / "manifests" / reference.host / parts[0] / parts[1] / reference.tag


def _export_blob(
    store: Store, child: Descriptor, root: Path, link: bool, on_event: OnEvent
) -> None:
    target = _blob_path(root, child.digest)
    if target.is_file() and target.stat().st_size == child.size:
        on_event(Skipped(child))
        return
    source = store.path(child.digest)
    on_event(Started(child))
    _write(target, lambda path: _copy(source, path, link))
    on_event(Finished(child))


def _write_bytes(data: bytes, path: Path) -> None:
    path.write_bytes(data)


def _copy(source: Path, target: Path, link: bool) -> None:
    if link:
        with suppress(OSError):
            os.link(source, target)
            return
    with source.open("rb") as reader, target.open("wb") as writer:
        try:
            fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
        except OSError:
            shutil.copyfileobj(reader, writer, 1 << 20)


def _write(path: Path, fill: Callable[[Path], object]) -> None:
    """Write a file beside its place, then rename it there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            fill(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
