"""Building models: a Modelfile, or values and stored blobs, become one named artifact.

`create` reads each file once, into the store, and checks every GGUF before anything is named.
Equal inputs give equal digests: no time stands in an artifact but SOURCE_DATE_EPOCH's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .. import mediatypes as mt
from ..descriptor import Descriptor
from ..dialects import modelpack, read_spec
from ..dialects.base import MAX_SMALL_BLOB, Composition, DraftFile, ModelDraft
from ..errors import InvalidInput, InvalidOption, ModelNotFound
from ..manifest import Manifest
from ..modelspec import ModelSpec, Role
from ..named_templates import NamedTemplate, detect
from ..reference import Reference
from ..store.store import Store
from ..transfer.events import OnEvent, ignore
from ..unpack import unpack
from ..vocabularies import why_no_draft
from .gather import Headed, StoredFile, describe, draft_files, gather
from .quantized import Quantizer, with_quantized_weights
from .recipe import Ingredients, read_recipe
from .sources import read_checked_header
from .syntax import Modelfile

# What a base that the store does not have is asked of: it pulls, or raises ModelNotFound.
Fetch = Callable[[Reference], object]
_FILES = frozenset({Role.WEIGHTS, Role.PROJECTOR, Role.ADAPTER, Role.DRAFT})


def create(
    store: Store,
    modelfile: Modelfile,
    reference: Reference,
    *,
    base_dir: Path,
    on_event: OnEvent = ignore,
    fetch: Fetch | None = None,
    quantizer: Quantizer | None = None,
) -> Descriptor:
    """Build a Modelfile's model and give it a name.

    Args:
        store: takes everything in.
        modelfile: as parsed.
        reference: the name; a digest in it is not looked at.
        base_dir: what relative paths in the Modelfile are relative to.
        on_event: told of the bytes of each file.
        fetch: called with a FROM name that the store does not have.
        quantizer: makes the weights smaller; None takes them as they are.

    Raises:
        ModelfileError: with the line at fault; what is no GGUF and what is missing, too.
        ModelNotFound: where FROM names a model that is not here.
        NoSpace: where the disk is full.
    """
    with store.lease():
        ingredients = read_recipe(store, modelfile, base_dir=base_dir, on_event=on_event)
        try:
            return assemble(store, ingredients, reference, fetch=fetch, quantizer=quantizer)
        except InvalidInput as error:
            raise modelfile.error(None, error.message, hint=error.hint) from error


def assemble(
    store: Store,
    ingredients: Ingredients,
    reference: Reference,
    *,
    fetch: Fetch | None = None,
    quantizer: Quantizer | None = None,
) -> Descriptor:
    """Build a model of stored files and values, and give it a name.

    Raises:
        InvalidInput: where the files do not make one model.
        ModelNotFound: where the base is not here.
    """
    with store.lease():
        draft = _draft(store, ingredients, fetch)
        if quantizer:
            draft = with_quantized_weights(store, draft, quantizer)
        descriptor = put(store, modelpack.compose(draft))
        store.tag(descriptor, reference.with_digest(None))
    return descriptor


def put(store: Store, composition: Composition) -> Descriptor:
    """Store the small blobs and the manifest of a composition; nothing is named."""
    for descriptor, data in (
        *composition.blobs,
        (composition.descriptor, composition.manifest),
    ):
        if not store.exists(descriptor):
            with store.ingest() as ingest:
                ingest.write(data)
                ingest.commit(descriptor)
    return composition.descriptor


def with_details(store: Store, spec: ModelSpec) -> ModelSpec:
    """A spec whose `details` are filled up from the GGUF headers, where its artifact has none."""
    parts = [part for part in spec.parts if part.role in (Role.WEIGHTS, Role.PROJECTOR)]
    try:
        headed = [
            _headed(
                store,
                StoredFile(
                    part.descriptor.digest, part.descriptor.size, part.filename or part.role
                ),
            )
            for part in parts
        ]
        found = describe(headed)
    except InvalidInput:  # weights in another format, which are packed all the same
        return spec
    return replace(spec, details=MappingProxyType(found | dict(spec.details)))


def _draft(store: Store, ingredients: Ingredients, fetch: Fetch | None) -> ModelDraft:
    base = _read_base(store, ingredients.base, fetch) if ingredients.base else None
    files = gather([_headed(store, file) for file in ingredients.files])
    template = _newer(ingredients.template, base.template if base else None)
    named = _named_template(files) if template is None and base is None else None
    details = (dict(base.details) if base else {}) | describe(files)
    all_files = _laid_over(base, draft_files(files))
    if not any(file.role is Role.WEIGHTS for file in all_files):
        raise InvalidInput("no FROM names a model", hint="FROM takes a GGUF file or a model's name")
    _check_draft_model(store, files, all_files)
    annotations = {mt.VERSION: metadata.version("pannier"), **ingredients.annotations}
    if base:
        annotations[mt.BASE_DIGEST] = str(base.digest)
    return ModelDraft(
        files=all_files,
        template=named.source if named else template,
        jinja_template=base.jinja_template if base else None,
        system=_newer(ingredients.system, base.system if base else None),
        params=(_named_params(named) if named else {}) | _params(ingredients, base),
        messages=ingredients.messages or (base.messages if base else ()),
        licenses=ingredients.licenses or (base.licenses if base else ()),
        settings=_settings(ingredients, base),
        title=details.pop("title", None),
        spdx=details.pop("spdx", None),
        details=details,
        created=source_date(os.environ.get("SOURCE_DATE_EPOCH")),
        annotations=annotations,
    )


def _read_base(store: Store, reference: Reference, fetch: Fetch | None) -> ModelSpec:
    try:
        entry = store.find(reference)
    except ModelNotFound as error:
        if fetch is None:
            error.hint = error.hint or f"get it with `pannier pull {reference.familiar}`"
            raise
        fetch(reference)
        entry = store.find(reference)
    manifest = store.manifest(entry.descriptor.digest)
    if not isinstance(manifest, Manifest):
        raise InvalidOption(f"{reference.familiar} names several models; FROM wants one of them")
    spec = read_spec(manifest, lambda item: store.read(item, max_size=MAX_SMALL_BLOB))
    return with_details(store, unpack(store, spec))


def _headed(store: Store, file: StoredFile) -> Headed:
    """The header is read from the store's own copy, which nobody can change any more."""
    return Headed(file, read_checked_header(store.path(file.digest), name=file.name))


