"""Lock files where models come through a mirror: a real registry beside an origin that is away."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
from support.artifacts import Artifact, make_artifact, make_index
from support.bundles import model, store_with
from support.registry import DockerRegistry, docker_registry, free_port
from support.transfers import QUICK, SHORT, settings_in

from pannier.pkgmgr import attachments, locking, operations
from pannier.pkgmgr.bundle.blocks import index_model
from pannier.pkgmgr.errors import LockMismatch, NetworkError, Untrusted
from pannier.pkgmgr.lockfile import Lock
from pannier.pkgmgr.mediatypes import BLOCK_INDEX
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.settings import RegistrySettings, Settings
from pannier.pkgmgr.store.store import Store
from pannier.pkgmgr.trust.keys import SigningKey
from pannier.pkgmgr.trust.signing import sign
from pannier.pkgmgr.upkeep.repair import repair
from pannier.pkgmgr.upkeep.verify import verify

pytestmark = pytest.mark.registry
KEY = SigningKey.generate()
POLICY = 'version = 1\ndefault = "enforce"\n[keys]\nteam = "team.pub"\n'


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path_factory.mktemp("mirror")) as running:
        yield running


@pytest.fixture
def origin() -> str:
    """A host where nobody listens."""
    return f"127.0.0.1:{free_port()}"


@pytest.fixture
def name(origin: str, tmp_path: Path) -> Reference:
    """A model's name, of its own for each test, since all share the mirror."""
    return Reference.parse(f"{origin}/{tmp_path.name.lower().strip('_')}/m:1")


@pytest.fixture
def source(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "source")


@pytest.fixture
def target(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "target")


@pytest.fixture
def settings(tmp_path: Path, origin: str, mirror: DockerRegistry) -> Settings:
    behind = RegistrySettings(mirrors=(mirror.host,))
    said = settings_in(tmp_path)
    registries = MappingProxyType({origin: behind})
    return replace(said, registries=registries, retry=QUICK, timeouts=SHORT)


def publish(store: Store, name: Reference, artifact: Artifact, mirror: DockerRegistry) -> None:
    """Put a model into a store under its name, and on the mirror."""
    artifact.push_to(store, str(name))
    fill(store, name, mirror)


def fill(store: Store, name: Reference, mirror: DockerRegistry) -> None:
    """Copy a model and what hangs on it to the mirror, as whoever runs a mirror does."""
    there = replace(name, host=mirror.host)
    operations.push(store, name, there, settings=settings_in(store.root.parent))


def test_sync_brings_what_is_pinned_from_the_mirror(
    name: Reference, source: Store, target: Store, mirror: DockerRegistry, settings: Settings
) -> None:
    publish(source, name, model(1), mirror)
    lock = Lock.of([locking.pin(source, name)])
    publish(source, name, model(2), mirror)
    (brought,) = locking.sync(target, lock, settings=settings)
    assert brought == lock.pins[0]
    assert target.find(name).descriptor.digest == lock.pins[0].digest
    locking.require(target, lock)


def test_outdated_and_update_see_what_the_mirror_has(
    name: Reference, source: Store, target: Store, mirror: DockerRegistry, settings: Settings
) -> None:
    publish(source, name, model(1), mirror)
    lock = Lock.of([locking.pin(source, name)])
    (same,) = locking.outdated(lock, settings=settings)
    assert same.state is locking.State.SAME
    publish(source, name, model(2), mirror)
    newest = source.find(name).descriptor.digest
    (changed,) = locking.outdated(lock, settings=settings)
    assert (changed.state, changed.digest) == (locking.State.CHANGED, newest)
    new = locking.update(target, lock, [name], settings=settings)
    assert new.pins[0].digest == newest
    locking.require(target, new)


