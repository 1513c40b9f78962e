"""What an operator chooses about the registry of a node, from the words of a command line."""

from __future__ import annotations

from dataclasses import dataclass, field

from pannier.pkgmgr.cli.bundle import parse_size
from pannier.pkgmgr.errors import InvalidOption
from pannier.pkgmgr.settings import Settings

from .names import Home
from .upstream import parse_upstream


@dataclass(frozen=True, slots=True)
class Options:
    """What an operator chooses about the registry of a node. Sizes in bytes.

    Attributes:
        max_store_size: pushes that would make the store larger are refused; None for no limit.
        max_upload_size: of one blob; None for no limit.
        read_only: nothing can be pushed or deleted.
        upstream: settings for a bridge to the registry of `home`; None for a registry of its own.
        cache_size: bytes that a bridge keeps; 0 for nothing, None for no limit.
    """

    home: Home = field(default_factory=Home)
    max_store_size: int | None = None
    max_upload_size: int | None = None
    read_only: bool = False
    upstream: Settings | None = None
    cache_size: int | None = None


def registry_options(
    settings: Settings,
    *,
    upstream: str | None,
    cache_size: str | None,
    max_store_size: str | None,
    max_upload_size: str | None,
    read_only: bool,
) -> Options:
    """Read what `pannier serve` was told.

    Raises:
        InvalidOption: where a word is no size or no registry, or two do not go together.
    """
    if cache_size is not None and upstream is None:
        raise InvalidOption("--cache-size is for a bridge", hint="add --upstream HOST")
    home = Home(settings.default_host, namespace=settings.default_namespace)
    return Options(
        home=parse_upstream(upstream) if upstream is not None else home,
        max_store_size=_size(max_store_size),
        max_upload_size=_size(max_upload_size),
        read_only=read_only,
        upstream=settings if upstream is not None else None,
        cache_size=_size(cache_size),
    )


def _size(text: str | None) -> int | None:
    return parse_size(text) if text is not None else None
