"""A pull, in the order that matters: policy, missing blocks, the rest, the name, what hangs on it.

Between `operations.pull`, which opens the registry, and the copy, which moves bytes.
"""

from __future__ import annotations

import logging

from . import attachments
from .attachments import Attachment
from .descriptor import Descriptor
from .errors import PannierError
from .manifest import Manifest
from .reference import DEFAULT_HOST, Reference
from .store.store import Store
from .transfer.copy import copy
from .transfer.events import Noticed, OnEvent
from .transfer.registry import RegistryRepository
from .transfer.verify import read_manifest

_log = logging.getLogger(__name__)


def pull(
    registry: RegistryRepository,
    store: Store,
    root: Descriptor,
    reference: Reference,
    *,
    on_event: OnEvent,
) -> None:
    """Copy a model into the store with its attachments and name it; the caller holds a lease.

    Raises:
        Untrusted: where the policy refuses it; no layer was fetched.
        TransferError, IntegrityError, NoSpace: the name is as it was before.
    """
    from .trust import gate

    attached: tuple[Attachment, ...] | None = None
    if gate.load_policy(store) is not None:
        attached = gate.check_source(store, registry, reference, root, on_event=on_event)
    attached = _take_blocks(registry, store, root, reference, attached, on_event)
    copy(registry, store, root, on_event=on_event)
    store.tag(root, reference)
    if attached is None:
        attached = _attached(registry, reference, root)
    try:
        attachments.copy_all(registry, store, reference, attached)
    except PannierError as error:
        # The model is here and whole; what hangs on it is not worth failing for.
        on_event(Noticed(f"what hangs on {reference.familiar} is left out: {error.message}"))


def _take_blocks(
    registry: RegistryRepository,
    store: Store,
    root: Descriptor,
    reference: Reference,
    attached: tuple[Attachment, ...] | None,
    on_event: OnEvent,
) -> tuple[Attachment, ...] | None:
    """Make from blocks what can be; gives the attachments, None where nobody asked for them."""
    from .bundle import blocks
    from .bundle.assemble import has_candidates

    if not has_candidates(store):
        return attached
    content = read_manifest(registry, root)
    parts = blocks.wanted(store, content) if isinstance(content, Manifest) else ()
    if not parts:
        return attached
    if attached is None:
        attached = _attached(registry, reference, root)
    blocks.fetch_parts(store, registry, parts, attached, on_event=on_event)
    return attached


def _attached(
    registry: RegistryRepository, reference: Reference, root: Descriptor
) -> tuple[Attachment, ...]:
    if reference.host == DEFAULT_HOST:  # Ollama's registry holds nothing of the kind
        return ()
    try:
        return attachments.in_source(registry, reference, root.digest)
    except PannierError as error:
        _log.debug("attachments of %s: %s", reference, error.message)
        return ()
