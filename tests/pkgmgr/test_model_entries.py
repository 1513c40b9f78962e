"""Which names of a store are models for people, where an index brought its members along."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from support.artifacts import Artifact, make_artifact, make_index

from pannier.pkgmgr import operations
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.store.store import Store
from pannier.pkgmgr.upkeep.usage import usage

NAME = Reference.parse("registry.corp/team/m:1")
OTHER = Reference.parse("registry.corp/team/other:1")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def push_index(store: Store, name: Reference, *artifacts: Artifact) -> None:
    """As registry clients do: the members by digest, then the index by its tag."""
    for artifact in artifacts:
        member = name.with_tag(None).with_digest(artifact.descriptor.digest)
        artifact.push_to(store, str(member))
    descriptor, raw = make_index(*artifacts)
    store.push(descriptor, io.BytesIO(raw))
    store.tag(descriptor, name)


def listed(store: Store) -> set[Reference]:
    return {model.reference for model in operations.list_models(store)}


def test_members_of_an_index_are_not_listed_beside_it(store: Store) -> None:
    push_index(store, NAME, make_artifact(b"small"), make_artifact(b"large"))
    assert len(store.entries()) == 3
    assert listed(store) == {NAME}
    (model,) = usage(store).models
    assert model.own == model.size


def test_a_model_that_has_only_a_digest_is_listed(store: Store) -> None:
    artifact = make_artifact(b"x")
    alone = NAME.with_tag(None).with_digest(artifact.descriptor.digest)
    artifact.push_to(store, str(alone))
    make_artifact(b"y").push_to(store, str(OTHER))
    assert listed(store) == {alone, OTHER}


def test_a_model_of_another_repository_stays_by_its_digest(store: Store) -> None:
    member = make_artifact(b"x")
    push_index(store, NAME, member)
    alone = OTHER.with_tag(None).with_digest(member.descriptor.digest)
    member.push_to(store, str(alone))
    assert listed(store) == {NAME, alone}
    operations.remove(store, [NAME])
    assert listed(store) == {alone}
    assert store.exists(member.descriptor)


def test_a_member_with_a_tag_of_its_own_is_listed(store: Store) -> None:
    tagged = make_artifact(b"small")
    push_index(store, NAME, tagged, make_artifact(b"large"))
    tagged.push_to(store, str(OTHER))
    assert listed(store) == {NAME, OTHER}


def test_members_go_with_the_last_index_that_names_them(store: Store) -> None:
    both, only = make_artifact(b"both"), make_artifact(b"only")
    push_index(store, NAME, both, only)
    push_index(store, NAME.with_tag("2"), both)
    operations.remove(store, [NAME])
    assert store.exists(both.descriptor)
    assert not store.exists(only.descriptor)
    operations.remove(store, [NAME.with_tag("2")])
    assert store.entries() == ()
    assert not store.exists(both.descriptor)
