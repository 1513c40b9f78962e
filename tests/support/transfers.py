"""Pulls and pushes of tests: quick retries, short timeouts, a store of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pannier.pkgmgr.descriptor import Descriptor
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.settings import Settings
from pannier.pkgmgr.store.store import Store
from pannier.pkgmgr.transfer.copy import copy
from pannier.pkgmgr.transfer.credentials import Credential
from pannier.pkgmgr.transfer.events import Event, OnEvent, ignore
from pannier.pkgmgr.transfer.open import open_registry
from pannier.pkgmgr.transfer.registry import RegistryRepository
from pannier.pkgmgr.transfer.retry import RetryPolicy
from pannier.pkgmgr.transfer.timeouts import Timeouts

QUICK = RetryPolicy(attempts=3, first_wait_s=0.01, max_wait_s=0.02)
SHORT = Timeouts(connect_s=2, idle_s=0.6, commit_s=2, min_speed=20_000, speed_window_s=0.5)


def settings_in(root: Path) -> Settings:
    """Settings that look at nothing of this machine."""
    return Settings.load({"PANNIER_HOME": str(root / "home"), "HOME": str(root)})


def open_quick(
    name: str, root: Path, *, credential: Credential | None = None, settings: Settings | None = None
) -> RegistryRepository:
    """A repository that gives up soon."""
    return open_registry(
        Reference.parse(name),
        settings=replace(settings or settings_in(root), retry=QUICK, timeouts=SHORT),
        credential=credential,
    )


def pull(
    name: str,
    store: Store,
    *,
    credential: Credential | None = None,
    settings: Settings | None = None,
    on_event: OnEvent = ignore,
) -> Descriptor:
    """Pull as `pannier pull` does."""
    reference = Reference.parse(name)
    with open_quick(name, store.root, credential=credential, settings=settings) as repository:
        root = repository.resolve(reference)
        copy(repository, store, root, on_event=on_event)
    store.tag(root, reference)
    return root


class Log:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[Event]) -> list[Event]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]
