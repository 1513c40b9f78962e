"""The referrers API of a registry (distribution-spec v1.1.1, "Listing Referrers")."""

from __future__ import annotations

from ..descriptor import Descriptor
from ..errors import InvalidManifest, NetworkError
from ..manifest import MAX_MANIFEST_SIZE, Index, parse
from .auth import Scopes
from .wire import Wire


def list_referrers(wire: Wire, url: str, scopes: Scopes) -> tuple[Descriptor, ...] | None:
    """What a registry lists as referrers; None where it does not know the API.

    Only the first page is read: nobody hangs 4 MiB of descriptors on one model.

    Raises:
        NetworkError: where the answer is no index.
    """
    with wire.ask(
        "GET", url, scopes=scopes, ok=(200, 400, 404, 405, 501), what="list referrers"
    ) as reply:
        if reply.status != 200:
            return None
        raw = reply.body(MAX_MANIFEST_SIZE)
    try:
        index = parse(raw)
    except InvalidManifest as error:
        raise NetworkError(f"{wire.origin.netloc} lists referrers as no index") from error
    return index.manifests if isinstance(index, Index) else None
