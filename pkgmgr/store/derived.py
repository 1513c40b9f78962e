"""Files that were unpacked from archive layers, remembered so that it happens once.

A record lies in ``derived/<algorithm>-<hex>.json`` under the digest of the layer; what it names
are blobs like all others. A blob that only a record names lives as long as the layer does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .. import strictjson
from ..digest import Digest
from ..errors import InvalidDigest
from .files import disk_errors, replace_file

# To be raised when unpacking finds more or other files than before.
_VERSION = 1
_MAX_RECORD = 1 << 20


@dataclass(frozen=True, slots=True)
class Derived:
    """A file from a layer. `kind` is a GGUF's (`model`, `mmproj`, …), or `license`, `jinja`.

    Attributes:
        name: as the archive calls it; never a path to use.
        is_main: the archive says that this is the model among several files.
    """

    name: str
    digest: Digest
    size: int
    kind: str
    is_main: bool = False


def load(root: Path, layer: Digest) -> tuple[Derived, ...] | None:
    """What was unpacked from a layer; None where nothing was, or the record is of another time."""
    try:
        raw = _path(root, layer).read_bytes()
        value = strictjson.loads(raw, max_size=_MAX_RECORD)
        if value["version"] != _VERSION:
            return None
        return tuple(
            Derived(
                item["name"],
                Digest.parse(item["digest"]),
                item["size"],
                item["kind"],
                item["is_main"],
            )
            for item in value["files"]
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError, InvalidDigest):
        return None


def save(root: Path, layer: Digest, files: Iterable[Derived]) -> None:
    """Remember what was unpacked from a layer."""
    path = _path(root, layer)
    value = {
        "version": _VERSION,
        "files": [
            {
                "name": file.name,
                "digest": str(file.digest),
                "size": file.size,
                "kind": file.kind,
                "is_main": file.is_main,
            }
            for file in files
        ],
    }
    with disk_errors(path):
        path.parent.mkdir(exist_ok=True)
        replace_file(path, json.dumps(value).encode())


def kept(root: Path, layers: Iterable[Digest]) -> Iterator[Digest]:
    """The blobs that live as long as these layers do."""
    with suppress(FileNotFoundError):
        recorded = {path.name for path in (root / "derived").iterdir()}
        for layer in layers:
            if _path(root, layer).name in recorded:
                yield from (file.digest for file in load(root, layer) or ())


def forget(root: Path, layer: Digest) -> None:
    """Drop the record of a layer that is gone; what it named is collected like any other blob."""
    _path(root, layer).unlink(missing_ok=True)


def _path(root: Path, layer: Digest) -> Path:
    return root / "derived" / f"{layer.algorithm}-{layer.hex}.json"
