"""A registry behind its mirrors: each is asked in order until one answers.

What a mirror gives is verified as what the registry itself gives: a digest decides. Who resolved
the name is asked first for its content.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self, TypeVar

from ..descriptor import Descriptor
from ..errors import NotFound, PannierError, TransferError
from ..reference import Reference
from .content import Reader
from .download import Opened
from .registry import RegistryRepository
from .retry import RetryPolicy, Stop

_Answer = TypeVar("_Answer")


class MirroredSource:
    """Several repositories that hold the same content, as one source. Thread-safe."""

    def __init__(
        self, places: Sequence[RegistryRepository], *, on_warning: Callable[[str], None]
    ) -> None:
        self._places = list(places)
        self._passed: list[RegistryRepository] = []
        self._lock = threading.Lock()
        self._on_warning = on_warning

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for place in (*self._passed, *self._places):
            place.close()

    @property
    def place(self) -> str:
        """What messages call the one that is asked first now."""
        return self._places[0].place

    @property
    def retry(self) -> RetryPolicy:
        """What to do about exchanges that fail for a time."""
        return self._places[0].retry

    @property
    def stop(self) -> Stop:
        """The wish to end of the one that is asked first."""
        return self._places[0].stop

    def interrupt(self) -> None:
        """Make every exchange end with `Cancelled` now."""
        for place in self._places:
            place.interrupt()

    def resolve(self, reference: Reference) -> Descriptor:
        """The manifest of a name, from the first place that has it.

        Raises:
            PannierError: what the last place, the registry itself, says.
        """

        def ask(place: RegistryRepository) -> Descriptor:
            asked = place.reference.with_tag(reference.tag).with_digest(reference.digest)
            return place.resolve(asked)

        return self._first(ask)

    def exists(self, descriptor: Descriptor) -> bool:
        """Whether one of them has the blob or manifest."""
        return any(place.exists(descriptor) for place in self._places)

    @contextmanager
    def fetch(self, descriptor: Descriptor, *, offset: int = 0) -> Iterator[Reader]:
        """Open a blob or manifest at the first place that has it."""
        with ExitStack() as closing:
            yield self._first(
                lambda place: closing.enter_context(place.fetch(descriptor, offset=offset))
            )

    @contextmanager
    def fetch_range(self, descriptor: Descriptor, start: int, stop: int) -> Iterator[Opened]:
        """Open a range of a blob at the first place that has it."""
        with ExitStack() as closing:
            yield self._first(
                lambda place: closing.enter_context(place.fetch_range(descriptor, start, stop))
            )

    def _first(self, ask: Callable[[RegistryRepository], _Answer]) -> _Answer:
        """The first answer; a place that fails is passed over from now on."""
        while True:
            place = self._places[0]
            try:
                return ask(place)
            except (NotFound, TransferError) as error:
                if len(self._places) == 1 or self.stop.is_set():
                    raise
                self._pass_over(place, error)

    def _pass_over(self, place: RegistryRepository, error: PannierError) -> None:
        with self._lock:
            if len(self._places) > 1 and self._places[0] is place:
                self._passed.append(self._places.pop(0))
                self._on_warning(f"mirror {place.place} is passed over: {error.message}")
