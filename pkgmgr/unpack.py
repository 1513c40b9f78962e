"""Finds the model in layers that are archives, or that do not say what they are.

KitOps, llmman, RamaLama's images and modelcars pack their GGUF into a tar; oras calls a raw file
one. `unpack` gives the same ModelSpec with raw files, each copied out of its archive once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from .archive import Archive, Bytes, Member, open_archive
from .descriptor import Descriptor
from .dialects.shards import LICENSE_NAMES, in_shard_order, shard_of
from .errors import UnknownDialect
from .gguf import MAGIC, check, read_header
from .mediatypes import OCTET_STREAM
from .modelspec import ModelSpec, Part, Role
from .store import derived
from .store.derived import Derived
from .store.store import Store

_CHUNK = 1 << 20
# A chat template or licence in an archive; larger ones are something else.
_MAX_TEXT = 256 << 10
# RamaLama's symbolic link to the file that is the model.
_MAIN_LINK = "model.file"
_ROLES = {"model": Role.WEIGHTS, "mmproj": Role.PROJECTOR, "adapter": Role.ADAPTER}
_TEXTS = {"license": Role.LICENSE, "jinja": Role.JINJA_TEMPLATE}


def unpack(store: Store, spec: ModelSpec) -> ModelSpec:
    """The spec with the files of its packed layers in their place; itself where none is packed.

    Raises:
        UnknownDialect: where no GGUF is found, or several and nothing says which one is meant.
        InvalidArchive: where a layer is broken or a bomb; nothing of it is left.
        InvalidGGUF: where a file in it is a bad GGUF.
        NoSpace: where the disk is full.
    """
    if not any(part.is_packed for part in spec.parts):
        return spec
    parts: list[Part] = []
    with store.lease():
        for part in spec.parts:
            parts += _files_of(store, part) if part.is_packed else [part]
    return _with_texts(store, replace(spec, parts=_arranged(spec, parts)))


def _files_of(store: Store, part: Part) -> list[Part]:
    layer = part.descriptor
    found = derived.load(store.root, layer.digest)
    if found is None or not all(store.exists(_descriptor(file)) for file in found):
        found = tuple(_unpacked(store, layer))
        derived.save(store.root, layer.digest, found)
    parts = []
    for file in found:
        role = _TEXTS.get(file.kind) or _ROLES.get(file.kind, Role.OTHER)
        kept = Part(role, _descriptor(file), file.name or part.filename)
        # Nothing else marks what the archive calls its model; `_arranged` looks for it.
        parts.append(replace(kept, is_packed=True) if file.is_main else kept)
    return parts


def _descriptor(file: Derived) -> Descriptor:
    return Descriptor(OCTET_STREAM, file.digest, file.size)


def _unpacked(store: Store, layer: Descriptor) -> Iterator[Derived]:
    place = f"layer {layer.digest}"
    with store.fetch(layer) as stream:
        archive = open_archive(stream, size=layer.size, place=place)
    if archive is None:
        yield from _raw(store, layer)
        return
    with store.fetch(layer) as stream:
        archive = open_archive(stream, size=layer.size, place=place)
        assert archive is not None
        files, links = [], set()
        for member in archive:
            base = member.name.rpartition("/")[2]
            if member.link is not None:
                if base == _MAIN_LINK:
                    links.add(member.link.rpartition("/")[2])
                continue
            found = _member(store, archive, member, base)
            files += [found] if found else []
    yield from (replace(file, is_main=file.name in links) for file in files)


def _raw(store: Store, layer: Descriptor) -> Iterator[Derived]:
    with store.fetch(layer) as stream:
        if stream.read(4) == MAGIC:
            yield Derived(
                "", layer.digest, layer.size, _kind(store, layer, f"layer {layer.digest}")
            )


def _member(store: Store, archive: Archive, member: Member, base: str) -> Derived | None:
    head = archive.read(4)
    if head == MAGIC:
        with store.ingest() as ingest:
            ingest.write(head)
            while data := archive.read(_CHUNK):
                ingest.write(data)
            descriptor = Descriptor(OCTET_STREAM, ingest.digest, ingest.size)
            ingest.commit()
        return Derived(base, descriptor.digest, descriptor.size, _kind(store, descriptor, base))
    kind = _text_kind(base.lower())
    if kind is None or member.size > _MAX_TEXT:
        return None
    with store.ingest() as ingest:
        ingest.write(head + _rest(archive))
        return Derived(base, ingest.commit(), ingest.size, kind)


def _text_kind(base: str) -> str | None:
    if base.startswith("chat_template") and not base.endswith(".json"):
        return "jinja"
    return "license" if base.startswith(LICENSE_NAMES) else None


def _rest(archive: Bytes) -> bytes:
    return b"".join(iter(lambda: archive.read(_CHUNK), b""))


def _kind(store: Store, descriptor: Descriptor, name: str) -> str:
    with store.fetch(descriptor) as stream:
        header = read_header(stream, size=descriptor.size, name=name)
    check(header, size=descriptor.size, name=name)
    return header.kind


def _arranged(spec: ModelSpec, parts: list[Part]) -> tuple[Part, ...]:
    """Weights first, in shard order; of several models the one that the archive points to."""
    weights = [part for part in parts if part.role is Role.WEIGHTS]
    mains = [part for part in weights if part.is_packed]
    shards = all(shard_of((part.filename or "").rpartition("/")[2]) for part in weights)
    if len(weights) > 1 and not shards:
        if len(mains) != 1:
            names = ", ".join(part.filename or part.descriptor.digest.short for part in weights)
            raise UnknownDialect(f"it holds several models: {names}", digest=str(spec.digest))
        weights = mains
    if not weights:
        raise UnknownDialect("none of its layers holds a GGUF file", digest=str(spec.digest))
    others = [part for part in parts if part.role is not Role.WEIGHTS]
    plain = (replace(part, is_packed=False) for part in weights)
    return (*in_shard_order(tuple(plain)), *others)


def _with_texts(store: Store, spec: ModelSpec) -> ModelSpec:
    """Texts that came out of archives, where the spec had none."""

    def texts(role: Role) -> tuple[str, ...]:
        return tuple(
            store.read(part.descriptor, max_size=_MAX_TEXT).decode("utf-8", "replace")
            for part in spec.select(role)
            if part.descriptor.size <= _MAX_TEXT
        )

    jinja = spec.jinja_template or next(iter(texts(Role.JINJA_TEMPLATE)), None)
    return replace(spec, jinja_template=jinja, licenses=spec.licenses or texts(Role.LICENSE))
