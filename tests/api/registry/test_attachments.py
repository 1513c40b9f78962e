"""Signatures, block indexes and the policy between a client and the built-in registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.bundles import model, store_with
from support.node import Client, serving

from pannier.pkgmgr import attachments, operations
from pannier.pkgmgr.bundle import blocks
from pannier.pkgmgr.errors import Untrusted
from pannier.pkgmgr.mediatypes import BLOCK_INDEX
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.settings import Settings
from pannier.pkgmgr.store.store import Store
from pannier.pkgmgr.transfer.open import open_registry
from pannier.pkgmgr.trust.keys import SigningKey
from pannier.pkgmgr.trust.signing import sign

KEY = SigningKey.generate()
POLICY = 'version = 1\ndefault = "enforce"\n[keys]\nteam = "team.pub"\n'


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Client]:
    with serving(Store.open(tmp_path / "node")) as client:
        yield client


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.load({"PANNIER_HOME": str(tmp_path / "home")})


def test_signatures_and_indexes_go_through_a_node(
    tmp_path: Path, node: Client, settings: Settings
) -> None:
    name = Reference.parse(f"{node.netloc}/team/m:1")
    source = store_with(tmp_path / "s", {str(name): model(1, size=1_500_000)})
    sign(source, name, KEY, now=lambda: 0)
    blocks.index_model(source, name)
    operations.push(source, name, settings=settings)
    target = Store.open(tmp_path / "t")
    (target.root / "team.pub").write_bytes(KEY.public.pem)
    (target.root / "policy.toml").write_text(POLICY)
    operations.pull(target, name, settings=settings)
    digest = target.find(name).descriptor.digest
    kinds = [item.kind for item in attachments.in_store(target, digest)]
    assert len(kinds) == 3
    assert BLOCK_INDEX in kinds
    assert node.ask("GET", f"/v2/team/m/referrers/{digest}").json["manifests"]


def test_an_unsigned_model_is_not_pulled_from_a_node(
    tmp_path: Path, node: Client, settings: Settings
) -> None:
    name = Reference.parse(f"{node.netloc}/team/m:1")
    source = store_with(tmp_path / "s", {str(name): model(1)})
    operations.push(source, name, settings=settings)
    target = Store.open(tmp_path / "t")
    (target.root / "policy.toml").write_text('version = 1\ndefault = "enforce"\n')
    with pytest.raises(Untrusted):
        operations.pull(target, name, settings=settings)
    assert target.entries() == ()


def test_what_hangs_on_a_stored_model_is_listed_by_the_referrers_api(
    tmp_path: Path, settings: Settings
) -> None:
    name = Reference.parse("team/m:1")
    store = store_with(tmp_path / "s", {str(name): model(3)})
    sign(store, name, KEY, now=lambda: 0)
    digest = store.find(name).descriptor.digest
    with serving(store) as client:
        remote = Reference.parse(f"{client.netloc}/team/m:1")
        with open_registry(remote, settings=settings) as registry:
            listed = registry.referrers(digest)
            found = attachments.in_source(registry, remote, digest)
    assert listed is not None
    assert len(listed) == 1
    assert len(found) == 2
