"""Mends damaged blobs from any place that holds them: a registry, a bundle, a neighbour.

Where a block index of the blob is known, here or there, only its bad blocks are fetched and the
good ones are kept. The damaged file is replaced when the new one was verified as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .. import attachments
from ..attachments import Attachment
from ..bundle.assemble import LocalFiles, assemble
from ..bundle.blockindex import Block, BlockIndex
from ..bundle.blocks import find_index, ranged, stored_index
from ..bundle.load import is_model
from ..bundle.source import open_bundle
from ..descriptor import Descriptor
from ..errors import NotFound, PannierError
from ..reference import Reference
from ..store.store import Store
from ..transfer.content import Source, exactly, until_right
from ..transfer.events import Advanced, Finished, OnEvent, Started, ignore
from ..transfer.registry import RegistryRepository
from .verify import Fault

if TYPE_CHECKING:
    from ..settings import Settings

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Helper:
    """An open place that may hold what is damaged, and what hangs on the model there."""

    source: Source
    attached: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True)
class Mended:
    """What became of a fault.

    Attributes:
        place: where the good bytes came from; None where the blob is still damaged.
        fetched: bytes that were fetched for it.
        reason: why it could not be mended, from the last place that was asked.
    """

    fault: Fault
    place: str | None
    fetched: int
    reason: str = ""


def mend(store: Store, fault: Fault, helper: Helper, *, on_event: OnEvent = ignore) -> Mended:
    """Replace a damaged or missing blob by a good one from a place, if it holds one.

    Raises:
        TransferError, IntegrityError, NoSpace: where that went wrong.
    """
    try:
        fetched = _mend_from(store, fault.descriptor, helper, on_event)
    except NotFound:
        return Mended(fault, None, 0, f"{helper.source.place} does not hold it")
    return Mended(fault, helper.source.place, fetched)


def _mend_from(store: Store, part: Descriptor, helper: Helper, on_event: OnEvent) -> int:
    index = _index(store, part, helper)
    if index is not None and store.path(part.digest).is_file():
        try:
            return _mend_blocks(store, part, index, helper.source, on_event)
        except PannierError:
            pass  # a wrong index: the whole blob is fetched instead
    fetch = partial(_fetch_whole, store, part, helper.source, on_event)
    return until_right(helper.source, part, fetch)


def _index(store: Store, part: Descriptor, helper: Helper) -> BlockIndex | None:
    index = stored_index(store, part.digest)
    if index is None:
        index = find_index(helper.source, helper.attached, part.digest)
    return index if index is not None and index.size == part.size else None


def _mend_blocks(
    store: Store, part: Descriptor, index: BlockIndex, source: Source, on_event: OnEvent
) -> int:
    fetch = _ranged(source, part)
    with LocalFiles([store.path(part.digest)], sections=index.sections) as local:
        return assemble(store, index, part, local=local, fetch=fetch, gap=0, on_event=on_event)


def _ranged(source: Source, part: Descriptor) -> Callable[[Sequence[Block]], bytes]:
    if isinstance(source, RegistryRepository):
        return ranged(source, part)

    def fetch(run: Sequence[Block]) -> bytes:
        with source.fetch(part, offset=run[0].offset) as content:
            return exactly(content, run[-1].offset + run[-1].size - run[0].offset)

    return fetch


def _fetch_whole(store: Store, part: Descriptor, source: Source, on_event: OnEvent) -> int:
    on_event(Started(part))
    with (
        source.fetch(part) as content,
        store.ingest(algorithm=part.digest.algorithm) as ingest,
    ):
        while ingest.size <= part.size and (data := content.read(_CHUNK)):
            ingest.write(data)
            on_event(Advanced(part, len(data)))
        ingest.commit(part)
    on_event(Finished(part))
    return part.size


def repair(
    store: Store,
    faults: Sequence[Fault],
    *,
    bundles: Sequence[Path] = (),
    references: Sequence[Reference] = (),
    settings: Settings,
    on_event: OnEvent = ignore,
) -> tuple[Mended, ...]:
    """Mend what `verify` found.

    Args:
        store: the store.
        faults: what is damaged.
        bundles: asked first, in order.
        references: repositories that are asked next; the models' own registries come last.
        settings: how to speak to registries.
        on_event: told of progress.
    """
    mended = []
    for fault in faults:
        names = dict.fromkeys((*references, *fault.models))
        done = Mended(fault, None, 0, "no known place holds it")
        for open_helper in _helpers(bundles, list(names), settings):
            try:
                with open_helper() as helper:
                    done = mend(store, fault, helper, on_event=on_event)
            except PannierError as error:
                done = Mended(fault, None, 0, error.message)
            if done.place is not None:
                break
        mended.append(done)
    return tuple(mended)


def _helpers(
    bundles: Sequence[Path], references: Sequence[Reference], settings: Settings
) -> Iterator[Callable[[], AbstractContextManager[Helper]]]:
    for path in bundles:
        yield partial(_bundle_helper, path)
    for reference in references:
        yield partial(_registry_helper, reference, settings)


@contextmanager
def _bundle_helper(path: Path) -> Iterator[Helper]:
    with open_bundle(path) as bundle:
        attached = [
            found
            for item in bundle.items
            if is_model(bundle, item)
            for found in bundle.attached(item.descriptor.digest)
        ]
        yield Helper(bundle, tuple(attached))


@contextmanager
def _registry_helper(reference: Reference, settings: Settings) -> Iterator[Helper]:
    from ..transfer.open import open_registry

    with open_registry(reference, settings=settings) as registry:
        try:
            digest = registry.resolve(reference.with_digest(None)).digest
            attached = attachments.in_source(registry, reference, digest)
        except NotFound:  # the blobs may be there all the same
            attached = ()
        yield Helper(registry, attached)
