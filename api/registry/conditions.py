"""What a request's headers ask of content: ranges, entity tags and media types. Pure.

Implements RFC 9110 §12.5.1 (Accept), §13.1 (If-None-Match, If-Range) and §14 (Range, one range).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

_RANGE = re.compile(r"bytes=\s*(?:([0-9]{1,19})-([0-9]{1,19})?|-([0-9]{1,19}))\s*", re.IGNORECASE)
_CONTENT_RANGE = re.compile(r"(?:bytes[ =])?([0-9]{1,19})-([0-9]{1,19})(?:/(?:[0-9]{1,19}|\*))?")

# A request's headers: the value of a field, None where it is absent.
Fields = Callable[[str], str | None]


class Unsatisfiable(Exception):
    """A range that lies wholly outside the content (RFC 9110 §15.5.17)."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `start` up to, not including, `stop`."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """Bytes in it."""
        return self.stop - self.start


def requested_span(field: Fields, *, size: int, etag: str) -> Span | None:
    """The one range that a GET asks for; None where the whole content is to be sent.

    Several ranges, other units and bad syntax count as no range (RFC 9110 §14.2).

    Raises:
        Unsatisfiable: where the range begins behind the end.
    """
    match = _RANGE.fullmatch(field("Range") or "")
    if match is None or (field("If-Range") or etag) != etag:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        if int(suffix) == 0 or size == 0:
            raise Unsatisfiable
        return Span(max(0, size - int(suffix)), size)
    start, stop = int(first), int(last) + 1 if last is not None else size
    if last is not None and stop <= start:
        return None
    if start >= size:
        raise Unsatisfiable
    return Span(start, min(stop, size))


def uploaded_span(header: str | None) -> Span | None:
    """The Content-Range of a chunk; None where there is none.

    The spec's form is ``<start>-<end>``; RFC 9110's ``bytes <start>-<end>/<size>`` is read as well.

    Raises:
        ValueError: for anything else.
    """
    if header is None:
        return None
    match = _CONTENT_RANGE.fullmatch(header.strip())
    if match is None or int(match[2]) < int(match[1]):
        raise ValueError("Content-Range is not <start>-<end>")
    return Span(int(match[1]), int(match[2]) + 1)


def is_unchanged(field: Fields, *, etag: str) -> bool:
    """Whether If-None-Match names this content, so that 304 is the answer."""
    wanted = field("If-None-Match")
    if wanted is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in wanted.split(",")]
    return "*" in tags or etag in tags


def accepts(header: str, media_type: str) -> bool:
    """Whether an Accept header lets this media type pass; an empty one lets everything pass."""
    ranges = [item.partition(";") for item in header.lower().split(",") if item.strip()]
    if not ranges:
        return True
    wanted = {name.strip() for name, _, parameters in ranges if not _is_refused(parameters)}
    kind = media_type.lower().partition("/")[0]
    return bool(wanted & {media_type.lower(), f"{kind}/*", "*/*"})


def _is_refused(parameters: str) -> bool:
    return re.search(r"(?:^|;)\s*q=0(?:\.0*)?\s*(?:;|$)", parameters) is not None
