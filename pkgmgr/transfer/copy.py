"""Copying a manifest with everything it needs from one target to another.

Blobs first, then the manifests from the leaves to the root; the name is the caller's to write,
last. Nothing is copied that the target has.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor
from concurrent.futures import wait as wait_all
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import (
    BlobNotFound,
    Cancelled,
    DigestMismatch,
    IntegrityError,
    InvalidManifest,
    RegistryError,
    TransferError,
)
from ..manifest import Index, Manifest
from ..mediatypes import INDEX_TYPES, MANIFEST_TYPES
from ..store.store import Store
from . import verify
from .content import Mirrored, Reader, Source, Target, until_right
from .download import MAX_CONNECTIONS, Download, Ranged
from .events import (
    Advanced,
    Event,
    Finished,
    Noticed,
    OnEvent,
    Planned,
    Retried,
    Skipped,
    Started,
    ignore,
)
from .origin import Origin
from .retry import RetryPolicy, Stop
from .sizedbody import can_seek, seek_of


@runtime_checkable
class Leasing(Protocol):
    """A target that collects what nothing needs, and can be asked not to."""

    def lease(self) -> AbstractContextManager[None]:
        """Keep what is written and found during the block."""


@runtime_checkable
class Patient(Protocol):
    """A place over a network, where trying again may help."""

    @property
    def retry(self) -> RetryPolicy:
        """How often, and after how long."""

    @property
    def stop(self) -> Stop:
        """The wish to end."""

    @property
    def jobs(self) -> int:
        """How many blobs may move at the same time."""


@runtime_checkable
class Mounting(Protocol):
    """A repository that can take blobs over from others of its registry."""

    @property
    def origin(self) -> Origin:
        """Of the registry."""

    @property
    def api_name(self) -> str:
        """Of the repository."""

    def mount(self, descriptor: Descriptor, source: str) -> bool:
        """Ask for a blob of the repository `source`; whether it was given."""


@runtime_checkable
class Resending(Protocol):
    """A place that may say that it has a blob and not have it."""

    def resend(self, descriptor: Descriptor, content: Reader, /) -> None:
        """Take in a blob, whatever the place says of having it."""


# Up to this size a blob is fetched again rather than gone on with.
_SMALL = 1 << 20
# An index may nest; a cycle cannot be built with digests, but a chain can be long.
_MAX_MANIFESTS = 256


def copy(
    source: Source,
    target: Target,
    root: Descriptor,
    *,
    on_event: OnEvent = ignore,
    mounts: Mapping[Digest, str] = MappingProxyType({}),
) -> None:
    """Copy `root` and all that it needs; at the end the target holds it, without a name.

    Args:
        source: where from.
        target: where to.
        root: a manifest or index, as `source.resolve` gives it.
        on_event: is told what happens, from several threads.
        mounts: repositories of the target's registry that are likely to hold a blob.

    Raises:
        IntegrityError: where bytes are not what their descriptor says.
        TransferError, NotFound, NoSpace: where a place fails.
    """
    believed: set[Digest] = set()

    def watch(event: Event) -> None:
        if isinstance(event, Skipped):
            believed.add(event.descriptor.digest)
        on_event(event)

    jobs = min([item.jobs for item in (source, target) if isinstance(item, Patient)], default=1)
    with _leased(target):
        manifests = _manifests(source, root)
        blobs = _blobs(manifests)
        if isinstance(target, Store):
            target.require_space(sum(blob.size for blob in blobs if not target.exists(blob)))
        on_event(Planned((*blobs, *(item.descriptor for item in manifests))))
        _each(
            blobs,
            lambda blob: _copy_blob(source, target, blob, watch, mounts.get(blob.digest)),
            jobs,
            lambda: _interrupt(source, target),
        )
        for manifest in reversed(manifests):
            _push_manifest(source, target, manifest, believed, on_event)


def _manifests(source: Source, root: Descriptor) -> list[Manifest | Index]:
    """The root and every manifest below it, parents first."""
    found: dict[Digest, Manifest | Index] = {}
    waiting = [root]
    while waiting:
        descriptor = waiting.pop(0)
        if descriptor.digest in found:
            continue
        if len(found) >= _MAX_MANIFESTS:
            raise InvalidManifest(f"more than {_MAX_MANIFESTS} manifests hang together")
        content = read_manifest(source, descriptor)
        found[descriptor.digest] = content
        if isinstance(content, Index):
            waiting += [item for item in content.children if _is_manifest(item)]
    return list(found.values())


def read_manifest(source: Source, descriptor: Descriptor) -> Manifest | Index:
    """`verify.read_manifest` that also holds the manifest against its announced type.

    Raises:
        InvalidManifest: where it is none, too long, or of another type than described.
        IntegrityError: where the bytes are not what the descriptor says.
    """
    manifest = verify.read_manifest(source, descriptor)
    if descriptor.media_type and manifest.descriptor.media_type != descriptor.media_type:
        raise InvalidManifest(
            f"it was announced as {descriptor.media_type} and says that it is "
            f"{manifest.descriptor.media_type}",
            digest=str(descriptor.digest),
        )
    return manifest


def _blobs(manifests: list[Manifest | Index]) -> list[Descriptor]:
    """Every blob once, the small ones first; sizes that contradict are refused.

    The largest goes right behind the smallest, so that the many small ones move beside it.
    """
    found: dict[Digest, Descriptor] = {}
    for manifest in manifests:
        every = manifest.children if isinstance(manifest, Index) else manifest.layers
        own = () if isinstance(manifest, Index) else (manifest.config,)
        for child in (*own, *every):
            if isinstance(manifest, Index) and _is_manifest(child):
                continue
            known = found.setdefault(child.digest, child)
            if known.size != child.size:
                raise InvalidManifest(f"two sizes for {child.digest}")
    blobs = sorted(found.values(), key=lambda item: item.size)
    return [*blobs[:1], *blobs[:1:-1][:1], *blobs[1:-1]] if len(blobs) > 2 else blobs


def _copy_blob(
    source: Source, target: Target, blob: Descriptor, on_event: OnEvent, mount: str | None
) -> None:
    if target.exists(blob):
        on_event(Skipped(blob))
    elif _mounted(source, target, blob, mount):
        on_event(Skipped(blob, "mounted"))
    elif isinstance(source, Ranged) and isinstance(target, Store) and blob.size > _SMALL:
        _receive(source, target, blob, on_event)
    else:
        _send(source, target.push, target, blob, on_event)


def _mounted(source: Source, target: Target, blob: Descriptor, mount: str | None) -> bool:
    """Whether the registry took the blob over from another repository of its own."""
    if not isinstance(target, Mounting):
        return False
    if isinstance(source, Mounting) and source.origin == target.origin:
        mount = source.api_name
    return mount is not None and target.mount(blob, mount)


def _receive(source: Ranged, target: Store, blob: Descriptor, on_event: OnEvent) -> None:
    """Download a large blob in pieces that survive this process; a bad one is tried twice."""

    def receive() -> None:
        _receive_once(source, target, blob, on_event, MAX_CONNECTIONS)

    try:
        until_right(source, blob, receive)
    except DigestMismatch as error:
        on_event(Noticed(f"{error.message}; fetching it once more from the beginning"))
        _receive_once(source, target, blob, on_event, 1)


def _receive_once(
    source: Ranged, target: Store, blob: Descriptor, on_event: OnEvent, connections: int
) -> None:
    told: list[str] = []

    def wait_for(seconds: float) -> None:
        if not told:
            told.append(f"another process fetches {blob.digest.short}; waiting for it")
            on_event(Noticed(told[0]))
        source.stop.wait(seconds)

    with target.receive(blob, wait=wait_for) as partial:
        if partial is None:
            on_event(Skipped(blob, "another process brought it"))
            return
        on_event(Started(blob, resumed=partial.resumed))
        Download(source, blob, partial, on_event=on_event, connections=connections).run()
        partial.commit()
    on_event(Finished(blob))


def _send(
    source: Source,
    push: Callable[[Descriptor, Reader], None],
    target: Source,
    blob: Descriptor,
    on_event: OnEvent,
) -> None:
    """Stream a blob from place to place, anew where a connection breaks or a mirror is wrong."""
    registry = next((place for place in (target, source) if isinstance(place, Patient)), None)
    failures, reader = 0, None
    while True:
        on_event(Started(blob))
        try:
            with source.fetch(blob) as content:
                reader = _Counted(content, blob, on_event)
                push(blob, reader)
            break
        except (IntegrityError, TransferError) as error:
            failures += 1
            wait_s = registry.retry.wait_s(error, failures) if registry else None
            if registry is None or (wait_s is None and not _has_next(source, blob, error, reader)):
                raise
            failures = failures if wait_s else 0
            on_event(Retried(blob, error.message, wait_s or 0.0))
            registry.stop.wait(wait_s or 0.0)
    on_event(Finished(blob))


def _has_next(
    source: Source, blob: Descriptor, error: IntegrityError | TransferError, reader: _Counted | None
) -> bool:
    """Whether the source was wrong, not the target, and has another place to read a blob from."""
    refused = isinstance(error, RegistryError) and "DIGEST_INVALID" in error.codes
    at_source = isinstance(error, IntegrityError) or refused or (reader and reader.broken)
    return bool(at_source and isinstance(source, Mirrored) and source.pass_over(blob, error))


def _push_manifest(
    source: Source,
    target: Target,
    manifest: Manifest | Index,
    believed: set[Digest],
    on_event: OnEvent,
) -> None:
    """Send a manifest; blobs that were `believed` to be there are sent if it is refused for them.

    Some registries say that they have a blob that they collected or only cached.
    """
    descriptor = manifest.descriptor
    try:
        target.push(descriptor, io.BytesIO(manifest.raw))
    except BlobNotFound:
        blobs = [blob for blob in _blobs([manifest]) if blob.digest in believed]
        if not isinstance(target, Resending) or not blobs:
            raise
        on_event(Noticed(f"{target.place} lacks layers that it said it has; sending them again"))
        for blob in blobs:
            _send(source, target.resend, target, blob, on_event)
            believed.discard(blob.digest)
        target.push(descriptor, io.BytesIO(manifest.raw))
    on_event(Finished(descriptor))


class _Counted:
    """A reader that tells how far it is; where it is taken elsewhere, what lies before is there.

    Attributes:
        broken: whether reading failed.
    """

    def __init__(self, content: Reader, descriptor: Descriptor, on_event: OnEvent) -> None:
        self._content = content
        self._descriptor = descriptor
        self._on_event = on_event
        self._position = 0
        self.broken = False

    def seekable(self) -> bool:
        return can_seek(self._content)

    def seek(self, position: int) -> None:
        seek_of(self._content)(position)
        if position != self._position:
            self._position = position
            self._on_event(Started(self._descriptor, resumed=position))

    def read(self, size: int = -1, /) -> bytes:
        try:
            data = self._content.read(size)
        except TransferError:
            self.broken = True
            raise
        if data:
            self._position += len(data)
            self._on_event(Advanced(self._descriptor, len(data)))
        return data


def _each(
    items: list[Descriptor],
    act: Callable[[Descriptor], None],
    jobs: int,
    interrupt: Callable[[], None],
) -> None:
    """Do `act` for every item in threads; the first failure ends the others and is raised."""
    with ThreadPoolExecutor(jobs, thread_name_prefix="pannier-copy") as pool:
        futures = [pool.submit(act, item) for item in items]
        try:
            done, _ = wait_all(futures, return_when=FIRST_EXCEPTION)
            failed = [error for future in done if (error := future.exception()) is not None]
            if failed:
                raise next((e for e in failed if not isinstance(e, Cancelled)), failed[0])
        except BaseException as error:
            interrupt()
            pool.shutdown(wait=True, cancel_futures=True)
            if isinstance(error, KeyboardInterrupt):
                raise Cancelled(
                    "interrupted; what has arrived is kept",
                    hint="the same command goes on where this one stopped",
                ) from error
            raise


def _is_manifest(descriptor: Descriptor) -> bool:
    return descriptor.media_type in MANIFEST_TYPES | INDEX_TYPES


def _leased(target: Target) -> AbstractContextManager[None]:
    """The lease that a store gives, so that nothing copied is collected before it has a name."""
    return target.lease() if isinstance(target, Leasing) else nullcontext()


def _interrupt(*places: Source) -> None:
    """Make the threads that wait for a place come back soon."""
    for place in places:
        interrupt = getattr(place, "interrupt", None)
        if interrupt is not None:
            interrupt()
