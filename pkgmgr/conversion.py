"""Stored models in other dialects: `convert` writes one, `push_as` sends several from one blob."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import Formatter

from .descriptor import Descriptor
from .dialects.base import MAX_SMALL_BLOB
from .dialects.convert import convert, writable
from .errors import InvalidOption, ManifestError
from .modelfile.build import put, with_details
from .operations import push, read_model
from .reference import Reference
from .settings import Settings
from .store.store import Store
from .transfer.events import Noticed, OnEvent, ignore

# Each dialect of a model is a tag beside the native one: no client chooses among an index's.
DEFAULT_PATTERN = "{tag}-{dialect}"
_NATIVE = "modelpack"


@dataclass(frozen=True, slots=True)
class Converted:
    """A model in a dialect. `dropped` is what the dialect cannot express, a line each."""

    dialect: str
    descriptor: Descriptor
    dropped: tuple[str, ...]


class LossyConversion(ManifestError):
    """A conversion that would leave something out, where none was wanted."""

    def __init__(self, dialect: str, dropped: Sequence[str]) -> None:
        super().__init__(
            f"as {dialect} the model would lose {'; '.join(dropped)}", hint="leave out --strict"
        )
        self.dropped = tuple(dropped)


def convert_stored(
    store: Store, reference: Reference, dialect: str, *, strict: bool = False
) -> Converted:
    """Write a stored model in another dialect; it gets no name.

    Raises:
        ModelNotFound: where the store has no such model.
        InvalidOption: where nothing can be written in that dialect.
        LossyConversion: where `strict` and something has no place in it; nothing is stored.
    """
    target = writable(dialect)
    model = read_model(store, reference)
    composition = convert(
        model.manifest,
        with_details(store, model.spec),
        target,
        lambda item: store.read(item, max_size=MAX_SMALL_BLOB),
    )
    if strict and composition.dropped:
        raise LossyConversion(dialect, composition.dropped)
    with store.lease():
        return Converted(dialect, put(store, composition), composition.dropped)


def push_as(
    store: Store,
    reference: Reference,
    destination: Reference,
    dialects: Sequence[str],
    *,
    settings: Settings,
    pattern: str | None = None,
    strict: bool = False,
    on_event: OnEvent = ignore,
) -> tuple[tuple[Reference, Converted], ...]:
    """Push a stored model in several dialects, each under a tag of its own.

    All are written, and what they leave out is told, before anything is sent; the weights are
    sent once, or not at all where the repository has them.

    Args:
        store: holds the model.
        reference: the model.
        destination: repository and tag.
        dialects: in the order in which they are pushed.
        settings: of the user.
        pattern: for tags, with `{tag}` and `{dialect}`. None means that a single dialect has the
            tag as it is, and of several the native one has it and the others `{tag}-{dialect}`.
        strict: refuse a dialect that cannot express everything.
        on_event: told of every transfer.

    Raises:
        LossyConversion: where `strict` and something would be lost; nothing was sent.
        TransferError: where the registry cannot be asked or refuses.
    """
    targets = {
        dialect: destination.with_tag(_tag(destination.tag or "latest", dialect, dialects, pattern))
        for dialect in dict.fromkeys(dialects)
    }
    if len(set(targets.values())) < len(targets):
        raise InvalidOption(f"tag pattern {pattern!r} gives two dialects one tag")
    for target in targets.values():
        Reference.parse(str(target))
    with store.lease():
        converted = [convert_stored(store, reference, name, strict=strict) for name in targets]
        for item in converted:
            for line in item.dropped:
                on_event(Noticed(f"as {item.dialect} it loses {line}"))
        for item in converted:
            push(
                store,
                reference,
                targets[item.dialect],
                settings=settings,
                on_event=on_event,
                root=item.descriptor,
            )
    return tuple((targets[item.dialect], item) for item in converted)


def _tag(tag: str, dialect: str, dialects: Sequence[str], pattern: str | None) -> str:
    if pattern is None:
        plain = len(set(dialects)) == 1 or dialect == _NATIVE
        pattern = "{tag}" if plain else DEFAULT_PATTERN
    try:
        fields = {name for _, name, _, _ in Formatter().parse(pattern) if name is not None}
    except ValueError:
        fields = {pattern}
    if not fields <= {"tag", "dialect"}:
        raise InvalidOption(f"tag pattern {pattern!r} may hold {{tag}} and {{dialect}} only")
    return pattern.format(tag=tag, dialect=dialect)
