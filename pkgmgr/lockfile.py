"""`pannier.lock`: which digest each model name of a project stands for. Pure: text in, value out.

TOML, sorted, one table per model::

    version = 1

    [[model]]
    name = "registry.corp/team/reviewer:1.2"
    digest = "sha256:…"
    dialect = "modelpack"
    size = 4683087332
    licenses = ["apache-2.0"]

What is not understood voids the file, as in pip's hash mode: a lock that is half read pins nothing.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from .descriptor import MAX_SIZE
from .digest import Digest
from .errors import InvalidDigest, InvalidLock, InvalidReference, ModelNotFound
from .reference import Reference

FILE_NAME = "pannier.lock"
MAX_LOCK = 8 << 20
_HEAD = (
    "# Written by `pannier lock` and `pannier update`; `pannier sync` makes the store fit it.\n"
    "version = 1\n"
)
_KEYS = frozenset({"name", "digest", "dialect", "size", "licenses"})
_MAX_TEXT = 1024


@dataclass(frozen=True, slots=True)
class Pin:
    """One model. `size` is of manifest and blobs in bytes."""

    reference: Reference
    digest: Digest
    dialect: str
    size: int
    licenses: tuple[str, ...] = ()

    @property
    def pinned(self) -> Reference:
        """The name with its digest: what is pulled."""
        return self.reference.with_digest(self.digest)


@dataclass(frozen=True, slots=True)
class Lock:
    """A whole lock file, sorted by name. ``Lock.parse(str(lock)) == lock``."""

    pins: tuple[Pin, ...] = ()

    @classmethod
    def parse(cls, text: str, *, path: str = FILE_NAME) -> Self:
        """Read a lock file.

        Raises:
            InvalidLock: for anything that is not understood, entirely.
        """
        if len(text) > MAX_LOCK:
            raise InvalidLock(path, f"longer than {MAX_LOCK} bytes")
        try:
            document = tomllib.loads(text)
            if set(document) - {"version", "model"} or str(document.get("version")) != "1":
                raise ValueError("not a lock file of version 1, or with unknown entries")
            tables = document.get("model", [])
            if not isinstance(tables, list):
                raise ValueError("model is not a list of tables; write [[model]]")
            lock = cls.of(_pin(item) for item in tables)
        except (ValueError, RecursionError) as error:
            raise InvalidLock(path, str(error)) from error
        except (InvalidReference, InvalidDigest) as error:
            raise InvalidLock(path, error.message) from error
        if len(lock.pins) != len(tables):
            raise InvalidLock(path, "a model is pinned twice")
        return lock

    @classmethod
    def of(cls, pins: Iterable[Pin]) -> Self:
        """A lock of these pins; of two with one name the later counts."""
        by_name = {pin.reference.key: pin for pin in pins}
        return cls(tuple(by_name[key] for key in sorted(by_name)))

    def find(self, reference: Reference) -> Pin:
        """The pin of a name.

        Raises:
            ModelNotFound: where the lock does not hold it.
        """
        for pin in self.pins:
            if pin.reference.key == reference.key:
                return pin
        raise ModelNotFound(
            reference.familiar, place="the lock file", hint=f"pannier lock {reference.familiar}"
        )

    def with_pins(self, pins: Iterable[Pin]) -> Lock:
        """This lock with some pins added or replaced."""
        return Lock.of((*self.pins, *pins))

    def __str__(self) -> str:
        return _HEAD + "".join(_table(pin) for pin in self.pins)


def _table(pin: Pin) -> str:
    licenses = ", ".join(_quoted(item) for item in pin.licenses)
    return (
        "\n[[model]]\n"
        f"name = {_quoted(pin.reference.name)}\n"
        f"digest = {_quoted(str(pin.digest))}\n"
        f"dialect = {_quoted(pin.dialect)}\n"
        f"size = {pin.size}\n"
        f"licenses = [{licenses}]\n"
    )


def _quoted(text: str) -> str:
    # A JSON string is a TOML basic string, but for DEL, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _pin(item: Any) -> Pin:
    if not isinstance(item, Mapping) or set(item) != _KEYS:
        raise ValueError("a model has not exactly name, digest, dialect, size and licenses")
    name, size = _text(item["name"]), item["size"]
    reference = Reference.parse(name)
    if reference.name != name or reference.tag is None:
        raise ValueError(f"{name!r} is no full model name with a tag")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_SIZE:
        raise ValueError(f"the size of {name} is out of bounds")
    if not isinstance(item["licenses"], list):
        raise ValueError(f"the licences of {name} are no list")
    licenses = tuple(_text(value) for value in item["licenses"])
    return Pin(
        reference, Digest.parse(_text(item["digest"])), _text(item["dialect"]), size, licenses
    )


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise ValueError("a value is no text, or too long")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("a text is not valid Unicode") from error
    return value
