"""How a Jinja chat template wants its messages, shown by what it makes of small ones. Pure.

Templates of some vision models (SmolVLM, LLaVA) print texts only from lists of typed parts.
DeepSeek's join the arguments of a call as a text, and take a message for one of calls only if its
content is none. Mistral's refuse ids of calls that have not nine letters or digits, gpt-oss's
reasoning and content beside a call.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from ..errors import TemplateError

_MENTIONS_TYPES = re.compile(r"""\[\s*['"]type['"]\s*\]|\.type\b|\.get\(\s*['"]type['"]""")
_PROBE = "probe7f3a"
_SHORT_ID, _USUAL_ID = "call12345", "call_k2x9p0qa"
_ID_LENGTH = 9
_REASONING = ("thinking", "reasoning_content")

Render = Callable[[Sequence[Mapping[str, Any]]], str]


@dataclass(frozen=True, slots=True)
class Style:
    """The form of messages for one template.

    Attributes:
        has_parts: texts are lists of typed parts.
        text_arguments: the arguments of a call are JSON and not an object.
        no_content: the content beside calls is none where it is empty.
        short_ids: calls have ids of nine letters and digits.
        one_text: beside calls there is no reasoning where there is content.
    """

    has_parts: bool = False
    text_arguments: bool = False
    no_content: bool = False
    short_ids: bool = False
    one_text: bool = False

    def applied(self, messages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Messages as `jinja_names` makes them, in this form."""
        changed = [self._changed(message) for message in messages]
        return _with_short_ids(changed) if self.short_ids else changed

    def _changed(self, message: Mapping[str, Any]) -> dict[str, Any]:
        content = message["content"]
        if self.one_text and content and "tool_calls" in message:
            message = {key: message[key] for key in message if key not in _REASONING}
        if self.no_content and not content and "tool_calls" in message:
            return {**self._with_arguments(message), "content": None}
        content = as_parts(content) if self.has_parts else content
        return {**self._with_arguments(message), "content": content}

    def _with_arguments(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        if not self.text_arguments or "tool_calls" not in message:
            return message
        calls = []
        for call in message["tool_calls"]:
            text = json.dumps(call["function"]["arguments"], ensure_ascii=False)
            calls.append({**call, "function": {**call["function"], "arguments": text}})
        return {**message, "tool_calls": calls}


def style_of(source: str, render: Render) -> Style:
    """The style of a template; `render` renders messages by it."""
    has_parts = _wants_parts(source, render)
    plain = Style(has_parts)
    if "tool_calls" not in source:
        return plain
    for text_arguments, no_content in product((False, True), repeat=2):
        style = Style(has_parts, text_arguments, no_content)
        if _prints(render, style.applied(_calling(_SHORT_ID))):
            short_ids = not _prints(render, style.applied(_calling(_USUAL_ID)))
            one_text = not _prints(render, style.applied(_calling(_SHORT_ID, said="x")))
            return replace(style, short_ids=short_ids, one_text=one_text)
    return plain


def as_parts(text: str) -> list[dict[str, str]]:
    """A text as a list of typed parts."""
    return [{"type": "text", "text": text}]


def _wants_parts(source: str, render: Render) -> bool:
    if not _MENTIONS_TYPES.search(source):
        return False
    plain, typed = ({"role": "user", "content": content} for content in (_PROBE, as_parts(_PROBE)))
    return not _prints(render, [plain]) and _prints(render, [typed])


def _calling(call_id: str, said: str = "") -> list[dict[str, Any]]:
    function = {"name": "call", "arguments": {"x": _PROBE}}
    call = {"id": call_id, "type": "function", "function": function}
    thought = dict.fromkeys(_REASONING, said) if said else {}
    return [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": said, "tool_calls": [call], **thought},
        {"role": "tool", "content": "x", "name": "call", "tool_call_id": call_id},
    ]


def _prints(render: Render, messages: Sequence[Mapping[str, Any]]) -> bool:
    try:
        return _PROBE in render(messages)
    except TemplateError:
        return False


def _with_short_ids(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages whose calls and results have short ids; results without one go by their order."""
    unnamed = deque[str]()
    count = 0
    for message in messages:
        calls = []
        for call in message.get("tool_calls", ()):
            call_id = call["id"]
            if not call_id:
                call_id = f"{count:09}"
                unnamed.append(call_id)
                count += 1
            calls.append({**call, "id": _shortened(call_id)})
        if calls:
            message["tool_calls"] = calls
        if message["role"] == "tool":
            call_id = message.get("tool_call_id") or (unnamed.popleft() if unnamed else "")
            message["tool_call_id"] = _shortened(call_id)
    return messages


def _shortened(call_id: str) -> str:
    letters = re.sub("[^A-Za-z0-9]", "", call_id)
    return letters[-_ID_LENGTH:].rjust(_ID_LENGTH, "0")
