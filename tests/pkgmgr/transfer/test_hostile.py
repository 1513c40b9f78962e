"""A hostile registry must not hurt: the right error, nothing wrong stored, bounded cost."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest
from support.falseregistry import Server, scripted
from support.hostile import BEHAVIOURS, DEMO, Behaviour, table
from support.transfers import open_quick, pull

from pannier.pkgmgr.cli.exits import exit_code
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import (
    IntegrityError,
    ManifestError,
    NotFound,
    PannierError,
    TransferError,
)
from pannier.pkgmgr.store.store import Store
from pannier.pkgmgr.transfer.copy import copy

MOST_S = 12.0
MOST_GROWTH = 100 << 20
CODES = {NotFound: 3, IntegrityError: 4, ManifestError: 4, TransferError: 5}


def act(case: Behaviour, server: Server, store: Store, root: Path) -> None:
    name = f"{server.host}/team/demo:1"
    if case.act == "pull":
        pull(name, store)
        return
    with open_quick(name, root) as repository:
        if case.act == "push":
            server.script.blobs.clear()
            copy(store, repository, DEMO.descriptor)
        elif case.act == "tags":
            assert all(tag.isprintable() for tag in repository.list_tags())
        else:
            repository.list_repositories()


@pytest.mark.parametrize("case", BEHAVIOURS, ids=lambda case: f"{case.kind}: {case.name}")
def test_a_hostile_registry_does_no_harm(case: Behaviour, store: Store, tmp_path: Path) -> None:
    if case.act == "push":
        DEMO.push_to(store)
    memory, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    error: PannierError | None = None
    with scripted(DEMO, hook=case.make()) as server:
        try:
            act(case, server, store, tmp_path)
        except PannierError as caught:
            error = caught
    assert time.monotonic() - begun < MOST_S
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    assert growth * 1024 < MOST_GROWTH
    check_outcome(case, error)
    check_store(case, store, well=error is None)


def check_outcome(case: Behaviour, error: PannierError | None) -> None:
    if case.outcome is None:
        assert error is None, repr(error)
        return
    assert isinstance(error, case.outcome), repr(error)
    assert error.message.isprintable()
    assert len(error.message) < 500
    expected = next(code for kind, code in CODES.items() if issubclass(type(error), kind))
    assert exit_code(error) == expected


def check_store(case: Behaviour, store: Store, *, well: bool) -> None:
    for path in (store.root / "blobs" / "sha256").iterdir():
        assert Digest.of(path.read_bytes()).hex == path.name
    if case.act == "pull":
        assert len(store.entries()) == (1 if well else 0)


def test_there_are_enough_behaviours() -> None:
    assert len(BEHAVIOURS) >= 100
    assert len({case.name for case in BEHAVIOURS}) == len(BEHAVIOURS)


def test_the_documentation_holds_this_table() -> None:
    page = Path(__file__).parents[3] / "docs" / "transfer.md"
    assert table() in page.read_text()
