"""Lists that a registry gives page by page (distribution-spec v1.1.1, "Content Discovery")."""

from __future__ import annotations

from collections.abc import Iterator

from .. import strictjson
from ..errors import NetworkError
from .auth import Scopes
from .neterrors import printable
from .origin import Origin, follow
from .wire import Wire

_MAX_PAGE = 4 << 20
_MAX_PAGES = 1000
_MAX_NAMES = 200_000
_MAX_NAME = 300


def pages(wire: Wire, url: str, member: str, scopes: Scopes) -> Iterator[str]:
    """Every name of a list, page after page.

    Args:
        wire: to the registry.
        url: of the first page.
        member: of the JSON object that holds the names.
        scopes: that the list needs.

    Raises:
        NetworkError: where the list is malformed, has no end, or leads to another host.
    """
    seen: set[str] = set()
    count = 0
    while url not in seen:
        seen.add(url)
        with wire.ask("GET", url, scopes=scopes, ok=(200,), what=f"list {member}") as reply:
            raw, link = reply.body(_MAX_PAGE), reply.headers.get("Link", "")
        names = _names(raw, member, wire.origin)
        count += len(names)
        if count > _MAX_NAMES or len(seen) > _MAX_PAGES:
            raise NetworkError(f"{wire.origin.netloc} lists {member} without end")
        yield from names
        following = next_link(link)
        if following is None:
            return
        url = follow(url, following)
        if Origin.of(url) != wire.origin:
            raise NetworkError(f"{wire.origin.netloc} continues its list elsewhere; not followed")


def next_link(header: str) -> str | None:
    """The target of ``rel="next"`` in a Link header (RFC 8288), None where there is none."""
    for part in header[:8192].split(","):
        target, _, params = part.partition(">")
        if "rel=next" in params.replace('"', "").replace(" ", ""):
            return target.strip().removeprefix("<")
    return None


def _names(raw: bytes, member: str, origin: Origin) -> list[str]:
    try:
        names = strictjson.loads(raw, max_size=_MAX_PAGE).get(member) or []
        return [printable(name)[:_MAX_NAME] for name in names if isinstance(name, str)]
    except (ValueError, AttributeError, TypeError) as error:
        raise NetworkError(f"{origin.netloc} gave no valid list of {member}") from error
