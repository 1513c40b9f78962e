"""What Go templates compute with, beside plain Python values. Pure.

dict is `map[string]any`, list `[]any`, bytes `[]byte`; str, int, float, complex and bool are
themselves. None is a value that is not there; NIL is the nil that a map, a slice or a field holds,
whose fields cannot be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final


class _Nil:
    """The type of NIL."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "NIL"


NIL: Final = _Nil()


class GoError(Exception):
    """What Go's evaluation would fail with; the template's place is added by who catches it."""


class Struct:
    """A Go struct: fields by name. Prints as JSON where `prints_json`, else as `{a b}`.

    Attributes:
        fields: in declared order.
        json: what encoding/json would write of it, as Python values.
    """

    __slots__ = ("fields", "json", "prints_json")

    def __init__(
        self, fields: Mapping[str, Any], *, json: Any = None, prints_json: bool = False
    ) -> None:
        self.fields = fields
        self.json = fields if json is None else json
        self.prints_json = prints_json


class OpenMap(dict[str, Any]):
    """A map whose missing keys are no values at all (Go's `missingkey=default`).

    So fields of them are none either. It holds no nil.
    """

    __slots__ = ()


class Slice(list[Any]):
    """A typed slice, which is nil where it is empty: `null` in JSON."""

    __slots__ = ()


class JsonMap(dict[str, Any]):
    """A map type that prints as JSON, with sorted keys."""

    __slots__ = ()


class NilMap(JsonMap):
    """The nil map of such a type: it prints `{}`, and is `null` in JSON."""

    __slots__ = ()


class JsonList(list[Any]):
    """A slice type that prints as JSON; empty, it is the nil slice and prints `null`."""

    __slots__ = ()


class Words(list[str]):
    """A slice of strings that prints bare where it has one element, empty where it has none."""

    __slots__ = ()


def is_true(value: Any) -> bool:
    """Go's truth: not the zero of its type; structs are always true."""
    return isinstance(value, Struct) or bool(value)


def type_name(value: Any) -> str:
    """What Go calls the type of a value, for messages."""
    for kind, name in _TYPE_NAMES:
        if isinstance(value, kind):
            return name
    return "<nil>"


_TYPE_NAMES: tuple[tuple[type, str], ...] = (
    (bool, "bool"),
    (int, "int"),
    (float, "float64"),
    (complex, "complex128"),
    (str, "string"),
    (bytes, "[]uint8"),
    (dict, "map[string]interface {}"),
    (Words, "[]string"),
    (list, "[]interface {}"),
    (Struct, "struct"),
)
