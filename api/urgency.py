"""How urgent a request is: its priority and its deadline, by header or by field.

None of the three APIs has words for it, so they are ours: the headers `X-Pannier-Priority` and
`X-Pannier-Deadline`, which any client can send, and the fields `priority` and `deadline` (in
`options` for Ollama's clients), which go before them. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .durations import seconds_of
from .errors import RequestError

PRIORITY_HEADER = "X-Pannier-Priority"
DEADLINE_HEADER = "X-Pannier-Deadline"
# Lower goes first in the engine's queue, where a level is what some waiting makes up for.
PRIORITIES: Mapping[str, int] = {"high": -1, "normal": 0, "low": 1}
# Nobody waits for an answer longer than a day.
MAX_DEADLINE_S = 86400.0


@dataclass(frozen=True, slots=True)
class Urgency:
    """What a request says of its haste. `deadline_s`: seconds from its arrival, None for never."""

    priority: int = 0
    deadline_s: float | None = None


def urgency_of(headers: Mapping[str, str], fields: Mapping[str, Any]) -> Urgency:
    """What headers and fields ask for; a field that is there goes before its header.

    >>> urgency_of({"X-Pannier-Priority": "low"}, {"deadline": "1m30s"})
    Urgency(priority=1, deadline_s=90.0)

    Raises:
        RequestError: 400, for an unknown priority, or a deadline that is none.
    """
    priority, deadline = fields.get("priority"), fields.get("deadline")
    if priority is None:
        priority = headers.get(PRIORITY_HEADER, "normal").strip().lower()
    if deadline is None:
        deadline = _number_or_text(headers.get(DEADLINE_HEADER))
    return Urgency(_priority(priority), _deadline_s(deadline))


def _priority(value: Any) -> int:
    if not isinstance(value, str) or value not in PRIORITIES:
        raise RequestError(400, "priority must be one of high, normal, low", param="priority")
    return PRIORITIES[value]


def _deadline_s(value: Any) -> float | None:
    if value is None:
        return None
    seconds = seconds_of(value, "deadline")
    if not 0 < seconds <= MAX_DEADLINE_S:
        text = f"deadline must be more than 0 and at most {MAX_DEADLINE_S:.0f} seconds"
        raise RequestError(400, text, param="deadline")
    return seconds


def _number_or_text(header: str | None) -> float | str | None:
    """A header's value as JSON would have it: a bare number is one of seconds."""
    try:
        return header if header is None else float(header)
    except ValueError:
        return header
