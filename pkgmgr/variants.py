"""Indexes of variants: several models under one name, chosen by quantization or by what fits.

A plain OCI index, without members of our own: each child is a tagged manifest whose quantization
and size stand in annotations, so that clients which know no index use the tags.
"""

from __future__ import annotations

import io
import json
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import mediatypes as mt
from .descriptor import Descriptor
from .digest import Digest
from .errors import InvalidOption, UnknownDialect
from .manifest import Index, Manifest
from .modelspec import ModelSpec
from .operations import read_spec_of
from .reference import Reference
from .store.store import Store

# Takes a whole index instead of one of its children.
ALL = "all"
# Weights are mapped as they are; context and buffers of a small context take about this much more.
_NEED = 1.2
# Attestations that image builders put beside the images that they speak of.
_ATTESTATION = "vnd.docker.reference.type"
_MAX_VARIANTS = 64
# Image tools wrap an index of platforms into another one at most once.
MAX_NESTING = 4


@dataclass(frozen=True, slots=True)
class Variant:
    """One child of an index. `size` is in bytes of all its layers, None where nobody said.

    Attributes:
        labels: everything that the child can be asked for by, the most usual first.
    """

    descriptor: Descriptor
    size: int | None
    labels: tuple[str, ...]

    def __str__(self) -> str:
        name = self.labels[0] if self.labels else self.descriptor.digest.short
        facts = [self.descriptor.annotations.get(mt.REF_NAME, "")]
        facts += [f"{self.size / 1e9:.1f} GB"] if self.size else []
        told = ", ".join(fact for fact in facts if fact and fact != name)
        return f"{name} ({told})" if told else name


@dataclass(frozen=True, slots=True)
class Choice:
    """A variant, and why it was chosen."""

    variant: Variant
    reason: str


def list_variants(index: Index) -> tuple[Variant, ...]:
    """The children of an index that may be models, in its order."""
    return tuple(
        _variant(child)
        for child in index.manifests[:_MAX_VARIANTS]
        if _ATTESTATION not in child.annotations
    )


def choose(
    index: Index,
    wanted: str | None,
    *,
    free: int | None,
    among: Container[Digest] | None = None,
) -> Choice:
    """One child of an index.

    Args:
        index: of which one is wanted.
        wanted: a quantization, a tag, a platform (`linux/arm64`), an annotation's value or
            `key=value`, or a digest; None for the best that fits.
        free: bytes of memory that a model may take; None where unknown.
        among: the children that count; None for all.

    Raises:
        UnknownDialect: where it has no children.
        InvalidOption: where none or several are meant; the message lists them.
    """
    variants = [
        item for item in list_variants(index) if among is None or item.descriptor.digest in among
    ]
    if not variants:
        raise UnknownDialect("the index names no model", digest=str(index.descriptor.digest))
    if wanted is not None:
        found = [item for item in variants if _is_meant(item, wanted)]
        if len({item.descriptor.digest for item in found}) != 1:
            raise InvalidOption(
                f"{'several variants are' if found else 'no variant is'} called {wanted!r}",
                hint=f"there are {_listed(variants)}",
            )
        return Choice(found[0], "as asked")
    if len({item.descriptor.digest for item in variants}) == 1:
        return Choice(variants[0], "it is the only one")
    return _best(variants, free)


def create_index(store: Store, reference: Reference, sources: Sequence[Reference]) -> Descriptor:
    """Make an index of stored models and give it a name.

    Raises:
        ModelNotFound: where the store lacks one of them.
        InvalidOption: where there are none, or one is an index itself.
    """
    if not sources:
        raise InvalidOption("an index needs at least one model", hint="name them with --from")
    children = [_child(store, reference, source) for source in sources]
    if len({child["digest"] for child in children}) < len(children):
        raise InvalidOption("two of the models are the same")
    document = {"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": children}
    raw = json.dumps(document, separators=(",", ":")).encode()
    descriptor = Descriptor(mt.OCI_INDEX, Digest.of(raw), len(raw))
    with store.lease():
        store.push(descriptor, io.BytesIO(raw))
        store.tag(descriptor, reference)
    return descriptor


def free_memory(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Bytes of memory that programs may still take; None where the system does not tell."""
    try:
        lines = meminfo.read_text("ascii").splitlines()
        found = {name: rest for name, _, rest in (line.partition(":") for line in lines)}
        return int(found["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError, IndexError):
        return None


def _best(variants: Sequence[Variant], free: int | None) -> Choice:
    sized = sorted(
        (item for item in variants if item.size is not None), key=lambda item: item.size or 0
    )
    if free is None or len(sized) < len(variants):
        raise InvalidOption(
            "the name stands for several models, and nothing tells which one fits",
            hint=f"choose with --variant: {_listed(variants)}",
        )
    fitting = [item for item in sized if (item.size or 0) * _NEED <= free]
    memory = f"{free / 1e9:.1f} GB of free memory"
    if not fitting:
        return Choice(sized[0], f"the smallest; none fits into {memory}")
    return Choice(fitting[-1], f"the best that fits into {memory}")


def _variant(child: Descriptor) -> Variant:
    notes = child.annotations
    platform = child.extra.get("platform")
    labels = [notes.get(mt.QUANTIZATION, ""), notes.get(mt.REF_NAME, "")]
    if isinstance(platform, dict):
        labels.append(f"{platform.get('os')}/{platform.get('architecture')}")
    # KitOps puts a label map beside the annotations.
    metadata = child.extra.get("modelMetadata")
    if isinstance(metadata, dict):
        labels += [str(value) for value in metadata.values()]
    labels += list(notes.values())
    labels = [label for label in labels if label and label != "unknown/unknown"]
    size = notes.get(mt.WEIGHTS_SIZE, "")
    number = int(size) if size.isascii() and size.isdecimal() and len(size) < 16 else None
    return Variant(child, number, tuple(dict.fromkeys(labels)))


def _is_meant(variant: Variant, wanted: str) -> bool:
    key, equals, value = wanted.partition("=")
    if equals:
        return variant.descriptor.annotations.get(key) == value
    names = (*variant.labels, str(variant.descriptor.digest), variant.descriptor.digest.short)
    return wanted.lower() in {name.lower() for name in names}


def _listed(variants: Sequence[Variant]) -> str:
    return ", ".join(str(item) for item in variants)


def _child(store: Store, reference: Reference, source: Reference) -> dict[str, object]:
    entry = store.find(source)
    manifest = store.manifest(entry.descriptor.digest)
    if not isinstance(manifest, Manifest):
        raise InvalidOption(f"{source.familiar} is an index itself")
    spec: ModelSpec = read_spec_of(store, manifest)
    annotations = {mt.WEIGHTS_SIZE: str(manifest.size)}
    quantization = spec.details.get("quantization_level")
    if isinstance(quantization, str):
        annotations[mt.QUANTIZATION] = quantization
    same = (source.host, source.repository.lower()) == (
        reference.host,
        reference.repository.lower(),
    )
    if same and source.tag:
        annotations[mt.REF_NAME] = source.tag
    described = Descriptor(
        manifest.descriptor.media_type,
        manifest.descriptor.digest,
        manifest.descriptor.size,
        dict(sorted(annotations.items())),
        manifest.artifact_type,
    )
    return described.to_json()
