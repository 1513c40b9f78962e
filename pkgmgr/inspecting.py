"""Looking at a model in its registry without pulling it: the manifest and small layers only."""

from __future__ import annotations

from contextlib import ExitStack

from .compare import Side
from .descriptor import Descriptor
from .dialects import read_spec
from .dialects.base import MAX_SMALL_BLOB
from .errors import InvalidManifest, InvalidOption
from .manifest import Manifest, parse
from .operations import inspect_remote
from .reference import Reference
from .settings import Settings
from .transfer.open import open_registry
from .transfer.verify import VerifyingReader


def remote_side(closing: ExitStack, reference: Reference, *, settings: Settings) -> Side:
    """A model in a registry, for `compare`; the registry is open as long as `closing`.

    Raises:
        ModelNotFound, TransferError: as for `pull`.
        InvalidOption: for an index, and for weights inside an archive.
    """
    document = inspect_remote(reference, settings=settings)
    content = parse(document.content.raw)
    if not isinstance(content, Manifest):
        raise InvalidOption(
            f"{reference.familiar} is an index", hint="name one of its models by tag or digest"
        )
    registry = closing.enter_context(open_registry(reference, settings=settings))

    def open_blob(item: Descriptor) -> bytes:
        if item.size > MAX_SMALL_BLOB:
            raise InvalidManifest(f"layer {item.digest} of {item.size} bytes is no text")
        with registry.fetch(item) as stream:
            return VerifyingReader(stream, item).read()

    spec = read_spec(content, open_blob)
    if any(part.is_packed for part in spec.parts):
        raise InvalidOption(
            f"the weights of {reference.familiar} lie in an archive", hint="pull the model first"
        )
    return Side(
        reference.familiar,
        content,
        spec,
        lambda item, offset: registry.fetch(item, offset=offset),
    )
