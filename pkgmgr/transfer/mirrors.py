"""A registry behind its mirrors: what is read is asked of each in order until one answers.

What a mirror gives is verified as what the registry itself gives: a digest decides. What is small
is verified before it is given, so that the next place is asked at once; of large blobs whoever
takes them says what was wrong (`pass_over`). Writing goes to the registry itself.
"""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from ..attachments import is_attachment_tag
from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import (
    IntegrityError,
    ManifestError,
    ModelNotFound,
    NotFound,
    PannierError,
    TransferError,
)
from ..manifest import MAX_MANIFEST_SIZE
from ..manifest import parse as parse_manifest
from ..reference import Reference
from .content import Reader
from .download import Opened
from .registry import RegistryRepository
from .upload import Uploads
from .verify import VerifyingReader
from .wire import Wire

_Answer = TypeVar("_Answer")
_log = logging.getLogger(__name__)


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
        self._passed: set[RegistryRepository] = set()
        self._givers: dict[Digest, list[RegistryRepository]] = {}
        self._away: TransferError | None = None
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
            found = mirror.resolve(asked)
            # What cannot be read there is found out while another place can still be asked.
            raw = _whole(mirror, found)
            parse_manifest(raw, media_type=found.media_type)
            self._manifests[found.digest] = found.media_type, raw
            return found

        optional = reference.tag is not None and is_attachment_tag(reference.tag)
        # One that lacks the model is not asked for its layers; signatures may be elsewhere.
        found = self._from_mirror(ask, excused=(NotFound,) if optional else ())
        if found is not None:
            return found
        if not optional or not any(self._asked()):
            return super().resolve(reference)
        # What hangs on a model is not worth failing for where a mirror has the model.
        try:
            self._require_origin()
            return super().resolve(reference)
        except TransferError as error:
            self._miss_origin(error)
            raise ModelNotFound(reference.familiar, place=self.place) from error

    def referrers(self, digest: Digest) -> tuple[Descriptor, ...] | None:
        """What the first place that lists any referrers of a manifest lists."""
        answers: list[tuple[Descriptor, ...] | None] = []

        def ask(mirror: RegistryRepository) -> tuple[Descriptor, ...]:
            answers.append(mirror.referrers(digest))
            if not answers[-1]:
                raise ModelNotFound(str(digest), place=mirror.place)
            return answers[-1]

        found = self._from_mirror(ask)
        if found is not None:
            return found
        if not answers:
            return super().referrers(digest)
        try:
            self._require_origin()
            answers.append(super().referrers(digest))
        except TransferError as error:
            self._miss_origin(error)
        return answers[-1] or (None if None in answers else ())

    @contextmanager
    def fetch(self, descriptor: Descriptor, *, offset: int = 0) -> Iterator[Reader]:
        """Open a blob or manifest at the first place that has it."""
        small = 0 < descriptor.size <= MAX_MANIFEST_SIZE and offset == 0

        def ask(mirror: RegistryRepository) -> Reader:
            if small:
                return io.BytesIO(_whole(mirror, descriptor))
            opened = closing.enter_context(mirror.fetch(descriptor, offset=offset))
            self._note(mirror, descriptor)
            return opened

        with ExitStack() as closing:
            kept = descriptor.digest in self._manifests
            found = None if kept else self._from_mirror(ask)
            if found is None:
                found = closing.enter_context(super().fetch(descriptor, offset=offset))
            yield found

    @contextmanager
    def fetch_range(self, descriptor: Descriptor, start: int, stop: int) -> Iterator[Opened]:
        """Open a range of a blob at the first place that has it."""

        def ask(mirror: RegistryRepository) -> Opened:
            opened = closing.enter_context(mirror.fetch_range(descriptor, start, stop))
            self._note(mirror, descriptor)
            return opened

        with ExitStack() as closing:
            found = self._from_mirror(ask)
            if found is None:
                found = closing.enter_context(super().fetch_range(descriptor, start, stop))
            yield found

    def pass_over(self, descriptor: Descriptor, error: PannierError) -> bool:
        """Ask no more of a mirror whose bytes of a blob broke off or were wrong.

        Returns:
            Whether any came from a mirror, so that another place may do better.
        """
        self.stop.check()
        with self._lock:
            givers = self._givers.pop(descriptor.digest, [])
            left = [mirror for mirror in givers if mirror not in self._passed]
        if left:
            self._pass_over(left[0], error)
        return bool(givers)

    def _note(self, mirror: RegistryRepository, descriptor: Descriptor) -> None:
        """Remember that a blob, or some of it, came from a mirror."""
        with self._lock:
            givers = self._givers.setdefault(descriptor.digest, [])
            if mirror not in givers:
                givers.append(mirror)

    def _from_mirror(
        self,
        ask: Callable[[RegistryRepository], _Answer],
        *,
        excused: tuple[type[PannierError], ...] = (NotFound,),
    ) -> _Answer | None:
        """The first mirror's answer; one that fails by no `excused` error is not asked again."""
        for mirror in self._asked():
            try:
                return ask(mirror)
            except excused as error:
                _log.debug("mirror %s: %s", mirror.place, error.message)
            except (NotFound, TransferError, IntegrityError, ManifestError) as error:
                self.stop.check()
                self._pass_over(mirror, error)
        return None

    def _asked(self) -> Iterator[RegistryRepository]:
        return (mirror for mirror in self._mirrors if mirror not in self._passed)

    def _pass_over(self, mirror: RegistryRepository, error: PannierError) -> None:
        with self._lock:
            new = mirror not in self._passed
            self._passed.add(mirror)
        if new:
            self.wire.tools.on_warning(f"mirror {mirror.place} is passed over: {error.message}")

    def _require_origin(self) -> None:
        """Ask no second time, with all its waits, for what is optional."""
        if self._away is not None:
            raise self._away

    def _miss_origin(self, error: TransferError) -> None:
        self.stop.check()
        with self._lock:
            new, self._away = self._away is None, error
        if new:
            self.wire.tools.on_warning(
                f"signatures and the like are looked for on mirrors only: {error.message}"
            )


def _whole(mirror: RegistryRepository, descriptor: Descriptor) -> bytes:
    """All of something small, verified, as often as the retry policy allows."""
    failures = 0
    while True:
        try:
            with mirror.fetch(descriptor) as content:
                return VerifyingReader(content, descriptor, place=mirror.place).read()
        except TransferError as error:
            failures += 1
            wait_s = mirror.retry.wait_s(error, failures)
            if wait_s is None:
                raise
            mirror.stop.wait(wait_s)