def _check_draft_model(
    store: Store, files: Sequence[Headed], all_files: Sequence[DraftFile]
) -> None:
    """Refuse a new draft model that the weights, new or the base's, could never use."""
    drafting = [item for item in files if item.role is Role.DRAFT]
    if not drafting:
        return
    weights = next(file for file in all_files if file.role is Role.WEIGHTS)
    try:
        target = _headed(store, StoredFile(weights.digest, weights.size, "the base's weights"))
    except InvalidInput:  # weights in another format, which are kept all the same
        return
    reason = why_no_draft(target.header, drafting[0].header)
    if reason is not None:
        raise InvalidInput(
            f"{drafting[0].file.name} cannot draft for this model: {reason}",
            hint="DRAFT takes a small model of the same family, with the same vocabulary",
        )


def _laid_over(base: ModelSpec | None, files: tuple[DraftFile, ...]) -> tuple[DraftFile, ...]:
    """The files of the base, less those of the roles that come anew."""
    if base is None:
        return files
    new = {file.role for file in files}
    if Role.WEIGHTS in new:
        raise InvalidInput("FROM names a model and weights; a model can have one of them only")
    inherited = tuple(
        DraftFile(part.role, part.descriptor.digest, part.descriptor.size)
        for part in base.parts
        if part.role in _FILES and part.role not in new
    )
    return inherited + files


def _named_template(files: Sequence[Headed]) -> NamedTemplate | None:
    """The well-known format that the weights' Jinja template writes, if it is one."""
    for file in files:
        jinja = file.header.metadata.get("tokenizer.chat_template")
        if isinstance(jinja, str):
            return detect(jinja)
    return None


def _named_params(named: NamedTemplate) -> dict[str, Any]:
    return {"stop": list(named.stop), **named.params}


def _newer(own: str | None, inherited: str | None) -> str | None:
    return inherited if own is None else own


def _params(ingredients: Ingredients, base: ModelSpec | None) -> dict[str, Any]:
    inherited = dict(base.params) if base else {}
    for name in ingredients.unset:
        inherited.pop(name, None)
    return inherited | dict(ingredients.params)


def _settings(ingredients: Ingredients, base: ModelSpec | None) -> dict[str, Any]:
    merged = (dict(base.settings) if base else {}) | dict(ingredients.settings)
    return {name: value for name, value in merged.items() if value}


def source_date(text: str | None) -> str | None:
    """The RFC 3339 time of SOURCE_DATE_EPOCH, a number of seconds; None where it is unset.

    Raises:
        InvalidOption: where it is no such number.
    """
    if not text:
        return None
    try:
        return datetime.fromtimestamp(int(text), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidOption(f"SOURCE_DATE_EPOCH is {text[:40]!r}, not seconds") from error
