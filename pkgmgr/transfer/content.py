"""The seam of all transfer: five methods make a place that content can be copied from and to.

After oras-go's `Target`. The local store, a registry repository, an OCI layout directory and an
OCI archive implement it; push, pull, export, import and mirror are one `copy` between two of them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar, runtime_checkable

from ..descriptor import Descriptor
from ..errors import IntegrityError, PannierError, TransferError
from ..reference import Reference

_Result = TypeVar("_Result")


class Reader(Protocol):
    """A stream of bytes, as `open(..., "rb")` gives it."""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes; empty at the end."""


@runtime_checkable
class Source(Protocol):
    """A place to read content from. Methods may be called from several threads."""

    @property
    def place(self) -> str:
        """What messages call this place: a host with repository, a directory."""

    def resolve(self, reference: Reference) -> Descriptor:
        """The descriptor of the manifest that a name stands for.

        Raises:
            ModelNotFound: where the place has no such name.
            TransferError: where it cannot be asked.
        """

    def exists(self, descriptor: Descriptor) -> bool:
        """Whether the place holds this blob or manifest, whole."""

    def fetch(self, descriptor: Descriptor, *, offset: int = 0) -> AbstractContextManager[Reader]:
        """Open the content of a blob or manifest from byte `offset` on.

        The bytes are not yet verified: whoever takes them checks digest and size
        (`pannier.pkgmgr.transfer.verify`).

        Raises:
            BlobNotFound: where the place does not have it.
            TransferError: where it cannot be asked.
        """


@runtime_checkable
class Target(Source, Protocol):
    """A place to write content to as well."""

    def push(self, descriptor: Descriptor, content: Reader) -> None:
        """Take in one blob or manifest; it becomes visible only if digest and size are right.

        A blob that is there already is left alone, and `content` may stay unread.

        Raises:
            IntegrityError: where the bytes are not what the descriptor says; nothing is visible.
            NoSpace: where the disk is full; nothing is visible.
            TransferError: where the place cannot be asked or refuses.
        """

    def tag(self, descriptor: Descriptor, reference: Reference) -> None:
        """Give a manifest that the place holds a name, replacing what had the name before.

        Raises:
            BlobNotFound: where the manifest, or a blob that it needs, is not there.
            TransferError: where the place cannot be asked or refuses.
        """


def exactly(content: Reader, size: int) -> bytes:
    """The next `size` bytes; fewer where the content ends."""
    parts = []
    while size and (data := content.read(size)):
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


@runtime_checkable
class Mirrored(Protocol):
    """A source that reads a blob from one of several places."""

    def pass_over(self, descriptor: Descriptor, error: PannierError) -> bool:
        """Ask no more of the place that gave a blob wrong; whether another may do better."""


def until_right(source: Source, descriptor: Descriptor, act: Callable[[], _Result]) -> _Result:
    """Do `act`, which reads and verifies a blob, again for as long as a mirror gave it wrong.

    Raises:
        IntegrityError, TransferError: of the last place.
    """
    while True:
        try:
            return act()
        except (IntegrityError, TransferError) as error:
            if not isinstance(source, Mirrored) or not source.pass_over(descriptor, error):
                raise
