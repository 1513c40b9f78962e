"""The registry behind a bridge: repositories opened once, asked with little patience.

Everything that is said to it goes through `pannier.pkgmgr.transfer.registry`, with the operator's
credentials; nothing of them reaches clients.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from pannier.pkgmgr.descriptor import Descriptor
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import (
    BlobNotFound,
    InvalidOption,
    InvalidReference,
    NetworkError,
    PannierError,
    RegistryError,
    TransferError,
)
from pannier.pkgmgr.reference import DEFAULT_HOST, DEFAULT_NAMESPACE, Reference
from pannier.pkgmgr.settings import Settings
from pannier.pkgmgr.transfer.content import Mirrored
from pannier.pkgmgr.transfer.open import open_registry
from pannier.pkgmgr.transfer.registry import RegistryRepository
from pannier.pkgmgr.transfer.retry import RetryPolicy

from .names import Home

# Repositories whose connections are kept. Names come from clients, so there is a bound.
_MAX_OPEN = 32
# A client waits while we do: two tries, and it gets what the cache has.
_RETRY = RetryPolicy(attempts=2, max_wait_s=1.0)


def parse_upstream(text: str) -> Home:
    """Read ``HOST[:PORT][/PREFIX]`` as an operator writes it.

    Raises:
        InvalidOption: for anything else.
    """
    host, _, prefix = text.strip().removeprefix("https://").strip("/").partition("/")
    try:
        reference = Reference.parse(f"{host}/{prefix or 'x'}/x")
    except InvalidReference as error:
        raise InvalidOption(f"upstream {text!r}: {error.reason}") from error
    if reference.host != host.lower():
        raise InvalidOption(f"upstream {text!r} begins with no registry host")
    public = reference.host == DEFAULT_HOST and not prefix
    return Home(reference.host, prefix, DEFAULT_NAMESPACE if public else "")


@dataclass(slots=True)
class _Open:
    repository: RegistryRepository
    users: int = 0
    dropped: bool = False


class Upstream:
    """Another registry. Thread-safe; close it."""

    def __init__(self, home: Home, settings: Settings) -> None:
        self.home = home
        self._settings = replace(settings, retry=_RETRY)
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._lock = threading.Lock()

    def close(self) -> None:
        """End all exchanges and close all connections."""
        with self._lock:
            opened, self._open = list(self._open.values()), OrderedDict()
        for item in opened:
            item.repository.interrupt()
            item.repository.close()

    @contextmanager
    def repository(self, name: str) -> Iterator[RegistryRepository]:
        """The repository behind one of ours, for the time of the block."""
        item = self._take(name)
        try:
            yield item.repository
        finally:
            with self._lock:
                item.users -= 1
                unused = item.dropped and not item.users
            if unused:
                item.repository.close()

    def blob_size(self, name: str, digest: Digest) -> int:
        """Bytes of a blob.

        Raises:
            BlobNotFound: where it is not there.
            TransferError: where the registry cannot be asked, or does not tell.
        """
        with self.repository(name) as repository:
            try:
                with repository.wire.ask(
                    "HEAD",
                    repository.url_of(Descriptor("", digest, 0)),
                    scopes=repository.scopes("GET"),
                    ok=(200,),
                    what=f"look for {digest} in {repository.place}",
                ) as reply:
                    length = reply.headers.get("Content-Length", "")
            except RegistryError as error:
                if error.status == 404:
                    raise BlobNotFound(str(digest), place=repository.place) from error
                raise
        if not length.isdigit() or len(length) > 15:
            raise NetworkError(f"{self.home.host} does not tell the size of {digest}")
        return int(length)

    def pass_over(self, name: str, descriptor: Descriptor, error: PannierError) -> None:
        """Let the next try read a blob that came wrong from elsewhere, if there are mirrors."""
        with self.repository(name) as repository:
            if isinstance(repository, Mirrored):
                repository.pass_over(descriptor, error)

    def repositories(self) -> list[str]:
        """What the registry lists, as names of ours."""
        with self.repository("x") as repository:
            found = repository.list_repositories()
        names = {self.home.repository(Reference(self.home.host, item, None)) for item in found}
        return sorted(name for name in names if name is not None)

    def referrers(self, name: str, subject: Digest) -> tuple[Descriptor, ...]:
        """What the registry's referrers API lists; nothing where it has none."""
        with self.repository(name) as repository:
            return repository.referrers(subject) or ()

    def _take(self, name: str) -> _Open:
        reference = self.home.reference(name)
        with self._lock:
            item = self._open.pop(name, None) or _Open(
                open_registry(reference, settings=self._settings)
            )
            self._open[name] = item
            item.users += 1
            while len(self._open) > _MAX_OPEN:
                _, oldest = self._open.popitem(last=False)
                oldest.dropped = True
                if not oldest.users:
                    oldest.repository.close()
            return item


def is_down(error: TransferError) -> bool:
    """Whether the registry is out of reach, so that what the cache has is the best answer."""
    return isinstance(error, NetworkError) or (isinstance(error, RegistryError) and error.temporary)
