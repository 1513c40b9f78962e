"""Places that a copy goes between, as people write them: names, and ``oci:DIRECTORY[:TAG]``.

Copies from registry to registry pass no local store; they mount where both are one registry.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import attachments
from .descriptor import Descriptor
from .errors import InvalidReference
from .reference import Reference
from .settings import Settings
from .transfer.content import Target
from .transfer.copy import copy
from .transfer.events import OnEvent, ignore
from .transfer.layout import LayoutDirectory
from .transfer.open import open_registry

_LAYOUT = re.compile(r"oci:(?P<path>[^:]+)(?::(?P<tag>[^:]+))?")


@dataclass(frozen=True, slots=True)
class Place:
    """One end of a copy: a layout directory where `layout` is set, else a registry."""

    reference: Reference
    layout: Path | None = None
    is_named: bool = True


def parse_place(text: str, settings: Settings) -> Place:
    """Read one end of a copy.

    Raises:
        InvalidReference: where it is neither a name nor ``oci:DIRECTORY[:TAG]``.
    """
    if not text.startswith("oci:"):
        return Place(settings.parse(text.removeprefix("docker://")))
    match = _LAYOUT.fullmatch(text)
    if match is None:
        raise InvalidReference(text, "layouts are written oci:DIRECTORY or oci:DIRECTORY:TAG")
    reference = Reference.parse(f"localhost/layout:{match['tag'] or 'latest'}")
    return Place(reference, Path(match["path"]).expanduser(), match["tag"] is not None)


def copy_between(
    source: Place, target: Place, *, settings: Settings, on_event: OnEvent = ignore
) -> Descriptor:
    """Copy a model from place to place and name it there, without a local store.

    Between registries its signatures and other attachments go along.

    Raises:
        ModelNotFound: where the source does not have it.
        TransferError, IntegrityError, NoSpace: where a place fails; the name is not written.
    """
    if target.layout is None:
        target.reference.require_registry_name()
    with (
        _opened(source, settings, create=False) as origin,
        _opened(target, settings, create=True) as goal,
    ):
        root = _resolve(origin, source)
        copy(origin, goal, root, on_event=on_event)
        if target.reference.digest is None or target.reference.tag is not None:
            goal.tag(root, target.reference)
        if source.layout is None and target.layout is None:
            found = attachments.in_source(origin, source.reference, root.digest)
            attachments.copy_all(origin, goal, target.reference, found)
    return root


def tags(reference: Reference, *, settings: Settings) -> tuple[str, ...]:
    """The tags of a repository, without those that carry signatures and the like.

    Raises:
        ModelNotFound: where there is no such repository.
    """
    with open_registry(reference, settings=settings) as registry:
        return tuple(tag for tag in registry.list_tags() if not _is_fallback(tag))


def search(host: str, words: tuple[str, ...], *, settings: Settings, limit: int) -> tuple[str, ...]:
    """Repositories of a registry whose names hold every word, by its catalogue.

    Raises:
        RegistryError: where the registry does not list its repositories.
    """
    reference = Reference.parse(f"{host.removeprefix('https://').rstrip('/')}/x")
    found: list[str] = []
    with open_registry(reference, settings=settings) as registry:
        for name in registry.iterate_repositories():
            if all(word.lower() in name for word in words):
                found.append(name)
            if len(found) >= limit:
                break
    return tuple(f"{reference.host}/{name}" for name in found)


@contextmanager
def _opened(place: Place, settings: Settings, *, create: bool) -> Iterator[Target]:
    if place.layout is not None:
        yield LayoutDirectory.open(place.layout, create=create)
        return
    with open_registry(place.reference, settings=settings) as registry:
        yield registry


def _resolve(origin: Target, place: Place) -> Descriptor:
    only = origin.only() if isinstance(origin, LayoutDirectory) and not place.is_named else None
    return only or origin.resolve(place.reference)


def _is_fallback(tag: str) -> bool:
    """Tags that stand in for the referrers API, and cosign's."""
    return re.fullmatch(r"sha(256|512)-[0-9a-f]{32,128}(\.\w+)?", tag) is not None
