"""The WWW-Authenticate grammar: several challenges, quoted and bare values, in one or more headers.

Implements RFC 9110 §11.6.1 (challenge lists) and §5.6.2–5.6.4 (tokens and quoted strings).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

# A registry's header is some 200 bytes; beyond this the rest is noise or an attack.
MAX_HEADER = 8192
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAM = re.compile(rf'\s*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}|[^\s,"]+))\s*(?:,|$)')
_SCHEME = re.compile(rf"[\s,]*({_TOKEN})(?:\s+|\s*,|$)")
_TOKEN68 = re.compile(r"\s*[A-Za-z0-9._~+/-]+=+\s*(?:,|$)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way in that a server offers. Scheme and parameter names are lower case."""

    scheme: str
    params: Mapping[str, str]


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """Every well-formed challenge of a header, in order; what is malformed is left out.

    >>> [c.scheme for c in parse_challenges('Basic realm="x, y", Bearer realm=z,service="s"')]
    ['basic', 'bearer']
    """
    return tuple(_challenges(header[:MAX_HEADER]))


def _challenges(text: str) -> Iterator[Challenge]:
    position = 0
    while match := _SCHEME.match(text, position):
        position = match.end()
        params: dict[str, str] = {}
        if token := _TOKEN68.match(text, position):
            position = token.end()
        while param := _PARAM.match(text, position):
            value = param[3] if param[2] is None else re.sub(r"\\(.)", r"\1", param[2])
            params.setdefault(param[1].lower(), value)
            position = param.end()
        yield Challenge(match[1].lower(), params)
