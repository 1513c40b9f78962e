"""Which entry of the index a name means, and what to say where there is none. Pure."""

from __future__ import annotations

from ..errors import ModelNotFound
from ..reference import Reference
from .index import Entry


def find(entries: tuple[Entry, ...], reference: Reference, place: str) -> Entry:
    """The entry of a name, without regard to case; a digest in the name decides.

    Raises:
        ModelNotFound: with a hint where a similar name exists.
    """
    meant = [entry for entry in entries if _is_meant(entry, reference)]
    if meant:
        exact = (entry for entry in meant if entry.reference.key == reference.key)
        return next(exact, meant[0])
    raise ModelNotFound(reference.familiar, place=place, hint=_hint(reference, entries))


def _is_meant(entry: Entry, reference: Reference) -> bool:
    if reference.digest is None:
        return entry.reference.key == reference.key
    same = (entry.reference.host, entry.reference.repository.lower()) == (
        reference.host,
        reference.repository.lower(),
    )
    return same and entry.descriptor.digest == reference.digest


def _hint(reference: Reference, entries: tuple[Entry, ...]) -> str:
    from difflib import get_close_matches

    names = [entry.reference.familiar for entry in entries]
    close = get_close_matches(reference.familiar, names, n=1)
    if close:
        return f"did you mean {close[0]!r}? `pannier list` shows what is here"
    return f"get it with `pannier pull {reference.familiar}`"
