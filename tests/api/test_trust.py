from __future__ import annotations

from pathlib import Path

import pytest
from support import gguf
from support.transfers import Log

from pannier.api.errors import failure_of
from pannier.api.library import Library
from pannier.pkgmgr import operations
from pannier.pkgmgr.errors import Untrusted
from pannier.pkgmgr.modelfile.build import create
from pannier.pkgmgr.modelfile.syntax import parse
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.settings import Settings
from pannier.pkgmgr.store.store import Store
from pannier.pkgmgr.transfer.events import Noticed
from pannier.pkgmgr.trust.keys import SigningKey
from pannier.pkgmgr.trust.signing import sign

NAME = Reference.parse("reviewer")
KEY = SigningKey.generate()


@pytest.fixture
def library(tmp_path: Path) -> Library:
    store = Store.open(tmp_path / "store")
    gguf.tiny_llama(tmp_path / "m.gguf")
    create(store, parse("FROM ./m.gguf"), NAME, base_dir=tmp_path)
    return Library(store, Settings.load({"PANNIER_HOME": str(store.root)}))


def test_a_model_that_the_policy_refuses_is_not_loaded(library: Library) -> None:
    root = library.store.root
    (root / "team.pub").write_bytes(KEY.public.pem)
    library.find("reviewer")
    (root / "policy.toml").write_text('version=1\ndefault="enforce"\nkeys={team="team.pub"}\n')
    with pytest.raises(Untrusted) as caught:
        library.find("reviewer")
    assert failure_of(caught.value).status == 403
    sign(library.store, NAME, KEY, now=lambda: 0)
    library.find("reviewer")


def test_what_the_policy_warns_of_is_told_once(library: Library) -> None:
    root, told = library.store.root, Log()
    (root / "team.pub").write_bytes(KEY.public.pem)
    (root / "policy.toml").write_text('version=1\ndefault="warn"\nkeys={team="team.pub"}\n')
    warned = Library(library.store, library.settings, on_event=told)
    for _ in range(2):
        warned.find("reviewer")
    (event,) = told.of(Noticed)
    assert "not signed by team" in str(event)


def test_signatures_are_not_listed_as_models(library: Library) -> None:
    sign(library.store, NAME, KEY, now=lambda: 0)
    assert [card.reference for card in library.cards()] == [NAME]
    assert len(operations.list_models(library.store)) == 1
