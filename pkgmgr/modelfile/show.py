"""The Modelfile that would build a given model again. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..dialects import gojson
from ..digest import Digest
from ..modelspec import ModelSpec, Role
from .parameters import PARAMETERS
from .syntax import Command, Modelfile

_FILES = {Role.ADAPTER: "adapter", Role.DRAFT: "draft", Role.PROJECTOR: "from"}


def modelfile_of(spec: ModelSpec, path_of: Callable[[Digest], Path]) -> Modelfile:
    """The Modelfile of a model, its files named by their paths in the store.

    Building it gives an artifact of the same files, texts and options.
    """
    return Modelfile(tuple(_commands(spec, path_of)))


def parameter_commands(spec: ModelSpec) -> tuple[Command, ...]:
    """The PARAMETER lines of a model, by name."""
    found: list[Command] = []
    for name, value in sorted(spec.params.items()):
        values = value if isinstance(value, list | tuple) else [value]
        if name in PARAMETERS:
            # Quoted, so that a stop word "unset" does not take the others away.
            found += [
                Command("parameter", _text(v), name, quoted=_text(v) == "unset") for v in values
            ]
    return tuple(found)


def _commands(spec: ModelSpec, path_of: Callable[[Digest], Path]) -> Iterator[Command]:
    for part in spec.select(Role.WEIGHTS):
        yield Command("from", str(path_of(part.descriptor.digest)))
    for role, name in _FILES.items():
        for part in spec.select(role):
            yield Command(name, str(path_of(part.descriptor.digest)))
    for name, value in (("template", spec.template), ("system", spec.system)):
        if value is not None:
            yield Command(name, value)
    for name in ("renderer", "parser", "requires"):
        if spec.settings.get(name):
            yield Command(name, str(spec.settings[name]))
    yield from parameter_commands(spec)
    for text in spec.licenses:
        yield Command("license", text)
    for message in spec.messages:
        yield Command("message", message.content, message.role)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else gojson.dumps(value)
