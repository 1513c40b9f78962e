"""Reading the beginning of a remote blob by ranges: a header, never the weights behind it."""

from __future__ import annotations

from contextlib import ExitStack

from ..descriptor import Descriptor
from .answers import skip_to
from .content import exactly
from .download import Ranged

# The header of a large vocabulary is some 6 MiB; blocks double so that few requests are needed.
_FIRST_BLOCK = 256 << 10
_MAX_BLOCK = 4 << 20


class BlockReader:
    """A stream over a remote blob that asks for as little as is read; unverified."""

    def __init__(self, source: Ranged, descriptor: Descriptor) -> None:
        self._source = source
        self._descriptor = descriptor
        self._buffer = b""
        self._position = 0
        self._block = _FIRST_BLOCK

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes; -1 gives one block, not everything.

        Raises:
            TransferError: where the registry fails.
        """
        if not self._buffer and self._position < self._descriptor.size:
            self._buffer = self._next_block()
        taken = self._buffer if size < 0 else self._buffer[:size]
        self._buffer = self._buffer[len(taken) :]
        return taken

    def _next_block(self) -> bytes:
        start = self._position
        stop = min(start + self._block, self._descriptor.size)
        with ExitStack() as closing:
            opened = closing.enter_context(self._source.fetch_range(self._descriptor, start, stop))
            if opened.whole:
                skip_to(opened.content, start, self._descriptor)
            data = exactly(opened.content, stop - start)
        self._position += len(data)
        self._block = min(self._block * 2, _MAX_BLOCK)
        return data
