"""What every handler of the registry gets: the store, open uploads, the operator's limits."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

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
        self._counted: tuple[object, int] = (None, 0)

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
        """Bytes of all blobs, counted again whenever one came or went."""
        with self._counting:
            folders = sorted((self.store.root / "blobs").iterdir())
            mark = tuple(folder.stat().st_mtime_ns for folder in folders)
            if mark != self._counted[0]:
                self._counted = mark, sum(_bytes_in(folder) for folder in folders)
            return self._counted[1]


def _bridge(
    store: Store, local: Contents, upstream: Upstream, uploads: Uploads, cache_size: int | None
) -> Bridge:
    cache = None if cache_size == 0 else Cache(store, max_size=cache_size)
    return Bridge(store, local, upstream, uploads, cache=cache)


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total
