"""One value under one verb of Go's fmt, with flags, width and precision. Pure.

The verbs are v s q x X d b o O c U t e E f F g G T; for a value that a verb is not made for, fmt
writes a complaint.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from .literals import encode
from .printing import general, joined, own_text
from .values import NIL, Struct, type_name

_MAX_DEPTH = 100
_HEX_DIGITS = 13  # hexadecimal digits in the fraction of a float64


@dataclass(slots=True)
class Style:
    """What stands between `%` and the verb; None is absent.

    Attributes:
        go_syntax: `%#v`, which writes values as Go source.
        field_names: `%+v`, which writes the names of a struct's fields.
        is_complaint: within fmt's own complaint, where a type's own text is not asked for.
    """

    minus: bool = False
    plus: bool = False
    sharp: bool = False
    space: bool = False
    zero: bool = False
    width: int | None = None
    precision: int | None = None
    go_syntax: bool = False
    field_names: bool = False
    is_complaint: bool = False

    def for_verb(self, verb: str) -> Style:
        """The style as `%v` and `%w` understand it: their `#` and `+` mean something else."""
        if verb not in "vw":
            return self
        return replace(self, go_syntax=self.sharp, field_names=self.plus, sharp=False, plus=False)

    def pad(self, text: str, *, zeros: bool = True) -> str:
        """The text in its width."""
        if not self.width:
            return text
        if self.minus:
            return text.ljust(self.width)
        return text.rjust(self.width, "0" if self.zero and zeros else " ")


def one(value: Any, verb: str, style: Style) -> str:
    """A whole operand."""
    if value is None or value is NIL:
        return style.pad("<nil>") if verb in "vT" else f"%!{verb}(<nil>)"
    if verb == "T":
        return style.pad(type_name(value)[: style.precision])
    return _value(value, verb, style, 0)


def _value(value: Any, verb: str, style: Style, depth: int) -> str:
    if value is None or value is NIL:
        return "interface {}(nil)" if style.go_syntax else "<nil>"
    if isinstance(value, bool):
        text = "true" if value else "false"
        return style.pad(text) if verb in "vt" else _bad(value, verb, style, depth)
    if isinstance(value, str):
        text_or_none = _string(value, verb, style)
    elif isinstance(value, int):
        text_or_none = _integer(value, verb, style)
    elif isinstance(value, float):
        text_or_none = _float(value, verb, style)
    elif isinstance(value, complex):
        text_or_none = _complex(value, verb, style)
    else:
        text_or_none = _composite(value, verb, style, depth)
    return _bad(value, verb, style, depth) if text_or_none is None else text_or_none


def _bad(value: Any, verb: str, style: Style, depth: int) -> str:
    """The complaint of fmt about a verb that a value has no form for."""
    style = replace(style, is_complaint=True)
    return f"%!{verb}({type_name(value)}={_value(value, 'v', style, depth + 1)})"


# Lists, maps and structs


def _composite(value: Any, verb: str, style: Style, depth: int) -> str | None:
    if depth > _MAX_DEPTH:
        return "…"
    if verb in "wp":
        return None
    if verb in "vsxXq" and not style.go_syntax and not style.is_complaint:
        text = own_text(value)
        if text is not None:
            return _string(text, verb, style)
    opening, closing, between = "[", "]", ", " if style.go_syntax else " "
    if style.go_syntax:
        opening, closing = f"{type_name(value)}{{", "}"
    elif isinstance(value, dict):
        opening = "map["
    elif isinstance(value, Struct):
        opening, closing = "{", "}"
    members = _members(value, verb, style, depth + 1)
    spaced = (f"{between if place else ''}{member}" for place, member in enumerate(members))
    return f"{opening}{joined(spaced)}{closing}"


def _members(value: Any, verb: str, style: Style, depth: int) -> Iterator[str]:
    if isinstance(value, Struct):
        named = style.go_syntax or style.field_names
        for name, item in value.fields.items():
            yield (f"{name}:" if named else "") + _value(item, verb, style, depth)
    elif isinstance(value, dict):
        for key in sorted(value):
            item = _value(value[key], verb, style, depth)
            yield f"{_value(key, verb, style, depth)}:{item}"
    else:  # a list, or bytes
        for item in value:
            yield _value(item, verb, style, depth)


# Text


def _string(text: str, verb: str, style: Style) -> str | None:
    if verb in "xX":
        return _hexadecimal(encode(text), verb, style)
    if verb not in "vsq":
        return None
    if style.precision is not None:
        text = text[: style.precision]
    if verb == "q" or (verb == "v" and style.go_syntax):
        return style.pad(_quoted(text, style))
    return style.pad(text)


def _quoted(text: str, style: Style) -> str:
    if style.sharp and all(char == "\t" or _stays(char) for char in text):
        return f"`{text}`"
    return quote(text, ascii_only=style.plus)


def _stays(char: str) -> bool:
    """Whether a character may stand between backquotes (strconv.CanBackquote)."""
    return char not in "`\x7f\ufeff" and char >= " " and not "\ud800" <= char <= "\udfff"


def _hexadecimal(data: bytes, verb: str, style: Style) -> str:
    data = data[: style.precision]
    if not data:
        return style.pad("")
    prefix = f"0{verb}" if style.sharp else ""
    pieces = [f"{byte:02{verb}}" for byte in data]
    text = f" {prefix}".join(pieces) if style.space else "".join(pieces)
    return style.pad(prefix + text)


def quote(text: str, *, ascii_only: bool = False) -> str:
    """strconv.Quote, or strconv.QuoteToASCII."""
    return f'"{"".join(_escaped(char, chr(34), ascii_only) for char in text)}"'


_LETTERS = {"\a": "a", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", "\v": "v"}


def _escaped(char: str, mark: str, ascii_only: bool) -> str:
    code = ord(char)
    if char in (mark, "\\"):
        return f"\\{char}"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if char.isprintable() and (code < 0x7F or not ascii_only):
        return char
    if char in _LETTERS:
        return f"\\{_LETTERS[char]}"
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


# Numbers

_BASES = {"d": "d", "v": "d", "b": "b", "o": "o", "O": "o", "x": "x", "X": "X"}
_MOST_RUNE = 0x10FFFF


def _integer(value: int, verb: str, style: Style) -> str | None:
    if verb in "cqU":
        return _rune(value, verb, style)
    if verb not in _BASES:
        return None
    sign = "-" if value < 0 else "+" if style.plus else " " if style.space else ""
    digits = format(abs(value), _BASES[verb])
    if style.precision is not None:
        if style.precision == 0 and value == 0:
            return " " * (style.width or 0)
        digits = digits.rjust(style.precision, "0")
    elif style.zero and not style.minus and style.width:
        digits = digits.rjust(style.width - len(sign), "0")
    prefix = ""
    if style.sharp:
        prefix = {"b": "0b", "x": "0x", "X": "0X"}.get(verb, "")
        if verb in "oO" and digits[0] != "0":
            prefix = "0"
    prefix = "0o" + prefix if verb == "O" else prefix
    return style.pad(sign + prefix + digits, zeros=False)


def _rune(value: int, verb: str, style: Style) -> str:
    is_rune = 0 <= value <= _MOST_RUNE and not 0xD800 <= value < 0xE000
    char = chr(value) if is_rune else "\ufffd"
    if verb == "c":
        return style.pad(char)
    if verb == "q":
        return style.pad(f"'{_escaped(char, chr(39), style.plus)}'")
    digits = f"{value & 0xFFFF_FFFF_FFFF_FFFF:X}".rjust(max(4, style.precision or 0), "0")
    shown = f" '{char}'" if style.sharp and is_rune and char.isprintable() else ""
    return style.pad(f"U+{digits}{shown}", zeros=False)


def _float(value: float, verb: str, style: Style) -> str | None:
    precision = style.precision
    if verb in "vgG":
        text = general(value, precision=-1 if precision is None else precision)
        text = text.upper() if verb == "G" and math.isfinite(value) else text
    elif verb in "xXb":
        text = _binary(value) if verb == "b" else _hexadecimal_float(value, verb, precision)
    elif verb in "eEfF":
        text = format(value, f".{6 if precision is None else precision}{verb}")
    else:
        return None
    if not math.isfinite(value):
        return _not_finite(value, style)
    sign = "-" if text[0] == "-" else "+" if style.plus else " " if style.space else ""
    text = text.removeprefix("-")
    if style.sharp and verb != "b":
        text = _with_point(text, verb, -1 if precision is None else precision)
    if sign and style.zero and not style.minus and style.width:
        text = text.rjust(style.width - 1, "0")
    return style.pad(sign + text)


def _not_finite(value: float, style: Style) -> str:
    sign = "+" if style.plus else " " if style.space else ""
    if math.isnan(value):
        return style.pad(f"{sign}NaN", zeros=False)
    return style.pad("-Inf" if value < 0 else f"{sign or '+'}Inf", zeros=False)


def _with_point(text: str, verb: str, precision: int) -> str:
    """`#`: the point always, and trailing zeros where the verb drops them."""
    mark = "p" if verb in "xX" else "e"
    at = text.lower().find(mark)
    number, tail = (text, "") if at < 0 else (text[:at], text[at:])
    missing = 0
    if verb in "vgGx":
        significant = number.replace(".", "").lstrip("0")
        missing = (6 if precision < 0 else precision) - len(significant)
    if "." not in number:
        missing -= number == "0"
        number += "."
    return number + "0" * max(0, missing) + tail


def _binary(value: float) -> str:
    """`%b`: a mantissa of 53 bits and a power of two."""
    mantissa, exponent = math.frexp(value)
    shift = max(-1074, exponent - 53) if value else -1074
    sign = "-" if math.copysign(1, value) < 0 else ""
    return f"{sign}{abs(int(math.ldexp(mantissa, exponent - shift)))}p{shift:+d}"


def _hexadecimal_float(value: float, verb: str, precision: int | None) -> str:
    """`%x`: as C's %a, without trailing zeros where no precision is given."""
    sign, value = ("-", -value) if math.copysign(1, value) < 0 else ("", value)
    fraction, exponent = math.frexp(value)
    mantissa = int(math.ldexp(fraction, 1 + 4 * _HEX_DIGITS))
    exponent = exponent - 1 if value else 0
    digits = _HEX_DIGITS
    if precision is not None and precision < _HEX_DIGITS:
        unit = 1 << 4 * (_HEX_DIGITS - precision)
        mantissa = round_half_even(mantissa, unit)
        digits = precision
        if mantissa >> (4 * precision + 1):
            mantissa >>= 1
            exponent += 1
    whole, rest = divmod(mantissa, 1 << 4 * digits)
    part = f"{rest:0{digits}x}" if digits else ""
    part = part.rstrip("0") if precision is None else part.ljust(precision, "0")
    text = f"{sign}0x{whole}{'.' + part if part else ''}p{exponent:+03d}"
    return text.upper() if verb == "X" else text


def round_half_even(number: int, unit: int) -> int:
    """`number / unit`, a half going to the even neighbour."""
    quotient, rest = divmod(number, unit)
    return quotient + (2 * rest > unit or (2 * rest == unit and quotient % 2 == 1))


def _complex(value: complex, verb: str, style: Style) -> str | None:
    if verb not in "vbgGxXfFeE":
        return None
    real = _float(value.real, verb, style)
    return f"({real}{_float(value.imag, verb, replace(style, plus=True))}i)"
