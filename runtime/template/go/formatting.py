"""Go's fmt.Sprintf: the format string, its directives and their operands. Pure.

A directive is `%`, flags, an operand's number, a width, a precision and a verb, most of which may
be left out. fmt never fails: it writes its complaints (`%!d(string=x)`, `%!(EXTRA …)`) into the
text. What values look like under a verb stands in `verbs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .printing import joined, to_text
from .values import NIL, type_name
from .verbs import Style, one

_MOST = 1_000_000  # fmt's own limit for widths and precisions
_MOST_DIGITS = 100  # in an operand's number; fmt has no such bound, and no use for more
_FLAGS = {"#": "sharp", "0": "zero", "+": "plus", "-": "minus", " ": "space"}


def sprintf(form: str, values: list[Any]) -> str:
    """fmt.Sprintf.

    Raises:
        GoError: where the text gets too long.
    """
    return joined(_Format(form, values).parts())


class _Format:
    """One pass over a format string. `_next` is the operand that the next directive takes."""

    def __init__(self, form: str, values: list[Any]) -> None:
        self._form = form
        self._values = values
        self._place = 0
        self._next = 0
        self._is_good = True
        self._reordered = False

    def parts(self) -> Iterator[str]:
        """The text, piece by piece."""
        form = self._form
        while self._place < len(form):
            percent = form.find("%", self._place)
            if percent < 0:
                yield form[self._place :]
                break
            yield form[self._place : percent]
            self._place = percent + 1
            yield from self._directive()
        if not self._reordered and self._next < len(self._values):
            yield "%!(EXTRA "
            for place, value in enumerate(self._values[self._next :]):
                yield (", " if place else "") + _typed(value)
            yield ")"

    def _directive(self) -> Iterator[str]:
        style = Style()
        self._is_good = True
        while self._place < len(self._form) and (flag := _FLAGS.get(self._form[self._place])):
            setattr(style, flag, True)
            self._place += 1
        after_index = self._operand_number()
        after_index, trouble = self._width(style, after_index)
        yield trouble
        after_index, trouble = self._precision(style, after_index)
        yield trouble
        if not after_index:
            self._operand_number()
        if self._place >= len(self._form):
            yield "%!(NOVERB)"
            return
        verb = self._form[self._place]
        self._place += 1
        yield self._text(verb, style)

    def _text(self, verb: str, style: Style) -> str:
        if verb == "%":
            return "%"
        if not self._is_good:
            return f"%!{verb}(BADINDEX)"
        if self._next >= len(self._values):
            return f"%!{verb}(MISSING)"
        value = self._values[self._next]
        self._next += 1
        return one(value, verb, style.for_verb(verb))

    def _width(self, style: Style, after_index: bool) -> tuple[bool, str]:
        """Whether an operand's number still stands directly before, and fmt's complaint."""
        if not self._at("*"):
            style.width = self._number()
            if after_index and style.width is not None:
                self._is_good = False
            return after_index, ""
        style.width = self._size()
        if style.width is not None and style.width < 0:
            style.width, style.minus, style.zero = -style.width, True, False
        return False, "" if style.width is not None else "%!(BADWIDTH)"

    def _precision(self, style: Style, after_index: bool) -> tuple[bool, str]:
        """As `_width`; a point at the very end is no precision, but the verb."""
        if self._place + 1 >= len(self._form) or not self._at("."):
            return after_index, ""
        if after_index:
            self._is_good = False
        after_index = self._operand_number()
        if not self._at("*"):
            style.precision = self._number() or 0
            return after_index, ""
        precision = self._size()
        style.precision = None if precision is None or precision < 0 else precision
        return False, "" if style.precision is not None else "%!(BADPREC)"

    def _at(self, char: str) -> bool:
        """Whether `char` comes next, which is taken then."""
        found = self._form.startswith(char, self._place)
        self._place += found
        return found

    def _number(self) -> int | None:
        """The digits that come next; None where there are none, or too many for fmt."""
        start = self._place
        value = 0
        while self._place < len(self._form) and self._form[self._place] in "0123456789":
            if value > _MOST:
                self._place = len(self._form)
                return None
            value = value * 10 + int(self._form[self._place])
            self._place += 1
        return value if self._place > start else None

    def _size(self) -> int | None:
        """A width or precision that an operand gives, None where it is none."""
        if self._next >= len(self._values):
            return None
        value = self._values[self._next]
        self._next += 1
        is_size = isinstance(value, int) and not isinstance(value, bool)
        return value if is_size and abs(value) <= _MOST else None

    def _operand_number(self) -> bool:
        """Take `[n]`, the number of the next operand; whether there was one."""
        if not self._form.startswith("[", self._place):
            return False
        self._reordered = True
        start = self._place + 1
        end = self._form.find("]", start)
        if end < 0:
            self._is_good = False
            self._place += 1
            return False
        digits = self._form[start:end]
        self._place = end + 1
        if not digits.isdecimal() or not digits.isascii() or len(digits) > _MOST_DIGITS:
            self._is_good = False
            return False
        number = int(digits)
        self._is_good &= 0 < number <= len(self._values)
        self._next = number - 1 if 0 < number <= len(self._values) else self._next
        return True


def _typed(value: Any) -> str:
    if value is None or value is NIL:
        return "<nil>"
    return f"{type_name(value)}={to_text(value)}"
