"""Whether a Jinja chat template prints texts only from lists of typed parts. Pure.

Templates of some vision models (SmolVLM, LLaVA) walk over `content` and print what has the type
`text`: of a plain string they print nothing at all. Which kind a template is shows in what it makes
of a message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import TemplateError

_MENTIONS_TYPES = re.compile(r"""\[\s*['"]type['"]\s*\]|\.type\b|\.get\(\s*['"]type['"]""")
_PROBE = "probe7f3a"

Render = Callable[[Sequence[Mapping[str, Any]]], str]


def wants_parts(source: str, render: Render) -> bool:
    """Whether texts have to be given as parts; `render` renders messages by the template."""
    if not _MENTIONS_TYPES.search(source):
        return False
    plain, typed = ({"role": "user", "content": content} for content in (_PROBE, as_parts(_PROBE)))
    return not _prints(render, plain) and _prints(render, typed)


def as_parts(text: str) -> list[dict[str, str]]:
    """A text as a list of typed parts."""
    return [{"type": "text", "text": text}]


def _prints(render: Render, message: Mapping[str, Any]) -> bool:
    try:
        return _PROBE in render([message])
    except TemplateError:
        return False
