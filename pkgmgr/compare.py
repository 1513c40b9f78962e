"""What is different between two models: layers, options, texts, GGUF metadata and tensors."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from .descriptor import Descriptor
from .gguf import ArrayInfo, Header, read_header
from .manifest import Manifest
from .modelspec import ModelSpec, Role
from .transfer.content import Reader

# Opens a blob from an offset on: from the store, or from a registry by Range.
Fetch = Callable[[Descriptor, int], AbstractContextManager[Reader]]
_TEXT = 120
_SHORT = 16
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two models. `name` is what the reader calls it."""

    name: str
    manifest: Manifest
    spec: ModelSpec
    fetch: Fetch


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `old` and `new` are None on the side that lacks it.

    Attributes:
        kind: `layer`, `parameter`, `text`, `setting`, `metadata` or `tensor`.
        diff: for texts the lines of a unified diff.
    """

    kind: str
    key: str
    old: str | None
    new: str | None
    diff: tuple[str, ...] = ()


def compare(old: Side, new: Side, *, tensors: bool = True) -> tuple[Change, ...]:
    """Every difference, the coarse ones first; none where the manifests are the same.

    Args:
        old: the first model.
        new: the second one.
        tensors: whether tensors of different weights are read and hashed; else only their
            shapes are compared.
    """
    if old.manifest.descriptor.digest == new.manifest.descriptor.digest:
        return ()
    return (
        *_layers(old, new),
        *_maps("parameter", old.spec.params, new.spec.params),
        *_maps("setting", old.spec.settings, new.spec.settings),
        *_texts(old, new),
        *_weights(old, new, tensors),
    )


def _layers(old: Side, new: Side) -> Iterator[Change]:
    def described(side: Side) -> dict[str, str]:
        found: dict[str, str] = {}
        for part in side.spec.parts:
            number = sum(key.split(" ")[0] == part.role for key in found) + 1
            key = str(part.role) if number == 1 else f"{part.role} {number}"
            found[key] = f"{part.descriptor.digest} ({part.descriptor.size} bytes)"
        return found

    yield from _maps("layer", described(old), described(new))


def _maps(kind: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if before != after:
            yield Change(kind, key, _short(before), _short(after))


def _short(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, ArrayInfo):
        return f"{value.count} × {value.type}"
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _TEXT else f"{text[:_TEXT]}…"


def _texts(old: Side, new: Side) -> Iterator[Change]:
    def texts(spec: ModelSpec) -> dict[str, str]:
        found = {
            "template": spec.template,
            "jinja template": spec.jinja_template,
            "system": spec.system,
            "messages": "\n".join(f"{item.role}: {item.content}" for item in spec.messages),
            "licenses": "\n".join(spec.licenses),
        }
        return {key: text for key, text in found.items() if text}

    before, after = texts(old.spec), texts(new.spec)
    for key in before.keys() | after.keys():
        if before.get(key) != after.get(key):
            diff = difflib.unified_diff(
                before.get(key, "").splitlines(),
                after.get(key, "").splitlines(),
                old.name,
                new.name,
                lineterm="",
            )
            yield Change("text", key, before.get(key), after.get(key), tuple(diff))


def _weights(old: Side, new: Side, tensors: bool) -> Iterator[Change]:
    before, after = old.spec.select(Role.WEIGHTS), new.spec.select(Role.WEIGHTS)
    for number, (one, two) in enumerate(zip(before, after, strict=False), 1):
        if one.descriptor.digest == two.descriptor.digest:
            continue
        prefix = f"{number}: " if len(before) > 1 else ""
        headers = _header(old, one.descriptor), _header(new, two.descriptor)
        metadata = [_comparable(header) for header in headers]
        for change in _maps("metadata", metadata[0], metadata[1]):
            yield Change(change.kind, prefix + change.key, change.old, change.new)
        listed = (
            _tensors(old, one.descriptor, headers[0], tensors),
            _tensors(new, two.descriptor, headers[1], tensors),
        )
        for change in _maps("tensor", listed[0], listed[1]):
            yield Change(change.kind, prefix + change.key, change.old, change.new)


def _header(side: Side, descriptor: Descriptor) -> Header:
    with side.fetch(descriptor, 0) as stream:
        return read_header(stream, size=descriptor.size, name=side.name)


def _comparable(header: Header) -> dict[str, Any]:
    """Metadata with long arrays as a digest: a changed token must not hide."""
    found: dict[str, Any] = {}
    for key, value in header.metadata.items():
        if isinstance(value, str | int | float | ArrayInfo):
            found[key] = value
        elif len(value) <= _SHORT:
            found[key] = list(value)
        else:
            state = hashlib.sha256("\0".join(map(str, value)).encode())
            found[key] = f"{len(value)} items, sha256 {state.hexdigest()[:12]}"
    return found


def _tensors(side: Side, descriptor: Descriptor, header: Header, hashed: bool) -> dict[str, str]:
    found: dict[str, str] = {}
    if not hashed:
        return {t.name: f"{t.type} {'×'.join(map(str, t.shape))}" for t in header.tensors}
    position = header.data_offset
    with side.fetch(descriptor, position) as stream:
        for tensor in header.tensors:
            start = header.data_offset + tensor.offset
            _take(stream, start - position, None)
            state = hashlib.sha256()
            _take(stream, tensor.size, state.update)
            position = start + tensor.size
            shape = "×".join(map(str, tensor.shape))
            found[tensor.name] = f"{tensor.type} {shape} sha256 {state.hexdigest()[:12]}"
    return found


def _take(stream: Reader, count: int, use: Callable[[bytes], None] | None) -> None:
    while count > 0 and (data := stream.read(min(count, _CHUNK))):
        count -= len(data)
        if use is not None:
            use(data)
