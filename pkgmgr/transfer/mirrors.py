"""A registry behind its mirrors: what is read is asked of each in order until one answers.

What a mirror gives is verified as what the registry itself gives: a digest decides. Writing goes
to the registry itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from ..descriptor import Descriptor
from ..errors import NotFound, PannierError, TransferError
from ..reference import Reference
from .content import Reader
from .download import Opened
from .registry import RegistryRepository
from .upload import Uploads
from .wire import Wire

_Answer = TypeVar("_Answer")


class MirroredRepository(RegistryRepository):
    """A repository that reads from mirrors first. Thread-safe."""

    def __init__(
        self,
        reference: Reference,
        wire: Wire,
        *,
        uploads: Uploads,
        mirrors: Sequence[RegistryRepository],
    ) -> None:
        """Put `mirrors`, which are closed with this one, before a repository."""
        super().__init__(reference, wire, uploads=uploads)
        self._mirrors = tuple(mirrors)
        self._passed: set[int] = set()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close all connections, the mirrors' too."""
        for mirror in self._mirrors:
            mirror.close()
        super().close()

    def interrupt(self) -> None:
        """Make every exchange end with `Cancelled` now."""
        for mirror in self._mirrors:
            mirror.interrupt()
        super().interrupt()

    def resolve(self, reference: Reference) -> Descriptor:
        """The manifest of a name, from the first place that has it."""

        def ask(mirror: RegistryRepository) -> Descriptor:
            asked = mirror.reference.with_tag(reference.tag).with_digest(reference.digest)
            return mirror.resolve(asked)

        found = self._from_mirror(ask)
        return super().resolve(reference) if found is None else found

    @contextmanager
    def fetch(self, descriptor: Descriptor, *, offset: int = 0) -> Iterator[Reader]:
        """Open a blob or manifest at the first place that has it."""
        with ExitStack() as closing:
            found = self._from_mirror(
                lambda mirror: closing.enter_context(mirror.fetch(descriptor, offset=offset))
            )
            if found is None:
                found = closing.enter_context(super().fetch(descriptor, offset=offset))
            yield found

    @contextmanager
    def fetch_range(self, descriptor: Descriptor, start: int, stop: int) -> Iterator[Opened]:
        """Open a range of a blob at the first place that has it."""
        with ExitStack() as closing:
            found = self._from_mirror(
                lambda mirror: closing.enter_context(mirror.fetch_range(descriptor, start, stop))
            )
            if found is None:
                found = closing.enter_context(super().fetch_range(descriptor, start, stop))
            yield found

    def _from_mirror(self, ask: Callable[[RegistryRepository], _Answer]) -> _Answer | None:
        """The first mirror's answer; one that fails is passed over from now on."""
        for number, mirror in enumerate(self._mirrors):
            if number in self._passed:
                continue
            try:
                return ask(mirror)
            except (NotFound, TransferError) as error:
                self.stop.check()
                self._pass_over(number, mirror, error)
        return None

    def _pass_over(self, number: int, mirror: RegistryRepository, error: PannierError) -> None:
        with self._lock:
            new = number not in self._passed
            self._passed.add(number)
        if new:
            self.wire.tools.on_warning(f"mirror {mirror.place} is passed over: {error.message}")
