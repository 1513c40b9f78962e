"""The Modelfile grammar: text ↔ commands. Pure; what the commands mean is `build`'s business.

Ollama's grammar (docs/modelfile.md there), with three differences, all so that no value is lost:
characters that do not print are kept (Ollama drops them), CRLF counts as one line in messages, and
``JSON SYSTEM "…"`` gives any instruction its value as a JSON string. `render` uses that form only
for values that the other forms cannot carry.

Law: ``parse(render(m)) == m`` for every Modelfile ``m`` with a FROM.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ModelfileError

_NAMES = ("from", "license", "template", "system", "adapter", "draft", "renderer", "parser",
          "parameter", "message", "requires")  # fmt: skip
ROLES = ("system", "user", "assistant")
_JSON = "json"
_BLANKS = " \t"
_SPACE = " \t\r\n"
_NEWLINE = re.compile(r"\r\n?|\n")
_LETTERS = re.compile(r"[A-Za-z]+")
_KEY = re.compile(r"[A-Za-z0-9_]+")
# What an editor, a terminal or a copy through the clipboard may change without being asked.
_FRAGILE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufeff]")


@dataclass(frozen=True, slots=True)
class Command:
    """One instruction.

    Attributes:
        name: lower case: `from`, `parameter`, …
        value: unquoted.
        key: the option's name of a `parameter`, the role of a `message`, None for all others.
        line: where it begins, from 1; 0 where it was not read from text.
        quoted: whether its value stood in quotes, which makes ``PARAMETER stop "unset"`` a text.
        after_blank: whether an empty line stood before it.
    """

    name: str
    value: str
    key: str | None = None
    line: int = field(default=0, compare=False)
    quoted: bool = field(default=False, compare=False)
    after_blank: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment: what follows the sign up to the end of the line."""

    text: str
    line: int = field(default=0, compare=False)
    after_blank: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Modelfile:
    """A Modelfile: instructions and comments in order."""

    items: tuple[Command | Comment, ...]
    path: Path | None = field(default=None, compare=False)

    @property
    def commands(self) -> tuple[Command, ...]:
        """The instructions, without the comments."""
        return tuple(item for item in self.items if isinstance(item, Command))

    def select(self, name: str) -> tuple[Command, ...]:
        """The instructions of one name, in order."""
        return tuple(command for command in self.commands if command.name == name)

    def last(self, name: str) -> Command | None:
        """The instruction that counts where only one of its name can."""
        return next(reversed(self.select(name)), None)

    def error(
        self, command: Command | None, reason: str, *, hint: str | None = None
    ) -> ModelfileError:
        """An error at one of the commands."""
        line = command.line or None if command else None
        return ModelfileError(reason, line=line, path=self.path, hint=hint)


def decode(raw: bytes, *, path: Path | None = None) -> str:
    """The text of a Modelfile's bytes: UTF-8, or what its byte-order mark says.

    Raises:
        ModelfileError: where the bytes are no text.
    """
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise ModelfileError("not UTF-8 text", path=path) from error


def parse(text: str, *, path: Path | None = None) -> Modelfile:
    """Read a Modelfile.

    Args:
        text: all of it.
        path: where it was read from, for messages.

    Raises:
        ModelfileError: with the line of the instruction that is wrong.
    """
    scanner = _Scanner(text.removeprefix("\ufeff"), path)
    items = tuple(scanner.items())
    modelfile = Modelfile(items, path)
    if not modelfile.select("from"):
        raise ModelfileError("no FROM line", path=path, hint="begin it with FROM NAME or FROM FILE")
    return modelfile


def render(modelfile: Modelfile | Iterable[Command | Comment]) -> str:
    """Write a Modelfile, one item after the other, in the one form that `fmt` gives it."""
    items = modelfile.items if isinstance(modelfile, Modelfile) else tuple(modelfile)
    lines = []
    for number, item in enumerate(items):
        if item.after_blank and number:
            lines.append("")
        lines.append(_line(item))
    return "".join(line + "\n" for line in lines)


