"""From token bytes to text that may be sent: whole characters, and nothing of a stop text.

A token may hold part of a character, a stop text may span tokens and begin inside one. So bytes
are collected, the end that may still become a character or a stop text is held back, and the rest
is released. Pure.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """Decodes one answer. Feed it token bytes; it returns the text that is safe to send.

    Attributes:
        stopped_by: the stop text that ended the answer, None while there was none.
    """

    __slots__ = ("_decode", "_first", "_held", "_stops", "stopped_by")

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._first = frozenset(stop[0] for stop in self._stops)
        self._held = ""
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self.stopped_by: str | None = None

    def feed(self, data: bytes) -> str:
        """Text released by these bytes. After a stop text was met it is always empty."""
        text = self._decode(data)
        if not self._stops:
            return text
        if self.stopped_by is not None:
            return ""
        text = self._held + text
        found = self._find(text)
        if found >= 0:
            self._held = ""
            return text[:found]
        keep = self._keep_from(text)
        self._held = text[keep:]
        return text[:keep]

    def finish(self) -> str:
        """The end of the answer: what was held back, a cut character as U+FFFD."""
        rest = self._decode(b"", True)
        if self.stopped_by is not None:
            return ""
        text = self._held + rest
        self._held = ""
        return text

    def _find(self, text: str) -> int:
        """Where the earliest stop text begins (the longest of those), -1 without any."""
        best, name = -1, ""
        for stop in self._stops:
            at = text.find(stop)
            if at >= 0 and (best < 0 or (at, -len(stop)) < (best, -len(name))):
                best, name = at, stop
        if best >= 0:
            self.stopped_by = name
        return best

    def _keep_from(self, text: str) -> int:
        """The first position from which the rest of the text could begin a stop text."""
        if self._first.isdisjoint(text):
            return len(text)
        longest = max(map(len, self._stops))
        for at in range(max(0, len(text) - longest + 1), len(text)):
            if text[at] in self._first:
                tail = text[at:]
                if any(stop.startswith(tail) for stop in self._stops):
                    return at
        return len(text)
