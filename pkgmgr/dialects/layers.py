"""The small layers that all dialects share: their bytes, and how to read them back.

Bytes are Ollama's, so that one blob of params, messages, template or licence serves every
dialect of a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import strictjson
from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import UnknownDialect
from ..modelspec import ChatMessage
from . import gojson
from .base import MAX_SMALL_BLOB, OpenBlob

_MESSAGE_ROLES = ("system", "user", "assistant", "tool")


def describe(media_type: str, data: bytes, annotations: Mapping[str, str]) -> Descriptor:
    """The descriptor of bytes in memory."""
    return Descriptor(media_type, Digest.of(data), len(data), annotations)


def params_bytes(params: Mapping[str, Any]) -> bytes:
    """Model parameters as one JSON object in one line."""
    return (gojson.dumps(dict(params), sort=True) + "\n").encode()


def messages_bytes(messages: Sequence[ChatMessage]) -> bytes:
    """Example messages as a JSON list in one line."""
    items = [{"role": message.role, "content": message.content} for message in messages]
    return (gojson.dumps(items) + "\n").encode()


def read_text(descriptor: Descriptor, open_blob: OpenBlob, what: str) -> str:
    """A text layer.

    Raises:
        UnknownDialect: where it is too long or not UTF-8.
    """
    _require_small(descriptor, what)
    try:
        return open_blob(descriptor).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnknownDialect(f"{what} {descriptor.digest} is not UTF-8") from error


def read_json(descriptor: Descriptor, open_blob: OpenBlob, what: str) -> dict[str, Any]:
    """A layer or config that is one JSON object; empty for an empty one.

    Raises:
        UnknownDialect: where it is something else.
    """
    value = _json(descriptor, open_blob, what)
    if not isinstance(value, dict):
        raise UnknownDialect(f"{what} {descriptor.digest} is not a JSON object")
    return value


def read_messages(descriptor: Descriptor, open_blob: OpenBlob) -> tuple[ChatMessage, ...]:
    """A layer of example messages.

    Raises:
        UnknownDialect: where it is something else.
    """
    value = _json(descriptor, open_blob, "messages layer")
    if not isinstance(value, list) or not all(_is_message(item) for item in value):
        raise UnknownDialect(f"messages layer {descriptor.digest} is not a list of messages")
    return tuple(ChatMessage(item["role"], item.get("content", "")) for item in value)


def section(value: Mapping[str, Any], key: str, what: str) -> dict[str, Any]:
    """A member that is an object; empty where it is absent or null.

    Raises:
        UnknownDialect: where it is something else.
    """
    found = value.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UnknownDialect(f"{what} has a member {key!r} that is not an object")
    return found


def string(value: Mapping[str, Any], key: str) -> str | None:
    """A member that is a non-empty string; None for anything else."""
    found = value.get(key)
    return found if isinstance(found, str) and found else None


def _json(descriptor: Descriptor, open_blob: OpenBlob, what: str) -> Any:
    _require_small(descriptor, what)
    try:
        return strictjson.loads(open_blob(descriptor), max_size=MAX_SMALL_BLOB)
    except ValueError as error:
        raise UnknownDialect(f"{what} {descriptor.digest}: {error}") from error


def _require_small(descriptor: Descriptor, what: str) -> None:
    if descriptor.size > MAX_SMALL_BLOB:
        raise UnknownDialect(f"{what} {descriptor.digest} has {descriptor.size} bytes")


def _is_message(item: object) -> bool:
    return (
        isinstance(item, dict)
        and item.get("role") in _MESSAGE_ROLES
        and isinstance(item.get("content", ""), str)
    )
