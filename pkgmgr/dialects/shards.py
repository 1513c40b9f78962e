"""File names in artifacts: safe to show, never a path; and the order of shards.

Shards are named `NAME-00001-of-0000N.gguf` (llama.cpp, llama_split_path).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ..errors import UnknownDialect
from ..modelspec import Part, Role
from .base import DraftFile, ModelDraft

_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:")
MAX_NAME = 255
_FILE_NAMES = {
    Role.PROJECTOR: "mmproj.gguf",
    Role.ADAPTER: "adapter.gguf",
    Role.DRAFT: "draft.gguf",
}
LICENSE_NAMES = ("license", "licence", "copying")


def shard_of(filename: str) -> tuple[str, int, int] | None:
    """(stem, number from 1, count) of a shard's file name; None for any other name."""
    match = _SHARD.fullmatch(filename)
    return (match["stem"], int(match["number"]), int(match["count"])) if match else None


def canonical_names(draft: ModelDraft) -> Iterator[tuple[DraftFile, str]]:
    """The files of a draft with the names that they get in artifacts.

    What a file was called on somebody's disk is not part of the model.
    """
    weights = draft.select(Role.WEIGHTS)
    for number, file in enumerate(weights, 1):
        one = len(weights) == 1
        yield file, "model.gguf" if one else f"model-{number:05d}-of-{len(weights):05d}.gguf"
    for role, first in _FILE_NAMES.items():
        for number, file in enumerate(draft.select(role), 1):
            yield file, first if number == 1 else first.replace(".", f"-{number}.")


def safe_filename(text: str | None) -> str | None:
    """A file name or relative path that an artifact gives a layer.

    Raises:
        UnknownDialect: where it is absolute, leaves its directory or holds control characters.
    """
    if text is None or text == "":
        return None
    parts = text.replace("\\", "/").split("/")
    unsafe = (
        len(text) > MAX_NAME
        or not text.isprintable()
        or parts[0] == ""
        or _DRIVE.match(text)
        or ".." in parts
    )
    if unsafe:
        raise UnknownDialect(f"layer name {text[:MAX_NAME]!r} is not a plain relative path")
    return text


def role_of_weights(base: str) -> Role:
    """What a GGUF is for by its name, where nothing else tells: other tools go by it, too."""
    name = base.lower()
    if "mmproj" in name:
        return Role.PROJECTOR
    return Role.ADAPTER if "lora" in name or "adapter" in name else Role.WEIGHTS


def in_shard_order(weights: Sequence[Part]) -> tuple[Part, ...]:
    """Weights in the order in which llama.cpp wants them.

    Names decide where all are shards' names; without names the manifest's order stands.

    Raises:
        UnknownDialect: where the names speak of another number of shards than there are, or of
            several models.
    """
    names = [(part.filename or "").rpartition("/")[2] for part in weights]
    shards = [shard for shard in map(shard_of, names) if shard is not None]
    if not shards:
        if len(weights) > 1 and all(name.lower().endswith(".gguf") for name in names):
            raise UnknownDialect(f"it holds several models: {', '.join(names)}")
        return tuple(weights)
    if len(shards) != len(weights) or len({(stem, count) for stem, _, count in shards}) != 1:
        raise UnknownDialect("its weights are shards of several files")
    count = shards[0][2]
    if sorted(number for _, number, _ in shards) != list(range(1, count + 1)):
        raise UnknownDialect(f"it has {len(shards)} weight shards where their names say {count}")
    ordered = sorted(zip(shards, weights, strict=True), key=lambda pair: pair[0][1])
    return tuple(part for _, part in ordered)
