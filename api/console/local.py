"""Who answers `pannier run`: the server that the environment names, or this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pannier.pkgmgr.cli.output import Output
from pannier.pkgmgr.descriptor import Descriptor
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import InvalidDigest
from pannier.pkgmgr.transfer.events import Advanced, Finished, OnEvent, Planned, Started

from ..address import configured_address
from ..client import Client, HTTPClient, LocalClient


@contextmanager
def connect() -> Iterator[Client]:
    """A client of the configured server, else of one inside this process that ends with it."""
    address = configured_address(os.environ)
    if address is not None:
        yield HTTPClient(address)
        return
    from pannier.pkgmgr.cli.names import load_settings
    from pannier.pkgmgr.store.store import Store

    from ..app import create_app
    from ..environment import open_runtime
    from ..service import Service

    settings = load_settings()
    with open_runtime(os.environ) as runtime:
        store, told = Store.open(settings.home), Output().note_event
        yield LocalClient(create_app(Service(store, settings, runtime, on_event=told)))


def pull(client: Client, name: str, output: Output, *, insecure: bool = False) -> None:
    """Have a model that is not there: here by the store's own means, else by asking the server.

    `insecure` means plain HTTP, as in Ollama.

    Raises:
        PannierError: as `pannier pull` does.
    """
    with output.progress(f"pulling {name}") as on_event:
        if isinstance(client, LocalClient):
            _pull_here(name, on_event, insecure=insecure)
            return
        seen: dict[str, int] = {}
        for line in client.stream("/api/pull", {"model": name, "insecure": insecure}):
            _relay(line, seen, on_event)


def _pull_here(name: str, on_event: OnEvent, *, insecure: bool) -> None:
    from pannier.pkgmgr import operations
    from pannier.pkgmgr.cli.names import settings_for
    from pannier.pkgmgr.store.store import Store

    settings = settings_for(plain_http=insecure, insecure=False)
    operations.pull(
        Store.open(settings.home), settings.parse(name), settings=settings, on_event=on_event
    )


def _relay(line: dict[str, Any], seen: dict[str, int], on_event: OnEvent) -> None:
    """Turn a line of the server's progress into the events that it was made of."""
    try:
        digest = Digest.parse(str(line.get("digest")))
    except InvalidDigest:
        return
    descriptor = Descriptor("", digest, int(line.get("total", 0)))
    done = int(line.get("completed", 0))
    if str(digest) not in seen:
        on_event(Planned((descriptor,)))
        on_event(Started(descriptor, resumed=done))
    else:
        on_event(Advanced(descriptor, done - seen[str(digest)]))
    seen[str(digest)] = done
    if done >= descriptor.size:
        on_event(Finished(descriptor))
