"""The functions that every Go template has (text/template, "Functions"), `and` and `or` excepted.

Those two choose which operands to evaluate and stand in `execute`. Each function takes the list of
its arguments and raises GoError where Go's would return an error. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any
from urllib.parse import quote_plus

from .formatting import sprintf
from .literals import decode, encode
from .printing import sprint, sprintln
from .values import NIL, GoError, Struct, is_true, type_name

Function = Callable[[list[Any]], Any]


def _not(args: list[Any]) -> bool:
    _exactly(args, 1)
    return not is_true(args[0])


def _len(args: list[Any]) -> int:
    _exactly(args, 1)
    value = args[0]
    if isinstance(value, str):
        return len(value) if value.isascii() else len(encode(value))
    if isinstance(value, list | dict | bytes):
        return len(value)
    raise GoError(f"len of type {type_name(value)}")


def _index(args: list[Any]) -> Any:
    _at_least(args, 1)
    item = args[0]
    if item is None or item is NIL:
        raise GoError("index of untyped nil")
    for index in args[1:]:
        if isinstance(item, dict):
            if not isinstance(index, str):
                raise GoError(f"value has type {type_name(index)}; should be string")
            item = item.get(index)
        elif isinstance(item, str | list):
            item = _element(item, index)
        else:
            raise GoError(f"cannot index item of type {type_name(item)}")
        item = NIL if item is None else item
    return item


def _element(item: str | list[Any], index: Any) -> Any:
    sequence = encode(item) if isinstance(item, str) else item
    place = _place(index, len(sequence))
    if place == len(sequence):
        raise GoError(f"index out of range: {place}")
    return sequence[place]


def _place(index: Any, length: int) -> int:
    if isinstance(index, bool) or not isinstance(index, int):
        raise GoError(f"cannot index slice/array with type {type_name(index)}")
    if not 0 <= index <= length:
        raise GoError(f"index out of range: {index}")
    return index


def _slice(args: list[Any]) -> Any:
    _at_least(args, 1)
    item, bounds = args[0], args[1:]
    if not isinstance(item, str | list):
        raise GoError(f"cannot slice item of type {type_name(item)}")
    if len(bounds) > (2 if isinstance(item, str) else 3):
        raise GoError(f"too many slice indexes: {len(bounds)}")
    sequence = encode(item) if isinstance(item, str) else item
    places = [_place(bound, len(sequence)) for bound in bounds]
    if any(left > right for left, right in pairwise(places)):
        raise GoError("invalid slice index")
    start = places[0] if places else 0
    part = sequence[start : places[1] if len(places) > 1 else len(sequence)]
    if isinstance(part, bytes):
        return decode(part)
    return type(item)(part) if isinstance(item, list) else part


# Comparison. Numbers compare within their kind only: an int never equals a float.


def _kind(value: Any) -> str | None:
    for kind, name in _KINDS:
        if isinstance(value, kind):
            return name
    return None


_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "bool"),
    (int, "int"),
    (float, "float"),
    (str, "string"),
    (complex, "complex"),
)
# What compares for equality only.
_UNORDERED = (None, "bool", "complex")


def _eq(args: list[Any]) -> bool:
    _at_least(args, 1)
    if len(args) == 1:
        raise GoError("missing argument for comparison")
    return any(_equal(args[0], other) for other in args[1:])


def _equal(left: Any, right: Any) -> bool:
    kind = _kind(left)
    if kind is not None and kind == _kind(right):
        return bool(left == right)
    left_nil, right_nil = left is None or left is NIL, right is None or right is NIL
    if left_nil or right_nil:
        return left_nil and right_nil
    if kind != _kind(right):
        names = f"{type_name(left)} and {type_name(right)}"
        raise GoError(f"incompatible types for comparison: {names}")
    if isinstance(left, Struct) and isinstance(right, Struct):
        return left is right
    raise GoError(f"non-comparable type {type_name(right)}")


def _less(left: Any, right: Any) -> bool:
    kind = _kind(left)
    if kind in _UNORDERED or _kind(right) in _UNORDERED:
        if kind is not None and _kind(right) is not None and kind != _kind(right):
            raise GoError("incompatible types for comparison")
        raise GoError("invalid type for comparison")
    if kind != _kind(right):
        raise GoError("incompatible types for comparison")
    if kind == "string":
        return encode(left) < encode(right)
    return bool(left < right)


def _ne(args: list[Any]) -> bool:
    _exactly(args, 2)
    return not _equal(*args)


def _lt(args: list[Any]) -> bool:
    _exactly(args, 2)
    return _less(*args)


def _le(args: list[Any]) -> bool:
    _exactly(args, 2)
    return _less(*args) or _equal(*args)


def _gt(args: list[Any]) -> bool:
    return not _le(args)


def _ge(args: list[Any]) -> bool:
    return not _lt(args)


# Text


def _print(args: list[Any]) -> str:
    return sprint(args)


def _println(args: list[Any]) -> str:
    return sprintln(args)


def _printf(args: list[Any]) -> str:
    _at_least(args, 1)
    if not isinstance(args[0], str):
        raise GoError(f"wrong type for value; expected string; got {type_name(args[0])}")
    return sprintf(args[0], args[1:])


def _joined(args: list[Any]) -> str:
    return sprint(["<no value>" if arg is None or arg is NIL else arg for arg in args])


_HTML = {0: "\ufffd", 34: "&#34;", 39: "&#39;", 38: "&amp;", 60: "&lt;", 62: "&gt;"}
_JS = re.compile(r"[\\'\"<>&=\x00-\x1f]|[^\x00-\x7f]")
_JS_PLAIN = {"\\": "\\\\", "'": "\\'", '"': '\\"'}


def _html(args: list[Any]) -> str:
    return _joined(args).translate(_HTML)


def _js(args: list[Any]) -> str:
    def escape(match: re.Match[str]) -> str:
        char = match.group()
        if char in _JS_PLAIN:
            return _JS_PLAIN[char]
        return char if ord(char) > 127 and char.isprintable() else f"\\u{ord(char):04X}"

    return _JS.sub(escape, _joined(args))


def _urlquery(args: list[Any]) -> str:
    return quote_plus(encode(_joined(args)), safe="~")


def _call(args: list[Any]) -> Any:
    raise GoError("call of a value that is no function")


def _exactly(args: list[Any], count: int) -> None:
    if len(args) != count:
        raise GoError(f"wrong number of args: want {count} got {len(args)}")


def _at_least(args: list[Any], count: int) -> None:
    if len(args) < count:
        raise GoError(f"wrong number of args: want at least {count} got {len(args)}")


BUILTINS: dict[str, Function] = {
    "call": _call,
    "eq": _eq,
    "ge": _ge,
    "gt": _gt,
    "html": _html,
    "index": _index,
    "js": _js,
    "le": _le,
    "len": _len,
    "lt": _lt,
    "ne": _ne,
    "not": _not,
    "print": _print,
    "printf": _printf,
    "println": _println,
    "slice": _slice,
    "urlquery": _urlquery,
}
