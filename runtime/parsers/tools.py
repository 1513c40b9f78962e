"""Parts tool calls from the text around them, while it streams. Pure.

A call is found by its opening mark; what turns out to be no call goes out as text, so that nothing
that a model wrote is lost. Marks that come alone between calls are dropped with the blanks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .blocks import Block, End, JsonBlock
from .calls import Toolbox, numbered
from .output import Output, first_of, overlap


@dataclass(frozen=True, slots=True)
class CallForm:
    """How one family of models marks a call.

    Attributes:
        opening: the mark that begins a call.
        block: makes the reader of a call from its opening mark.
        before: marks that announce calls and mean nothing themselves.
        between: marks that may come between and after calls and mean nothing.
        repeats: whether after a call another one may follow without its mark, as bare JSON.
    """

    opening: str
    block: Callable[[str, Toolbox], Block]
    before: tuple[str, ...] = ()
    between: tuple[str, ...] = ()
    repeats: bool = False


class ToolParser:
    """An `OutputParser` for some forms of calls."""

    def __init__(self, forms: Sequence[CallForm], tools: Toolbox, *, bare: bool = False) -> None:
        """`bare`: an answer that begins with `{` or `[` may be a call without any mark."""
        self._forms = {form.opening: form for form in forms}
        self._before = {mark: form for form in forms for mark in form.before}
        self._between = tuple(mark for form in forms for mark in (*form.before, *form.between))
        self._marks = (*self._forms, *self._before)
        self._tools = tools
        self._bare = bare
        self._at_start = bare
        self._form: CallForm | None = None
        self._block: Block | None = None
        self._after: CallForm | None = None
        self._buffer = ""
        self._count = 0

    def feed(self, text: str) -> list[Output]:
        """See `OutputParser.feed`."""
        self._buffer += text
        outputs: list[Output] = []
        while self._buffer and self._advance(outputs):
            pass
        return outputs

    def finish(self) -> list[Output]:
        """See `OutputParser.finish`."""
        outputs: list[Output] = []
        while self._block is not None:
            end = self._block.finish(self._buffer) or End(self._failing_place(), None)
            self._close(end, outputs)
            outputs += self.feed("")
        rest, self._buffer = self._buffer, ""
        rest = rest.lstrip() if self._after else rest
        if rest:
            outputs.append(Output(rest))
        return outputs

    def _failing_place(self) -> int:
        """Up to where an unfinished block is certainly text: past its opening mark."""
        return max(1, len(self._form.opening)) if self._form else 1

    def _advance(self, outputs: list[Output]) -> bool:
        """Do one step; False where more text is needed."""
        if self._block is not None:
            end = self._block.advance(self._buffer)
            if end is None:
                return False
            self._close(end, outputs)
            return True
        if self._after is not None:
            return self._skip(self._after)
        if self._at_start:
            return self._look_for_bare_json()
        return self._look_for_mark(outputs)

    def _look_for_bare_json(self) -> bool:
        text = self._buffer.lstrip()
        if not text:
            return False
        if any(mark.startswith(text) for mark in self._marks if mark != text):
            return False
        self._at_start = False
        if text[0] in "{[" and not text.startswith(self._marks):
            self._open(_BARE)
        return True

    def _look_for_mark(self, outputs: list[Output]) -> bool:
        found = first_of(self._buffer, self._marks)
        held = overlap(self._buffer, self._marks)
        if found is None or found[0] > len(self._buffer) - held:
            text = self._buffer[: len(self._buffer) - held]
            self._buffer = self._buffer[len(text) :]
            if text:
                outputs.append(Output(text))
            return False
        place, mark = found
        if place + len(mark) == len(self._buffer) and self._may_grow(mark):
            if place:
                outputs.append(Output(self._buffer[:place]))
                self._buffer = self._buffer[place:]
            return False
        if place:
            outputs.append(Output(self._buffer[:place]))
            self._buffer = self._buffer[place:]
        if mark in self._forms:
            self._open(self._forms[mark])
        else:
            self._after = self._before[mark]
            self._buffer = self._buffer[len(mark) :]
        return True

    def _may_grow(self, mark: str) -> bool:
        return any(other != mark and other.startswith(mark) for other in self._marks)

    def _skip(self, form: CallForm) -> bool:
        """After a call: drop blanks and marks without meaning, and see what comes."""
        text = self._buffer.lstrip()
        for mark in self._between:
            if text.startswith(mark):
                self._buffer = text[len(mark) :]
                return True
        if not text or any(mark.startswith(text) for mark in (*self._marks, *self._between)):
            return False
        following = text
        if form.repeats and text[0] in ",;":
            following = text[1:].lstrip()
            if not following:
                return False
        is_next = form.repeats and following[0] in "{["
        self._buffer, self._after = following if is_next else text, None
        if is_next:
            self._open(_follower(form))
        return True

    def _open(self, form: CallForm) -> None:
        self._form = form
        self._block = form.block(form.opening, self._tools)

    def _close(self, end: End, outputs: list[Output]) -> None:
        assert self._form is not None
        form, self._form, self._block = self._form, None, None
        text, self._buffer = self._buffer[: end.place], self._buffer[end.place :]
        if end.calls is None:
            outputs.append(Output(text))
            return
        calls = numbered(end.calls, self._count)
        self._count += len(calls)
        outputs.append(Output(tool_calls=calls))
        self._after = form


def _follower(form: CallForm) -> CallForm:
    """A further call under the mark of the one before."""
    return CallForm("", JsonBlock, form.before, form.between, repeats=True)


_BARE = CallForm("", JsonBlock, repeats=True)
