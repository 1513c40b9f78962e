"""JSON schemas that tests share."""

from __future__ import annotations

from typing import Any


def deep(levels: int) -> Any:
    """Lists in lists, so many levels of them."""
    schema: Any = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema
