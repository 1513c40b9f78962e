"""What is wrong or odd in a Modelfile, found without building it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ..errors import InvalidInput, ModelfileError
from ..reference import DEFAULT_TAG, Reference
from .parameters import DEPRECATED, UNSET, check_name, parse_value
from .recipe import check_requires
from .sources import find_files, read_checked_header
from .syntax import Command, Modelfile, parse, render

_ONCE = ("template", "system", "renderer", "parser", "requires")
_FILES = ("from", "adapter", "draft")


class Severity(StrEnum):
    """An error keeps the Modelfile from being built; a warning does not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to change. `line` counts from 1; None where no single line is at fault."""

    severity: Severity
    line: int | None
    message: str


def lint(text: str, *, base_dir: Path, path: Path | None = None) -> tuple[Finding, ...]:
    """Look through a Modelfile; reads the headers of the files that it names, and no more.

    Args:
        text: all of it.
        base_dir: what relative paths are relative to.
        path: for messages.
    """
    try:
        modelfile = parse(text, path=path)
    except ModelfileError as error:
        return (Finding(Severity.ERROR, error.line, error.reason),)
    findings = [*_repeated(modelfile), *_format(modelfile, text)]
    for command in modelfile.commands:
        findings += _check(command, base_dir)
    return tuple(sorted(findings, key=lambda item: (item.line or 0, item.severity)))


def _check(command: Command, base_dir: Path) -> Iterator[Finding]:
    try:
        if command.name == "parameter":
            yield from _parameter(command)
        elif command.name in _FILES:
            yield from _file(command, base_dir)
        elif command.name == "requires" and command.value:
            check_requires(command.value)
        elif command.name == "template":
            yield from _template(command)
        elif not command.value.strip() and command.name != "message":
            yield _warning(command, f"{command.name.upper()} has no value")
    except InvalidInput as error:
        reason = error.reason if isinstance(error, ModelfileError) else error.message
        yield Finding(Severity.ERROR, command.line, reason)


def _parameter(command: Command) -> Iterator[Finding]:
    name = command.key or ""
    if name in DEPRECATED:
        yield _warning(command, f"parameter {name} has no effect any more")
        return
    check_name(name)
    if command.value == UNSET and not command.quoted:
        return
    value = parse_value(name, command.value)
    if name in ("temperature", "top_p", "min_p", "typical_p", "repeat_penalty") and value < 0:
        yield _warning(command, f"{name} is below zero")
    if name in ("top_p", "min_p", "typical_p") and value > 1:
        yield _warning(command, f"{name} is a share and above one")
    if name == "stop" and not value:
        yield _warning(command, "an empty stop text never stops anything")


def _file(command: Command, base_dir: Path) -> Iterator[Finding]:
    paths = find_files(command.value, base_dir)
    if paths is None:
        if command.name != "from":
            yield Finding(Severity.ERROR, command.line, f"there is no file {command.value!r}")
            return
        reference = Reference.parse(command.value)
        if reference.digest is None and reference.tag == DEFAULT_TAG:
            yield _warning(
                command, f"{command.value} may be another model tomorrow: name a tag or digest"
            )
        return
    for path in paths:
        read_checked_header(path, name=path.name)


def _template(command: Command) -> Iterator[Finding]:
    if "{{" not in command.value:
        yield _warning(command, "the template has no {{ }}: every prompt would be the same")
    elif ".Prompt" not in command.value and ".Messages" not in command.value:
        yield _warning(command, "the template uses neither .Prompt nor .Messages")


def _repeated(modelfile: Modelfile) -> Iterator[Finding]:
    for name in _ONCE:
        for command in modelfile.select(name)[:-1]:
            yield _warning(command, f"a later {name.upper()} takes the place of this one")
    seen: dict[str, Command] = {}
    for command in modelfile.select("parameter"):
        key = command.key or ""
        if key != "stop" and key in seen:
            yield _warning(seen[key], f"a later PARAMETER {key} takes the place of this one")
        seen[key] = command


def _format(modelfile: Modelfile, text: str) -> Iterator[Finding]:
    if render(modelfile) != text.removeprefix("\ufeff"):
        yield Finding(Severity.WARNING, None, "it is not in plain form: `pannier fmt` writes that")


def _warning(command: Command, message: str) -> Finding:
    return Finding(Severity.WARNING, command.line, message)
