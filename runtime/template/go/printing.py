"""Go's fmt: what `{{ value }}`, print and printf write. Pure.

Covers the verbs v s q d b o O x X c U e E f F g G t T with flags, width and precision, and fmt's
own complaints (`%!d(string=x)`, `%!(EXTRA …)`), which are output and no errors.
"""

from __future__ import annotations

import math
import re
from typing import Any

from .encoding import fixed, shortest, to_json
from .literals import encode
from .values import NIL, JsonList, JsonMap, Struct, Words, type_name

_VERB = re.compile(r"%([-+# 0]*)(\*|\d+)?(?:\.(\*|\d+)?)?(.)?", re.DOTALL)
_MAX_WIDTH = 1_000_000  # fmt's own limit
_MAX_DEPTH = 100
_LARGE = 6  # the exponent from which %g writes one, as strconv decides for shortest digits


def show(value: Any) -> str:
    """What an action prints."""
    return value if type(value) is str else "<no value>" if value is None else to_text(value)


def to_text(value: Any, *, depth: int = 0) -> str:
    """`%v`."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return general(value)
    if depth > _MAX_DEPTH:
        return "…"
    if isinstance(value, JsonMap | JsonList) or (isinstance(value, Struct) and value.prints_json):
        return to_json(value)
    if isinstance(value, Words) and len(value) < 2:
        return "".join(value)
    if isinstance(value, Struct):
        fields = (to_text(item, depth=depth + 1) for item in value.fields.values())
        return f"{{{' '.join(fields)}}}"
    if isinstance(value, dict):
        pairs = (f"{key}:{to_text(value[key], depth=depth + 1)}" for key in sorted(value))
        return f"map[{' '.join(pairs)}]"
    if isinstance(value, list):
        return f"[{' '.join(to_text(item, depth=depth + 1) for item in value)}]"
    return "<nil>"


def sprint(values: list[Any]) -> str:
    """fmt.Sprint: blanks between neighbours of which neither is a string."""
    parts: list[str] = []
    for place, value in enumerate(values):
        if place and not isinstance(value, str) and not isinstance(values[place - 1], str):
            parts.append(" ")
        parts.append(to_text(value))
    return "".join(parts)


def general(value: float, *, upper: bool = False, precision: int = -1) -> str:
    """`%g`: the shortest form, or `precision` significant digits."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{'+' if value > 0 else '-'}Inf"
    if precision >= 0:
        text = f"{value:.{precision or 1}g}"
        return _go_exponent(text, upper)
    digits, exponent = shortest(value)
    if -4 <= exponent - 1 < _LARGE:
        return fixed(value)
    mantissa = digits[0] + (f".{digits[1:]}" if len(digits) > 1 else "")
    sign = "-" if value < 0 else ""
    return _go_exponent(f"{sign}{mantissa}e{exponent - 1:+03d}", upper)


def _go_exponent(text: str, upper: bool) -> str:
    return text.upper() if upper else text


def sprintf(form: str, values: list[Any]) -> str:
    """fmt.Sprintf."""
    parts: list[str] = []
    end = 0
    rest = iter(values)
    used = 0

    def take() -> Any:
        nonlocal used
        used += 1
        return next(rest, _MISSING)

    for match in _VERB.finditer(form):
        parts.append(form[end : match.start()])
        end = match.end()
        parts.append(_one(match, take))
    parts.append(form[end:])
    if used < len(values):
        extra = ", ".join(_typed(value) for value in values[used:])
        parts.append(f"%!(EXTRA {extra})")
    return "".join(parts)


_MISSING: Any = object()


def _one(match: re.Match[str], take: Any) -> str:
    flags, width_text, precision_text, verb = match.groups()
    trouble = ""
    width = _size(width_text, take)
    if width is None and width_text is not None:
        trouble += "%!(BADWIDTH)"
    has_point = "." in match.group()[: -1 if verb else None] and verb != "."
    precision = _size(precision_text, take) if precision_text else (0 if has_point else None)
    if precision_text is not None and precision is None:
        trouble += "%!(BADPREC)"
    if verb is None:
        return trouble + "%!(NOVERB)"
    if verb == "%":
        return trouble + "%"
    value = take()
    if value is _MISSING:
        return f"{trouble}%!{verb}(MISSING)"
    if width is not None and width < 0:
        flags, width = flags + "-", -width
    if precision is not None and precision < 0:
        precision = None
    return trouble + format_one(value, verb, flags=flags, width=width or 0, precision=precision)


def _size(text: str | None, take: Any) -> int | None:
    if text is None:
        return None
    value = take() if text == "*" else int(text)
    is_size = isinstance(value, int) and not isinstance(value, bool)
    return value if is_size and abs(value) <= _MAX_WIDTH else None


