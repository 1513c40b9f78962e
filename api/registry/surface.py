"""What every handler of the registry gets: the store, open uploads, the operator's limits."""

from __future__ import annotations

import threading
import time

from pannier.pkgmgr.access import Keyring
from pannier.pkgmgr.store.store import Store

from .auth import Auth
from .bridge import Bridge
from .cache import Cache
from .contents import Contents
from .errors import Code, Problem
from .options import Options
from .present import Presenter
from .pushes import Pushes
from .source import Source
from .uploads import Session, Uploads
from .upstream import Upstream

# How long a count of the store's bytes may be used; counting 1,000 blobs takes about 2 ms.
_COUNT_AGE_S = 2.0
# JSON of 4 MiB can take 100 MB parsed, and parsing is no faster in more threads.
_PARSERS = 2


class Surface:
    """A store as a registry sees it."""

    def __init__(self, store: Store, options: Options) -> None:
        self.store = store
        self.pushes = Pushes(store)
        self.parsing = threading.BoundedSemaphore(_PARSERS)
        self.auth = Auth(Keyring(store.root))
        self.options = options
        self.uploads = Uploads(store.root / "ingest", store.path, admit=self.admit)
        local = Contents(store, options.home)
        self.source: Source = local
        if options.upstream is not None:
            upstream = Upstream(options.home, options.upstream)
            self.source = _bridge(store, local, upstream, self.uploads, options.cache_size)
        self.presenter = Presenter(store, self.source)
        self._counting = threading.Lock()
        self._counted = (float("-inf"), 0)

    def close(self) -> None:
        """End what goes on with an upstream registry, and the store's lease."""
        self.pushes.close()
        if isinstance(self.source, Bridge):
            self.source.close()

    def admit(self, session: Session, count: int) -> None:
        """Refuse further bytes of an upload that would break a limit.

        Raises:
            Problem: SIZE_INVALID (413) for the limit of one upload, DENIED for that of the store.
        """
        limit = self.options.max_upload_size
        if limit is not None and session.offset + count > limit:
            raise Problem(Code.SIZE_INVALID, f"an upload may have {limit} bytes here", 413)
        quota = self.options.max_store_size
        if quota is not None and self._used() + self.uploads.received() + count > quota:
            text = f"quota exceeded: the store may hold {quota} bytes"
            raise Problem(Code.DENIED, text)

    def _used(self) -> int:
        """Bytes of all blobs, counted a moment ago."""
        with self._counting:
            now = time.monotonic()
            if now - self._counted[0] > _COUNT_AGE_S:
                self._counted = (now, _blob_bytes(self.store))
            return self._counted[1]


def _bridge(
    store: Store, local: Contents, upstream: Upstream, uploads: Uploads, cache_size: int | None
) -> Bridge:
    cache = None if cache_size == 0 else Cache(store, max_size=cache_size)
    return Bridge(store, local, upstream, uploads, cache=cache)


def _blob_bytes(store: Store) -> int:
    return sum(path.stat().st_size for path in (store.root / "blobs").glob("*/*") if path.is_file())
