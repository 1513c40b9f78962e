"""From a parsed Modelfile to ingredients: commands become values, files go into the store."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from .. import mediatypes as mt
from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import InvalidInput, InvalidOption, ModelfileError
from ..modelspec import ChatMessage, Role
from ..reference import Reference
from ..store.store import Store
from ..transfer.events import Advanced, Finished, OnEvent, Started
from .gather import StoredFile
from .parameters import UNSET, check_name, is_deprecated, parse_value
from .sources import find_files, read_checked_header
from .syntax import Command, Modelfile, render

_T = TypeVar("_T")
_WANTED = {"from": Role.WEIGHTS, "adapter": Role.ADAPTER, "draft": Role.DRAFT}
SETTINGS = ("renderer", "parser", "requires")
_SEMVER = re.compile(r"v?\d+(\.\d+){0,2}(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")


@dataclass(frozen=True, slots=True)
class Ingredients:
    """What a model is made of. None, and empty where nothing can be empty, means: as the base.

    Attributes:
        base: the model that all else is laid over.
        files: GGUF files that are in the store already, in order.
        params: values in the form of `parameters.check_values`.
        unset: parameters of the base that go.
        settings: `renderer`, `parser`, `requires`; an empty value removes the base's.
        annotations: for the manifest.
    """

    base: Reference | None = None
    files: tuple[StoredFile, ...] = ()
    template: str | None = None
    system: str | None = None
    licenses: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    unset: frozenset[str] = frozenset()
    messages: tuple[ChatMessage, ...] = ()
    settings: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    annotations: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def check_requires(text: str) -> None:
    """Check a REQUIRES value.

    Raises:
        InvalidOption: where it is no semantic version.
    """
    if not _SEMVER.fullmatch(text):
        raise InvalidOption(f"requires must be a semantic version, not {text[:60]!r}")


def read_recipe(
    store: Store, modelfile: Modelfile, *, base_dir: Path, on_event: OnEvent
) -> Ingredients:
    """Take in the files of a Modelfile and understand its commands.

    Everything that costs nothing is checked before gigabytes are copied.

    Raises:
        ModelfileError: with the line at fault.
    """
    return _Kitchen(store, modelfile, base_dir, on_event).ingredients()


@dataclass(frozen=True, slots=True)
class _Planned:
    """A command that names files, or a model where there are none."""

    command: Command
    paths: tuple[Path, ...]


class _Kitchen:
    """Works through one Modelfile, once."""

    def __init__(
        self, store: Store, modelfile: Modelfile, base_dir: Path, on_event: OnEvent
    ) -> None:
        self._store = store
        self._modelfile = modelfile
        self._base_dir = base_dir
        self._on_event = on_event
        self._taken: dict[Path, tuple[Digest, int]] = {}

    def ingredients(self) -> Ingredients:
        params, unset = self._params()
        settings = self._settings()
        planned = [
            self._plan(command) for command in self._modelfile.commands if command.name in _WANTED
        ]
        base = self._base(planned)
        for item in planned:
            for path in item.paths:
                self._for(item.command, read_checked_header, path, name=str(path))
        return Ingredients(
            base=base,
            files=tuple(file for item in planned for file in self._take_in(item)),
            template=self._text("template"),
            system=self._text("system"),
            licenses=tuple(command.value for command in self._modelfile.select("license")),
            params=params,
            unset=unset,
            messages=tuple(
                ChatMessage(command.key or "", command.value)
                for command in self._modelfile.select("message")
            ),
            settings=settings,
            annotations={mt.MODELFILE_DIGEST: str(self._fingerprint(planned))},
        )

    def _plan(self, command: Command) -> _Planned:
        paths = self._for(command, find_files, command.value, self._base_dir)
        if paths is None and command.name != "from":
            raise self._modelfile.error(command, f"there is no file {command.value!r}")
        return _Planned(command, paths or ())

    def _base(self, planned: list[_Planned]) -> Reference | None:
        names = [item.command for item in planned if not item.paths]
        if len(names) > 1:
            raise self._modelfile.error(names[1], "a model can have one base only")
        return self._for(names[0], Reference.parse, names[0].value) if names else None

    def _take_in(self, item: _Planned) -> list[StoredFile]:
        for path in item.paths:
            if path not in self._taken:
                self._taken[path] = self._for(item.command, self._ingest, path)
        wanted = _WANTED[item.command.name]
        return [StoredFile(*self._taken[path], path.name, wanted) for path in item.paths]

    def _ingest(self, path: Path) -> tuple[Digest, int]:
        # Until it is read, a file has no digest; its path's stands in for that in events.
        label = Descriptor(mt.CNCF_WEIGHT_RAW, Digest.of(os.fsencode(path)), path.stat().st_size)
        self._on_event(Started(label))
        taken = self._store.ingest_file(
            path, on_bytes=lambda count: self._on_event(Advanced(label, count))
        )
        self._on_event(Finished(label))
        return taken

    def _params(self) -> tuple[dict[str, Any], frozenset[str]]:
        params: dict[str, Any] = {}
        unset: set[str] = set()
        for command in self._modelfile.select("parameter"):
            name = command.key or ""
            if is_deprecated(name):
                continue
            if command.value == UNSET and not command.quoted:
                self._for(command, check_name, name)
                params.pop(name, None)
                unset.add(name)
                continue
            value = self._for(command, parse_value, name, command.value)
            params[name] = [*params.get(name, ()), value] if name == "stop" else value
        return params, frozenset(unset)

    def _settings(self) -> dict[str, str]:
        requires = self._modelfile.last("requires")
        if requires and requires.value:
            self._for(requires, check_requires, requires.value)
        found = {name: self._text(name) for name in SETTINGS}
        return {name: value for name, value in found.items() if value is not None}

    def _text(self, name: str) -> str | None:
        command = self._modelfile.last(name)
        return command.value if command else None

    def _fingerprint(self, planned: list[_Planned]) -> Digest:
        """The digest of the Modelfile in plain form, with files named by their content.

        Comments and where files lay do not count, so that two machines agree.
        """
        files = {id(item.command): item.paths for item in planned}
        plain: list[Command] = []
        for command in self._modelfile.commands:
            bare = replace(command, after_blank=False)
            paths = files.get(id(command), ())
            plain += [replace(bare, value=str(self._taken[path][0])) for path in paths] or [bare]
        return Digest.of(render(plain).encode())

    def _for(self, command: Command, action: Callable[..., _T], *args: Any, **named: Any) -> _T:
        """Do something for a command; what the user got wrong is told with its line."""
        try:
            return action(*args, **named)
        except ModelfileError:
            raise
        except InvalidInput as error:
            raise self._modelfile.error(command, error.message, hint=error.hint) from error
        except OSError as error:
            raise self._modelfile.error(command, f"{command.value}: {error.strerror}") from error