def test_a_mirror_with_another_digest_cannot_stand_in(
    name: Reference, source: Store, target: Store, mirror: DockerRegistry, settings: Settings
) -> None:
    model(1).push_to(source, str(name))
    lock = Lock.of([locking.pin(source, name)])
    publish(source, name, model(2), mirror)
    with pytest.raises(NetworkError, match="refused"):
        locking.sync(target, lock, settings=settings)
    assert target.entries() == ()
    operations.pull(target, name, settings=settings)
    with pytest.raises(LockMismatch, match=f"pins {lock.pins[0].digest}"):
        locking.require(target, lock)


def test_a_model_that_no_mirror_has_needs_its_registry(
    name: Reference, source: Store, settings: Settings
) -> None:
    model(1).push_to(source, str(name))
    lock = Lock.of([locking.pin(source, name)])
    with pytest.raises(NetworkError):
        locking.outdated(lock, settings=settings)


def test_the_origin_is_asked_for_what_the_mirror_lacks(
    tmp_path: Path, source: Store, target: Store, mirror: DockerRegistry, settings: Settings
) -> None:
    with docker_registry(tmp_path / "origin") as origin:
        name = Reference.parse(f"{origin.host}/{tmp_path.name.lower()}/m:1")
        behind = MappingProxyType({origin.host: RegistrySettings(mirrors=(mirror.host,))})
        both = replace(settings, registries=behind)
        model(1).push_to(source, str(name))
        lock = Lock.of([locking.pin(source, name)])
        operations.push(source, name, settings=both)
        publish(source, name, model(2), mirror)
        locking.sync(target, lock, settings=both)
        assert target.find(name).descriptor.digest == lock.pins[0].digest


def test_a_signed_model_passes_the_policy_through_the_mirror(
    name: Reference, source: Store, target: Store, mirror: DockerRegistry, settings: Settings
) -> None:
    publish(source, name, model(1), mirror)
    lock = Lock.of([locking.pin(source, name)])
    (target.root / "team.pub").write_bytes(KEY.public.pem)
    (target.root / "policy.toml").write_text(POLICY)
    with pytest.raises(Untrusted, match="not signed by team"):
        locking.sync(target, lock, settings=settings)
    sign(source, name, KEY, now=lambda: 0)
    fill(source, name, mirror)
    locking.sync(target, lock, settings=settings)
    assert len(attachments.in_store(target, lock.pins[0].digest)) == 2


def test_a_store_that_holds_other_models_still_takes_all_from_the_mirror(
    name: Reference, source: Store, tmp_path: Path, mirror: DockerRegistry, settings: Settings
) -> None:
    target = store_with(tmp_path / "full", {"registry.corp/team/old:1": model(3, size=1_500_000)})
    publish(source, name, model(1, size=1_500_000), mirror)
    lock = Lock.of([locking.pin(source, name)])
    locking.sync(target, lock, settings=settings)
    index_model(source, name)
    fill(source, name, mirror)
    operations.pull(target, name, settings=settings)
    (found,) = attachments.in_store(target, lock.pins[0].digest)
    assert found.kind == BLOCK_INDEX


def test_damage_is_mended_from_the_mirror(
    name: Reference, source: Store, target: Store, mirror: DockerRegistry, settings: Settings
) -> None:
    publish(source, name, model(1), mirror)
    operations.pull(target, name, settings=settings)
    manifest = target.manifest(target.find(name).descriptor.digest)
    target.path(max(manifest.children, key=lambda part: part.size).digest).unlink()
    (mended,) = repair(target, verify(target).faults, settings=settings)
    assert mended.place is not None
    assert verify(target).faults == ()


def test_a_pinned_member_of_an_index_is_up_to_date(
    name: Reference, source: Store, mirror: DockerRegistry, settings: Settings
) -> None:
    small, large = make_artifact(b"small"), make_artifact(b"large")
    small.push_to(source, str(name))
    lock = Lock.of([locking.pin(source, name)])
    large.push_to(source)
    descriptor, raw = make_index(small, large)
    source.push(descriptor, io.BytesIO(raw))
    source.tag(descriptor, name)
    fill(source, name, mirror)
    (standing,) = locking.outdated(lock, settings=settings)
    assert standing.state is locking.State.SAME
