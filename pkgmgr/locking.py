"""What lock, sync, outdated and update do, over a store, registries and bundles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from . import operations
from .descriptor import Descriptor
from .digest import Digest
from .errors import InvalidLock, LockMismatch, ModelNotFound, NotFound
from .lockfile import MAX_LOCK, Lock, Pin
from .mediatypes import INDEX_TYPES
from .reference import Reference
from .store.files import disk_errors, replace_file
from .store.store import Store
from .transfer.content import Source
from .transfer.events import OnEvent, ignore
from .transfer.verify import read_manifest

if TYPE_CHECKING:
    from .settings import Settings

# Indexes seldom nest at all; a hostile one is not followed further.
_MAX_INDEXES = 32


class State(StrEnum):
    """How a pinned model stands to what is in the store or the registry."""

    SAME = "same"
    CHANGED = "changed"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Standing:
    """A pin, and what its name stands for elsewhere (None where it is absent there)."""

    pin: Pin
    state: State
    digest: Digest | None


def read_lock(path: Path) -> Lock:
    """Read a lock file.

    Raises:
        NotFound: where there is none.
        InvalidLock: where it cannot be understood.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_LOCK + 1)
        return Lock.parse(raw.decode("utf-8"), path=str(path))
    except FileNotFoundError as error:
        raise NotFound(
            f"there is no lock file {path}", hint="pannier lock NAME... writes one"
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidLock(path, "it is not UTF-8") from error
    except OSError as error:
        raise InvalidLock(path, error.strerror or str(error)) from error


def write_lock(path: Path, lock: Lock) -> None:
    """Replace a lock file."""
    with disk_errors(path):
        replace_file(path, str(lock).encode("utf-8"))


def pin(store: Store, reference: Reference) -> Pin:
    """Pin a stored model to its digest.

    Raises:
        ModelNotFound: where the store has no such model.
    """
    from .trust.gate import licenses_of

    entry = store.find(reference.with_digest(None) if reference.tag else reference)
    content = store.manifest(entry.descriptor.digest)
    models = operations.list_models(store)
    listed = next(item for item in models if item.reference == entry.reference)
    return Pin(
        listed.reference, listed.digest, listed.dialect, listed.size, licenses_of(content, store)
    )


def compare(store: Store, lock: Lock) -> tuple[Standing, ...]:
    """How every pin stands to the store."""
    held = {entry.reference.key: entry.descriptor.digest for entry in store.entries()}
    return tuple(_standing(item, held.get(item.reference.key)) for item in lock.pins)


def require(store: Store, lock: Lock) -> None:
    """Check that the store holds exactly what is pinned, whole.

    Raises:
        LockMismatch: naming the first model that is absent, changed or incomplete.
    """
    for standing in compare(store, lock):
        if standing.state is not State.SAME:
            actual = str(standing.digest) if standing.digest else "absent"
            raise LockMismatch(standing.pin.reference.familiar, str(standing.pin.digest), actual)
        content = store.manifest(standing.pin.digest)
        for child in content.children:
            if not store.exists(child):
                name = standing.pin.reference.familiar
                raise LockMismatch(name, str(standing.pin.digest), f"without its {child.digest}")


def sync(
    store: Store,
    lock: Lock,
    *,
    bundles: Sequence[Path] = (),
    settings: Settings,
    on_event: OnEvent = ignore,
) -> tuple[Pin, ...]:
    """Make the store hold what is pinned; gives what was brought in.

    Args:
        store: the store.
        lock: what it shall hold.
        bundles: looked into first, in order.
        settings: how to speak to registries and their mirrors.
        on_event: told of progress.

    Raises:
        LockMismatch: where a place has another digest under a pinned name.
        ModelNotFound, TransferError, IntegrityError, Untrusted: as `pull` and `load` do.
    """
    missing = [item.pin for item in compare(store, lock) if item.state is not State.SAME]
    brought = []
    for item in missing:
        if not _from_bundles(store, item, bundles, on_event):
            operations.pull(store, item.pinned, settings=settings, on_event=on_event)
        brought.append(item)
    return tuple(brought)


def outdated(lock: Lock, *, settings: Settings) -> tuple[Standing, ...]:
    """How every pin stands to what its registry has under the name now.

    Raises:
        TransferError: where a registry cannot be asked.
    """
    return tuple(_standing(item, _remote(item, settings)) for item in lock.pins)


def update(
    store: Store,
    lock: Lock,
    references: Iterable[Reference],
    *,
    settings: Settings,
    on_event: OnEvent = ignore,
) -> Lock:
    """Pull some pinned models anew by their tags, and pin what came.

    Raises:
        ModelNotFound: where the lock or a registry has no such model.
        TransferError, IntegrityError, Untrusted: as `pull` does.
    """
    pins = []
    for reference in references:
        name = lock.find(reference).reference
        operations.pull(store, name, settings=settings, on_event=on_event)
        pins.append(pin(store, name))
    return lock.with_pins(pins)


def _standing(item: Pin, digest: Digest | None) -> Standing:
    if digest is None:
        return Standing(item, State.ABSENT, None)
    state = State.SAME if digest == item.digest else State.CHANGED
    return Standing(item, state, digest)


def _from_bundles(store: Store, item: Pin, bundles: Sequence[Path], on_event: OnEvent) -> bool:
    from .bundle.load import load
    from .bundle.source import open_bundle

    for path in bundles:
        with open_bundle(path) as bundle:
            try:
                held = bundle.resolve(item.reference).digest
            except ModelNotFound:
                continue
        if held != item.digest:
            raise LockMismatch(f"{item.reference.familiar} in {path}", str(item.digest), str(held))
        load(store, path, [item.reference], on_event=on_event).require_complete()
        return True
    return False


def _remote(item: Pin, settings: Settings) -> Digest | None:
    """What a pinned name stands for in its registry; of an index the pinned member, if it is in."""
    from .transfer.open import open_registry

    with open_registry(item.reference, settings=settings) as registry:
        try:
            root = registry.resolve(item.reference.with_digest(None))
        except ModelNotFound:
            return None
        return item.digest if _names(registry, root, item.digest) else root.digest


def _names(source: Source, root: Descriptor, digest: Digest) -> bool:
    """Whether an index names a manifest, itself or through others."""
    waiting = [root]
    for _ in range(_MAX_INDEXES):
        indexes = [item for item in waiting if item.media_type in INDEX_TYPES]
        if not indexes:
            return False
        children = read_manifest(source, indexes[0]).children
        if any(child.digest == digest for child in children):
            return True
        waiting = [*indexes[1:], *children]
    return False
