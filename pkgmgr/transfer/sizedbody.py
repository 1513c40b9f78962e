"""A request body of a known length, streamed from a reader."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..descriptor import Descriptor
from ..errors import SizeMismatch
from .content import Reader
from .reply import Tools


class SizedBody:
    """Bytes `start` to `stop` of a content, as requests wants a body to be."""

    def __init__(
        self, content: Reader, descriptor: Descriptor, start: int, stop: int, tools: Tools
    ) -> None:
        self._content = content
        self._descriptor = descriptor
        self._start = start
        self._stop = stop
        self._tools = tools
        self._position = start
        if start > 0 or can_seek(content):
            seek_of(content)(start)

    def __len__(self) -> int:
        return self._stop - self._start

    def read(self, size: int = -1, /) -> bytes:
        """The next piece of the body.

        Raises:
            SizeMismatch: where the content ends early.
            Cancelled: where the end was asked for.
        """
        self._tools.stop.check()
        left = self._stop - self._position
        data = self._content.read(left if size < 0 else min(size, left)) if left else b""
        if not data and left:
            whole = self._descriptor
            raise SizeMismatch(str(whole.digest), whole.size, self._position)
        self._position += len(data)
        if self._tools.limit is not None and data:
            self._tools.limit.spend(len(data), self._tools.stop)
        return data

    def rewind(self) -> bool:
        """Go back to the beginning, where nothing has left yet or the content can seek."""
        if self._position == self._start:
            return True
        if not can_seek(self._content):
            return False
        seek_of(self._content)(self._start)
        self._position = self._start
        return True


def can_seek(content: Reader) -> bool:
    """Whether a content can be read again from any place."""
    seekable: Any = getattr(content, "seekable", None)
    return seekable is not None and bool(seekable())


def seek_of(content: Reader) -> Callable[[int], object]:
    """The content's way to another place."""
    seek: Callable[[int], object] = content.seek  # type: ignore[attr-defined]  # can_seek said so
    return seek
