"""Parts the reasoning of a model from its answer, by the tags around the reasoning. Pure.

The rules are Ollama's: the opening tag counts only at the beginning, blanks after both tags are
dropped, and text without an opening tag is all content, blanks and all.
"""

from __future__ import annotations

from enum import Enum, auto

from .output import Output, overlap


class _State(Enum):
    BEFORE = auto()
    AFTER_OPENING = auto()
    THINKING = auto()
    AFTER_CLOSING = auto()
    CONTENT = auto()


class ThinkingParser:
    """An `OutputParser` for one pair of tags."""

    def __init__(self, opening: str, closing: str, *, is_open: bool = False) -> None:
        """`is_open` where the prompt ends with the opening tag already."""
        self._opening = opening
        self._closing = closing
        self._state = _State.AFTER_OPENING if is_open else _State.BEFORE
        self._buffer = ""

    def feed(self, text: str) -> list[Output]:
        """See `OutputParser.feed`."""
        self._buffer += text
        outputs: list[Output] = []
        before = None
        while before is not self._state:
            before = self._state
            output = self._step()
            if output:
                outputs.append(output)
        return outputs

    def finish(self) -> list[Output]:
        """See `OutputParser.finish`."""
        rest, self._buffer = self._buffer, ""
        if not rest or self._state in (_State.AFTER_OPENING, _State.AFTER_CLOSING):
            return []
        return [Output(thinking=rest) if self._state is _State.THINKING else Output(rest)]

    def _step(self) -> Output:
        match self._state:
            case _State.BEFORE:
                self._find_opening()
            case _State.AFTER_OPENING | _State.AFTER_CLOSING:
                self._skip_blanks()
            case _State.THINKING:
                return self._think()
            case _State.CONTENT:
                text, self._buffer = self._buffer, ""
                return Output(text)
        return Output()

    def _find_opening(self) -> None:
        text = self._buffer.lstrip()
        if text.startswith(self._opening):
            self._buffer = text[len(self._opening) :]
            self._state = _State.AFTER_OPENING
        elif not self._opening.startswith(text):
            self._state = _State.CONTENT

    def _skip_blanks(self) -> None:
        self._buffer = self._buffer.lstrip()
        if self._buffer:
            thinks = self._state is _State.AFTER_OPENING
            self._state = _State.THINKING if thinks else _State.CONTENT

    def _think(self) -> Output:
        thinking, tag, rest = self._buffer.partition(self._closing)
        if tag:
            self._buffer = rest
            self._state = _State.AFTER_CLOSING
            return Output(thinking=thinking)
        held = overlap(self._buffer, (self._closing,))
        thinking = self._buffer[: len(self._buffer) - held]
        self._buffer = self._buffer[len(thinking) :]
        return Output(thinking=thinking)
