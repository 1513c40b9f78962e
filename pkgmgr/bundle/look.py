"""Looks into a bundle without importing it: what it holds, and whether all of it is in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .. import mediatypes
from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import BlobNotFound, InvalidBundle
from ..store.hashing import BackgroundHash
from ..transfer.events import Advanced, Finished, OnEvent, Planned, Started, ignore
from . import delta, volumes
from .load import describe_damage, is_model, parts_of, refuse_strays
from .source import Bundle, Item, open_bundle

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Held:
    """A model of a bundle.

    Attributes:
        item: its name and manifest.
        size: bytes of all that it needs.
        num_attachments: how many signatures and other referrers hang on it.
        absent: what is not in the bundle, not even as a delta.
        from_delta: what the bundle holds as a delta.
    """

    item: Item
    size: int
    num_attachments: int
    absent: tuple[Descriptor, ...]
    from_delta: tuple[Descriptor, ...]


def held(bundle: Bundle) -> tuple[Held, ...]:
    """The models of a bundle, in the order of its index.

    Raises:
        InvalidManifest, IntegrityError: where a manifest is damaged.
    """
    deltas = delta.listed(bundle)
    return tuple(_held(bundle, item, deltas) for item in bundle.items if is_model(bundle, item))


def verify_path(path: Path, *, on_event: OnEvent = ignore) -> tuple[str, ...]:
    """Hash everything in a bundle file, its volumes or a layout; gives a line for each fault.

    Raises:
        InvalidBundle: where it is no bundle at all, or holds what belongs to no model.
        FileNotFoundError: where there is nothing of that name.
    """
    try:
        with open_bundle(path) as bundle:
            problems = verify(bundle, on_event=on_event)
    except InvalidBundle as error:
        bad = volumes.damaged(path)
        if not bad:
            raise
        problems = (error.reason,)
    else:
        bad = volumes.damaged(path) if problems else ()
    return (*problems, *(f"volume {name} is damaged: copy it again" for name in bad))


def verify(bundle: Bundle, *, on_event: OnEvent = ignore) -> tuple[str, ...]:
    """Hash everything in a bundle; gives one line for each thing that is wrong.

    What a bundle left out on purpose is no fault: `held` tells it.

    Raises:
        InvalidBundle: where it holds what belongs to no model.
    """
    refuse_strays(bundle)
    problems = [bundle.damage] if bundle.damage else []
    known = {part.digest: part for part in _all_parts(bundle)}
    todo = [known.get(d, Descriptor("", d, size)) for d, size in bundle.blobs.sizes.items()]
    on_event(Planned(tuple(todo)))
    bad = {part.digest for part in todo if not _is_whole(bundle, part, on_event)}
    for model in held(bundle):
        parts = parts_of(bundle, model.item)
        damaged = [part for part in parts.values() if part.digest in bad]
        if damaged:
            problems.append(describe_damage(model.item, damaged))
            bad -= {part.digest for part in damaged}
    problems += [f"blob {digest} is damaged" for digest in sorted(bad)]
    return tuple(problems)


def _held(bundle: Bundle, item: Item, deltas: delta.Deltas) -> Held:
    parts = parts_of(bundle, item)
    away = [part for part in parts.values() if not bundle.exists(part)]
    return Held(
        item,
        sum(part.size for part in parts.values()),
        len([a for a in bundle.attached(item.descriptor.digest) if a.kind != mediatypes.DELTA]),
        tuple(part for part in away if part.digest not in deltas),
        tuple(part for part in away if part.digest in deltas),
    )


def _all_parts(bundle: Bundle) -> Iterator[Descriptor]:
    for item in bundle.items:
        try:
            yield from parts_of(bundle, item).values()
        except BlobNotFound:
            continue


def _is_whole(bundle: Bundle, part: Descriptor, on_event: OnEvent) -> bool:
    on_event(Started(part))
    size = 0
    with bundle.fetch(part) as content, BackgroundHash(part.digest.hasher()) as state:
        while data := content.read(_CHUNK):
            state.update(data)
            size += len(data)
            on_event(Advanced(part, len(data)))
        actual = Digest(part.digest.algorithm, state.hexdigest())
    on_event(Finished(part))
    return size == part.size and actual == part.digest
