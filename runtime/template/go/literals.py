"""Go's number, rune and string literals as Python values (Go spec, "Lexical elements"). Pure.

A Go string is bytes. Bytes that are no UTF-8 are kept as Python's surrogate escapes.
"""

from __future__ import annotations

import re

_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\'\"])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))",
    re.DOTALL,
)
_PLAIN = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, "'": 39, '"': 34}
_INTEGER = re.compile(
    r"[+-]?(?:0[xX](?:_?[0-9a-fA-F])+|0[bB](?:_?[01])+|0[oO]?(?:_?[0-7])+|0|[1-9](?:_?[0-9])*)"
)
_DECIMAL = re.compile(
    r"[+-]?(?:[0-9](?:_?[0-9])*\.?|\.[0-9])(?:_?[0-9])*(?:[eE][+-]?[0-9](?:_?[0-9])*)?"
)
_HEX_FLOAT = re.compile(
    r"[+-]?0[xX](?:(?:_?[0-9a-fA-F])+\.?(?:[0-9a-fA-F](?:_?[0-9a-fA-F])*)?"
    r"|\.[0-9a-fA-F](?:_?[0-9a-fA-F])*)[pP][+-]?[0-9](?:_?[0-9])*"
)
_COMPLEX = re.compile(r"([+-]?.*[^eEpP+-])?([+-].*)i|(.*)i")
MOST_INT, _LEAST = 2**63 - 1, -(2**63)
_MOST_UNSIGNED = 2**64 - 1


def unquote(literal: str) -> str:
    """The text of `"…"` or a raw string.

    Raises:
        ValueError: where an escape is none of Go's.
    """
    if literal[0] == "`":
        return literal[1:-1].replace("\r", "")
    return _unescape(literal[1:-1], quote='"')


def rune(literal: str) -> int:
    """The code point of `'…'`; raises ValueError as `unquote` does."""
    text = _unescape(literal[1:-1], quote="'")
    if len(text) != 1:
        raise ValueError(f"malformed character constant: {literal}")
    code = ord(text)
    return code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code


def number(literal: str) -> int | float | complex:
    """The value of a number, an int where Go's ideal constant is one.

    A value above `MOST_INT` is one that Go reads, and refuses where it is used.

    Raises:
        ValueError: where it is no number, or does not fit into 64 bits.
    """
    if literal[-1] == "i":
        return _complex(literal)
    if not _INTEGER.fullmatch(literal):
        if not re.search(r"[.eEpP]", literal):
            raise ValueError(f"bad number syntax: {literal}")
        return _float(literal)
    text = literal.replace("_", "")
    sign, digits = ("", text) if text[0] not in "+-" else (text[0], text[1:])
    octal = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
    value = int(f"{sign}{'0o' if octal else ''}{digits}", 0)
    if not _LEAST <= value <= (MOST_INT if sign else _MOST_UNSIGNED):
        raise ValueError(f"integer overflow: {literal}")
    # Go looks for the e of an exponent, and takes one among signed hexadecimal digits for it.
    return float(value) if sign and "e" in digits.lower() else value


def _float(literal: str) -> float:
    if _HEX_FLOAT.fullmatch(literal):
        value = float.fromhex(literal.replace("_", ""))
    elif _DECIMAL.fullmatch(literal):
        value = float(literal)
    else:
        raise ValueError(f"bad number syntax: {literal}")
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"bad number syntax: {literal}")
    return value


def _complex(literal: str) -> complex:
    match = _COMPLEX.fullmatch(literal)
    if match is None:
        raise ValueError(f"bad number syntax: {literal}")
    real, imaginary, only = match.groups()
    return complex(_float(real or "0"), _float(imaginary or only))


def _unescape(text: str, *, quote: str) -> str:
    def one(match: re.Match[str]) -> bytes:
        plain, hexa, short, long, octal, other = match.groups()
        if other is not None or (plain in ("'", '"') and plain != quote):
            raise ValueError(f"invalid escape {match.group()} in {text!r}")
        if plain is not None:
            return bytes([_PLAIN[plain]])
        if short or long:
            code = int(short or long, 16)
            if code > 0x10FFFF or 0xD800 <= code < 0xE000:
                raise ValueError(f"invalid escape {match.group()} in {text!r}")
            return chr(code).encode()
        return bytes([int(hexa, 16)]) if hexa else _octal(octal)

    parts: list[bytes] = []
    end = 0
    for match in _ESCAPE.finditer(text):
        parts += (encode(text[end : match.start()]), one(match))
        end = match.end()
    parts.append(encode(text[end:]))
    return decode(b"".join(parts))


def _octal(digits: str) -> bytes:
    value = int(digits, 8)
    if value > 255:
        raise ValueError(f"invalid escape \\{digits}")
    return bytes([value])


def encode(text: str) -> bytes:
    """The bytes that Go would hold."""
    return text.encode("utf-8", "surrogateescape")


def decode(data: bytes) -> str:
    """The reverse of `encode`."""
    return data.decode("utf-8", "surrogateescape")
