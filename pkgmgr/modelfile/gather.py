"""Which stored GGUF files make up one model, and what they say of themselves. Pure.

Roles come from the headers: a file knows whether it is a model, a projector or an adapter, and
which shard of how many it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..dialects.base import DraftFile
from ..dialects.shards import shard_of
from ..digest import Digest
from ..errors import InvalidInput
from ..gguf import Header
from ..modelspec import Role

_KINDS = {"model": Role.WEIGHTS, "mmproj": Role.PROJECTOR, "adapter": Role.ADAPTER}
_INSTRUCTIONS = {Role.WEIGHTS: "FROM", Role.ADAPTER: "ADAPTER", Role.DRAFT: "DRAFT"}


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a model, in the store already. `size` is in bytes.

    Attributes:
        name: what messages call it, and what tells a shard's number.
        wanted: what it was given as: WEIGHTS (a projector may be among them), ADAPTER or DRAFT;
            None where its header alone decides.
    """

    digest: Digest
    size: int
    name: str
    wanted: Role | None = None


@dataclass(frozen=True, slots=True)
class Headed:
    """A file with its header."""

    file: StoredFile
    header: Header

    @property
    def role(self) -> Role:
        """What the file is for.

        Raises:
            InvalidInput: where it is not what it was given as.
        """
        kind, wanted = self.header.kind, self.file.wanted
        role = _KINDS.get(kind)
        if role is Role.WEIGHTS and wanted is Role.DRAFT:
            return Role.DRAFT
        if role is None:
            raise InvalidInput(f"{self.file.name} is a GGUF of the kind {kind!r}, not a model")
        if wanted is None or role is wanted or (wanted, role) == (Role.WEIGHTS, Role.PROJECTOR):
            return role
        raise InvalidInput(
            f"{self.file.name} is a GGUF of the kind {kind!r}, which {_INSTRUCTIONS[wanted]} "
            "cannot take"
        )


def gather(files: Sequence[Headed]) -> tuple[Headed, ...]:
    """The distinct files of one model: weights in shard order, then all else in order.

    Raises:
        InvalidInput: where they are two models, or not all shards of one.
    """
    distinct = list({(item.role, item.file.digest): item for item in files}.values())
    by_role = {role: [item for item in distinct if item.role is role] for role in Role}
    ordered = [*_one_model(by_role[Role.WEIGHTS])]
    for role in (Role.PROJECTOR, Role.ADAPTER):
        ordered += by_role[role]
    return (*ordered, *_one_model(by_role[Role.DRAFT]))


def draft_files(files: Sequence[Headed]) -> tuple[DraftFile, ...]:
    """The files as a draft lists them."""
    return tuple(DraftFile(item.role, item.file.digest, item.file.size) for item in files)


def describe(files: Sequence[Headed]) -> dict[str, Any]:
    """What the headers tell: the `details` of a `ModelSpec`, with `title` and `spdx`."""
    weights = [item.header for item in files if item.role is Role.WEIGHTS]
    if not weights:
        return {}
    first = weights[0]
    families = [first.architecture]
    families += [item.header.architecture for item in files if item.role is Role.PROJECTOR]
    largest = max(weights, key=lambda header: len(header.tensors))
    found = {
        "format": "gguf",
        "family": first.architecture,
        "families": list(dict.fromkeys(families)),
        "parameter_size": human_count(sum(header.parameter_count for header in weights)),
        "quantization_level": (first if first.tensors else largest).quantization,
        "title": first.text("general.name"),
        "spdx": first.text("general.license"),
    }
    return {key: value for key, value in found.items() if value}


def human_count(count: int) -> str:
    """A number of parameters as Ollama prints it.

    >>> [human_count(n) for n in (134_515_008, 8_030_261_248, 7_000_000_000, 41_824)]
    ['134.52M', '8.0B', '7B', '42K']
    """
    for unit, name, digits in ((10**9, "B", 1), (10**6, "M", 2), (10**3, "K", 0)):
        if count >= unit:
            return f"{count / unit:.{digits if count % unit else 0}f}{name}"
    return str(count)


def _one_model(weights: list[Headed]) -> list[Headed]:
    splits = [item.header.split for item in weights]
    if splits.count(None) == len(splits):
        if len(weights) > 1:
            names = " and ".join(item.file.name for item in weights[:2])
            raise InvalidInput(f"{names} are two models; a model has one, or the shards of one")
        return weights
    for item in weights:
        _check_name(item)
    counts = {split[1] if split else 1 for split in splits}
    numbers = sorted(split[0] if split else -1 for split in splits)
    count = max(counts)
    if len(counts) > 1 or numbers != list(range(count)):
        have = ", ".join(str(number + 1) for number in numbers if number >= 0)
        raise InvalidInput(f"{weights[0].file.name} is one of {count} shards; found are: {have}")
    _check_tensors(weights)
    return sorted(weights, key=lambda item: item.header.number("split.no", 0))


def _check_name(item: Headed) -> None:
    """A renamed shard would run as another one."""
    named, said = shard_of(item.file.name), item.header.split
    if named is not None and said is not None and (named[1] - 1, named[2]) != said:
        raise InvalidInput(
            f"{item.file.name} says in its header that it is shard {said[0] + 1} of {said[1]}"
        )


def _check_tensors(weights: list[Headed]) -> None:
    said = weights[0].header.number("split.tensors.count", 0)
    found = sum(len(item.header.tensors) for item in weights)
    if said and said != found:
        raise InvalidInput(f"{weights[0].file.name} and its shards hold {found} tensors of {said}")
