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
    from ..attachments import is_attachment_tag

    models = [item.reference for item in entries]
    models = [item for item in models if item.tag and not is_attachment_tag(item.tag)]
    near = _nearest(reference, models)
    if near is None:
        return f"get it with `pannier pull {reference.familiar}`"
    return f"did you mean {near.familiar!r}? `pannier list` shows what is here"


def _nearest(reference: Reference, models: list[Reference]) -> Reference | None:
    """The model whose last part is most like a name's; of several the nearest path, then tag."""
    from difflib import get_close_matches

    # Whole names would look alike for their host and namespace, or for ":latest".
    close = get_close_matches(_last(reference), [_last(item) for item in models], n=1)
    same = [item for item in models if _last(item) in close]
    if not same:
        return None
    (path,) = get_close_matches(_path(reference), [_path(item) for item in same], n=1, cutoff=0)
    by_tag = {item.tag or "": item for item in same if _path(item) == path}
    return by_tag[get_close_matches(reference.tag or "", by_tag, n=1, cutoff=0)[0]]


def _path(reference: Reference) -> str:
    return reference.with_tag(None).familiar.lower()


def _last(reference: Reference) -> str:
    return reference.repository.rpartition("/")[2].lower()
