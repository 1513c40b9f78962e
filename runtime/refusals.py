"""Errors that a runner answers a request with, as messages for the supervisor and back."""

from __future__ import annotations

from typing import Any

from .errors import ContextOverflow, EngineError, InvalidImage, QueueFull, UnsupportedRequest

_KINDS: dict[str, type[EngineError]] = {
    kind.__name__: kind for kind in (ContextOverflow, InvalidImage, QueueFull, UnsupportedRequest)
}


def encode_refusal(key: int, error: EngineError) -> dict[str, Any]:
    """The message that says no to a request."""
    facts: dict[str, Any]
    match error:
        case ContextOverflow():
            facts = {"wanted": error.wanted, "limit": error.limit}
        case QueueFull():
            facts = {"waiting": error.waiting, "retry_after_s": error.retry_after_s}
        case InvalidImage():
            facts = {"message": error.message}
        case _:
            facts = {"message": error.message, "hint": error.hint}
    kind = type(error).__name__
    assert kind in _KINDS
    return {"op": "refused", "key": key, "kind": kind, "facts": facts}


def decode_refusal(message: dict[str, Any]) -> EngineError:
    """The inverse of `encode_refusal`."""
    return _KINDS[message["kind"]](**message["facts"])
