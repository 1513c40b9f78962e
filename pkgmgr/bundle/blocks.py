"""Block indexes as referrers of a model: making them, finding them, and pulling by them.

A pull first looks at what the store has: where a missing blob has an index, and local files hold
most of its blocks, only the others are fetched by Range. Whatever goes wrong on that way, the blob
is then pulled plainly.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from .. import attachments
from ..attachments import Attachment
from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import PannierError, TransferError
from ..manifest import Manifest
from ..mediatypes import BLOCK_INDEX, BLOCK_INDEX_BLOB
from ..reference import Reference
from ..store.store import Store
from ..transfer.content import Source, exactly
from ..transfer.events import Noticed, OnEvent, ignore
from ..transfer.registry import RegistryRepository
from ..transfer.verify import read_small
from .assemble import LocalFiles, assemble, similar_files
from .blockindex import MAX_INDEX, Block, BlockIndex, build

# Smaller blobs are pulled sooner than an index of theirs is read.
MIN_BLOB = 1 << 20
# So many unwanted bytes are fetched to save a request: a round trip of 10 ms at 25 MB/s.
_GAP = 256 << 10


def index_model(store: Store, reference: Reference) -> tuple[BlockIndex, ...]:
    """Index every large blob of a stored model, and hang the indexes on it.

    Raises:
        ModelNotFound: where the store has no such model.
    """
    entry = store.find(reference)
    content = store.manifest(entry.descriptor.digest)
    large = [part for part in content.children if part.size >= MIN_BLOB]
    if not isinstance(content, Manifest) or not large:
        return ()
    indexes = [build(store.path(part.digest), part.digest) for part in large]
    layers, blobs = [], {}
    for index in indexes:
        raw = index.render()
        layer = Descriptor(
            BLOCK_INDEX, Digest.of(raw), len(raw), {BLOCK_INDEX_BLOB: str(index.digest)}
        )
        layers.append(layer)
        blobs[layer.digest] = raw
    manifest = attachments.make_referrer(
        entry.descriptor, artifact_type=BLOCK_INDEX, layers=layers, annotations={}
    )
    attachments.add(store, entry.reference, Attachment(manifest), blobs)
    return tuple(indexes)


def find_index(source: Source, attached: Iterable[Attachment], digest: Digest) -> BlockIndex | None:
    """The index of a blob among what hangs on its model, None where there is no good one.

    Raises:
        TransferError: where the place cannot be asked.
    """
    for attachment in attached:
        if attachment.kind != BLOCK_INDEX:
            continue
        for layer in attachment.manifest.layers:
            if layer.annotations.get(BLOCK_INDEX_BLOB) == str(digest) and layer.size <= MAX_INDEX:
                index = BlockIndex.parse(read_small(source, layer))
                if index.digest == digest:
                    return index
    return None


def stored_index(store: Store, digest: Digest) -> BlockIndex | None:
    """A block index of a blob that hangs on any model of a store."""
    for entry in store.entries():
        if entry.descriptor.artifact_type != BLOCK_INDEX:
            continue
        try:
            manifest = store.manifest(entry.descriptor.digest)
            if isinstance(manifest, Manifest):
                index = find_index(store, [Attachment(manifest)], digest)
                if index is not None:
                    return index
        except PannierError:
            continue
    return None


def wanted(store: Store, content: Manifest) -> tuple[Descriptor, ...]:
    """The blobs of a model that are worth a look: large, and not here."""
    large = (part for part in content.layers if part.size >= MIN_BLOB)
    return tuple(part for part in large if not store.exists(part))


def fetch_parts(
    store: Store,
    registry: RegistryRepository,
    parts: Sequence[Descriptor],
    attached: Sequence[Attachment],
    *,
    on_event: OnEvent = ignore,
) -> int:
    """Put missing blobs together from local blocks and ranges of the registry's.

    Returns:
        How many bytes were fetched; blobs that could not be made are left for a plain pull.
    """
    fetched = 0
    for part in parts:
        try:
            index = find_index(registry, attached, part.digest)
            if index is not None and index.size == part.size:
                fetched += _fetch(store, registry, part, index, on_event)
        except PannierError as error:
            logging.getLogger(__name__).debug("delta of %s: %s", part.digest, error.message)
            on_event(Noticed(f"{part.digest.short} is pulled whole: {error.message}"))
    return fetched


def ranged(registry: RegistryRepository, part: Descriptor) -> Callable[[Sequence[Block]], bytes]:
    """Fetches runs of blocks from a registry."""

    def fetch(run: Sequence[Block]) -> bytes:
        begin, end = run[0].offset, run[-1].offset + run[-1].size
        with registry.fetch_range(part, begin, end) as opened:
            if opened.whole:
                raise TransferError(f"{registry.place} ignores ranges", place=registry.place)
            return exactly(opened.content, end - begin)

    return fetch


def _fetch(
    store: Store,
    registry: RegistryRepository,
    part: Descriptor,
    index: BlockIndex,
    on_event: OnEvent,
) -> int:
    similar = similar_files(store, index)
    if not similar:
        return 0
    with LocalFiles(similar) as local:
        fetch = ranged(registry, part)
        return assemble(store, index, part, local=local, fetch=fetch, gap=_GAP, on_event=on_event)
