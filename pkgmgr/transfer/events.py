"""What a transfer tells whoever watches it. Progress display is the watcher's business.

Events are sent from the threads that do the work, several at a time; a watcher must be quick and
thread-safe (`pannier.pkgmgr.cli.output` and the API's NDJSON streams are).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..descriptor import Descriptor


@dataclass(frozen=True, slots=True)
class Planned:
    """What a copy will look at: every distinct blob and manifest; sizes in bytes."""

    descriptors: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class Started:
    """Bytes of one blob begin to move, or move from another place on.

    `resumed` bytes were there from an earlier attempt; what `Advanced` told before is void.
    """

    descriptor: Descriptor
    resumed: int = 0


@dataclass(frozen=True, slots=True)
class Advanced:
    """`count` further bytes of one blob have arrived."""

    descriptor: Descriptor
    count: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """A blob did not need to move. `reason`: `exists` or `mounted`."""

    descriptor: Descriptor
    reason: str = "exists"


@dataclass(frozen=True, slots=True)
class Retried:
    """A temporary error is about to be tried again after `wait_s` seconds."""

    descriptor: Descriptor
    error: str
    wait_s: float


@dataclass(frozen=True, slots=True)
class Finished:
    """One blob is whole and verified at its target."""

    descriptor: Descriptor


@dataclass(frozen=True, slots=True)
class Noticed:
    """Something the user should read: a registry's Warning header, a fall-back taken."""

    message: str


Event = Planned | Started | Advanced | Skipped | Retried | Finished | Noticed
OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Watch nothing."""