def format_one(value: Any, verb: str, *, flags: str, width: int, precision: int | None) -> str:
    """One operand under one verb."""
    if verb == "T":
        return _pad(type_name(value), flags.replace("0", ""), width)
    if isinstance(value, list | dict | Struct) and not _is_text(value, verb):
        return _each(value, verb, flags=flags, width=width, precision=precision)
    if value is None or value is NIL:
        return _pad("<nil>", flags.replace("0", ""), width) if verb == "v" else f"%!{verb}(<nil>)"
    if isinstance(value, bool):
        return (
            _pad(to_text(value), flags.replace("0", ""), width)
            if verb in "vt"
            else _bad(value, verb)
        )
    if isinstance(value, int):
        return _integer(value, verb, flags=flags, width=width, precision=precision)
    if isinstance(value, float):
        return _float(value, verb, flags=flags, width=width, precision=precision)
    return _string(to_text(value), verb, flags=flags, width=width, precision=precision)


def _is_text(value: Any, verb: str) -> bool:
    """Whether a composite value has Go's String method, which the verbs for text call."""
    texts = isinstance(value, JsonMap | JsonList | Words)
    return verb in "vsqxX" and (texts or (isinstance(value, Struct) and value.prints_json))


def _each(value: Any, verb: str, **how: Any) -> str:
    if isinstance(value, Struct):
        return f"{{{' '.join(format_one(item, verb, **how) for item in value.fields.values())}}}"
    if isinstance(value, dict):
        pairs = (
            f"{format_one(key, verb, **how)}:{format_one(value[key], verb, **how)}"
            for key in sorted(value)
        )
        return f"map[{' '.join(pairs)}]"
    return f"[{' '.join(format_one(item, verb, **how) for item in value)}]"


def _string(text: str, verb: str, *, flags: str, width: int, precision: int | None) -> str:
    if verb in "vsq" and precision is not None:
        text = text[:precision]
    if verb in "vs":
        return _pad(text, flags, width)
    if verb == "q":
        quoted = f"`{text}`" if "#" in flags and "`" not in text else quote(text)
        return _pad(quoted, flags, width)
    if verb in "xX":
        data = encode(text)
        data = data if precision is None else data[:precision]
        digits = data.hex(" ") if " " in flags else data.hex()
        digits = digits.upper() if verb == "X" else digits
        prefix = f"0{verb}" if "#" in flags and data else ""
        return _pad(prefix + digits, flags, width)
    return _bad(text, verb)


def quote(text: str) -> str:
    """strconv.Quote."""
    out = []
    for char in text:
        if char in _QUOTED:
            out.append(_QUOTED[char])
        elif char.isprintable():
            out.append(char)
        else:
            out.append(_escaped(ord(char)))
    return f'"{"".join(out)}"'


_QUOTED = {
    '"': '\\"',
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}


def _escaped(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_BASES = {"d": "d", "v": "d", "b": "b", "o": "o", "O": "o", "x": "x", "X": "X"}


def _integer(value: int, verb: str, *, flags: str, width: int, precision: int | None) -> str:
    if verb in ("c", "q", "U"):
        code = value if 0 <= value <= 0x10FFFF and not 0xD800 <= value < 0xE000 else 0xFFFD
        if verb == "U":
            return _pad(f"U+{value:04X}", flags.replace("0", ""), width)
        text = chr(code) if verb == "c" else f"'{quote(chr(code))[1:-1]}'"
        text = text.replace('\\"', '"').replace("'''", "'\\''") if verb == "q" else text
        return _pad(text, flags, width)
    if verb not in _BASES:
        return _bad(value, verb)
    digits = format(abs(value), _BASES[verb])
    if precision is not None:
        digits = "" if precision == 0 and value == 0 else digits.rjust(precision, "0")
        flags = flags.replace("0", "")
    sign = "-" if value < 0 else "+" if "+" in flags else " " if " " in flags else ""
    prefix = "0o" if verb == "O" else ""
    if "#" in flags:
        prefix = {"b": "0b", "o": "0" if digits[:1] != "0" else "", "x": "0x", "X": "0X"}.get(
            verb, prefix
        )
    if "0" in flags and "-" not in flags:
        digits = digits.rjust(width - len(sign), "0") if width else digits
    return _pad(sign + prefix + digits, flags.replace("0", ""), width)


def _float(value: float, verb: str, *, flags: str, width: int, precision: int | None) -> str:
    if verb in "vgG":
        text = general(value, upper=verb == "G", precision=-1 if precision is None else precision)
    elif verb in "eEfF":
        text = format(value, f".{6 if precision is None else precision}{verb}")
        text = "NaN" if math.isnan(value) else text
        text = f"{'+' if value > 0 else '-'}Inf" if math.isinf(value) else text
    else:
        return _bad(value, verb)
    if "+" in flags and text[0] not in "+-":
        text = f"+{text}"
    elif " " in flags and text[0] not in "+-":
        text = f" {text}"
    if "+" not in flags and text == "+Inf":
        text = "+Inf"
    if "0" in flags and "-" not in flags and math.isfinite(value):
        sign = text[0] if text[0] in "+- " else ""
        text = sign + text[len(sign) :].rjust(width - len(sign), "0")
    return _pad(text, flags.replace("0", ""), width)


def _pad(text: str, flags: str, width: int) -> str:
    if "-" in flags:
        return text.ljust(width)
    return text.rjust(width, "0" if "0" in flags else " ")


def _bad(value: Any, verb: str) -> str:
    return f"%!{verb}({_typed(value)})"


def _typed(value: Any) -> str:
    return "<nil>" if value is None or value is NIL else f"{type_name(value)}={to_text(value)}"