class _Scanner:
    """Reads commands one after the other; `position` is where the next one is looked for."""

    def __init__(self, text: str, path: Path | None) -> None:
        self.text = text
        self.position = 0
        self._path = path
        self._line = 1
        self._counted = 0

    def items(self) -> Iterable[Command | Comment]:
        while True:
            start = self.position
            self.position = _skip(self.text, start, _SPACE)
            # The newline that ended the item before stays unread, hence two make an empty line.
            blank = len(_NEWLINE.findall(self.text, start, self.position)) > 1
            if self.position == len(self.text):
                return
            line = self._line_at(self.position)
            if self.text[self.position] == "#":
                yield Comment(self._rest_of_line(self.position + 1), line, blank)
            else:
                yield self._command(line, blank)

    def _command(self, line: int, blank: bool) -> Command:
        name = self._name(line)
        as_json = name == _JSON
        if as_json:
            name = self._name(line)
        if name not in _NAMES:
            names = ", ".join(f'"{known}"' for known in _NAMES)
            raise self._error(f"command must be one of {names}", line)
        key = self._key(name, line, as_json) if name in ("parameter", "message") else None
        if as_json:
            return Command(name, self._json(line), key, line, True, blank)
        end, value, quoted = _read_value(self.text, self.position)
        if end is None:
            raise self._error("the value has no closing quote", line)
        self.position = end
        return Command(name, value, key, line, quoted, blank)

    def _name(self, line: int) -> str:
        self.position = _skip(self.text, self.position, _BLANKS)
        return self._word(_LETTERS, "instruction", line).lower()

    def _key(self, name: str, line: int, as_json: bool) -> str:
        self.position = _skip(self.text, self.position, _BLANKS)
        if name == "parameter":
            return self._word(_KEY, "parameter", line)
        role = self._word(_LETTERS, "message", line)
        if role not in ROLES and not (as_json and role == "tool"):
            raise self._error('message role must be one of "system", "user", or "assistant"', line)
        return role

    def _word(self, pattern: re.Pattern[str], what: str, line: int) -> str:
        """A word and the blank that must follow it."""
        match = pattern.match(self.text, self.position)
        end = match.end() if match else self.position
        if match is None or self.text[end : end + 1] not in (" ", "\t"):
            rest = self._rest_of_line(self.position).strip()
            known = rest.lower() in _NAMES or (match is not None and end == len(self.text))
            reason = "has no value" if known else "is not an instruction with a value"
            if what != "instruction":
                reason = f"is not a {what} with a value"
            raise self._error(f"{rest[:60]!r} {reason}", line)
        self.position = end + 1
        return match[0]

    def _json(self, line: int) -> str:
        try:
            value = json.loads(self._rest_of_line(self.position))
        except ValueError as error:
            raise self._error(f"the value is no JSON string: {error}", line) from error
        if not isinstance(value, str):
            raise self._error("the value is no JSON string", line)
        return value

    def _rest_of_line(self, start: int) -> str:
        end = _line_end(self.text, start)
        self.position = end
        return self.text[start:end]

    def _line_at(self, position: int) -> int:
        self._line += len(_NEWLINE.findall(self.text, self._counted, position))
        self._counted = position
        return self._line

    def _error(self, reason: str, line: int) -> ModelfileError:
        return ModelfileError(reason, line=line, path=self._path)


def _skip(text: str, position: int, characters: str) -> int:
    while position < len(text) and text[position] in characters:
        position += 1
    return position


def _line_end(text: str, start: int) -> int:
    match = _NEWLINE.search(text, start)
    return match.start() if match else len(text)


def _read_value(text: str, start: int) -> tuple[int | None, str, bool]:
    """(where the value ends, unquoted, whether it was quoted); None where a quote stays open.

    A value runs to the first line end at which it is balanced: it does not begin with a quote, or
    it ends with the quote, single or triple, that it begins with. There are no escapes.
    """
    first = _skip(text, start, _BLANKS)
    quote = next((sign for sign in ('"""', '"') if text.startswith(sign, first)), "")
    end = first
    while True:
        end = _line_end(text, end)
        last = end
        while last > first and text[last - 1] in _SPACE:
            last -= 1
        if last - first >= 2 * len(quote) and text.endswith(quote, first, last):
            value = text[first + len(quote) : last - len(quote)]
            return end, value, bool(quote)
        if end == len(text):
            return None, "", True
        end += 1


def _line(item: Command | Comment) -> str:
    if isinstance(item, Comment):
        return "\n".join("#" + line for line in _NEWLINE.split(item.text))
    words = [item.name.upper()] + ([item.key] if item.key is not None else [])
    text = _written(item)
    if text is None or (item.name == "message" and item.key not in ROLES):
        words.insert(0, _JSON.upper())
        text = json.dumps(item.value)
    return " ".join([*words, text])


def _written(command: Command) -> str | None:
    """The value in the plainest form that reads back as itself; None where there is none."""
    value = command.value
    if _FRAGILE.search(value):
        return None
    forms = [value, f'"{value}"', f'"""{value}"""']
    if "\n" in value:
        forms = [forms[2], forms[1]]
    elif command.quoted and command.name == "parameter":
        forms = forms[1:]
    elif not value:
        forms = ['""']
    for form in forms:
        if _read_value(form + "\n", 0)[:2] == (len(form), value):
            return form
    return None
