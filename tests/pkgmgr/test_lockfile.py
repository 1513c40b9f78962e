from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.bundles import NAME, OTHER, exported, model, store_with
from support.registry import docker_registry

from pannier.pkgmgr import locking, operations
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import InvalidLock, LockMismatch, ModelNotFound, NotFound
from pannier.pkgmgr.lockfile import Lock, Pin
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.settings import Settings
from pannier.pkgmgr.store.store import Store

ONE, TWO = Reference.parse(NAME), Reference.parse(OTHER)
PIN = Pin(ONE, Digest.of(b"1"), "modelpack", 7, ("apache-2.0",))


def settings(tmp_path: Path) -> Settings:
    return Settings.load({"PANNIER_HOME": str(tmp_path / "home")})


@given(st.lists(st.text(max_size=40), max_size=3), st.text(max_size=40), st.integers(0, 2**42))
def test_a_lock_is_read_back_as_it_was_written(
    licenses: list[str], dialect: str, size: int
) -> None:
    pin = Pin(ONE, Digest.of(b"1"), dialect, size, tuple(licenses))
    lock = Lock.of([pin, Pin(TWO, Digest.of(b"2"), "ollama", 0)])
    assert Lock.parse(str(lock)) == lock


def test_pins_are_sorted_and_the_last_of_a_name_counts() -> None:
    other = Pin(Reference.parse("a.example/b:1"), Digest.of(b"2"), "ollama", 1)
    newer = Pin(ONE, Digest.of(b"3"), "modelpack", 8)
    lock = Lock.of([PIN, other]).with_pins([newer])
    assert lock.pins == (other, newer)
    assert lock.find(ONE) == newer
    with pytest.raises(ModelNotFound):
        lock.find(TWO)


TABLE = str(Lock.of([PIN])).partition("\n\n")[2]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "version = 2",
        "version = true",
        "version = 1\nextra = 1",
        "version = 1\nmodel = 5",
        "version = 1\nmodel = [1]",
        "version = 1\n[[model]]",
        "version = 1\n" + TABLE + "extra = 1",
        "version = 1\n" + TABLE + "\n" + TABLE,
        "version = 1\n" + TABLE.replace("sha256:", "md5:"),
        "version = 1\n" + TABLE.replace("size = 7", "size = -7"),
        "version = 1\n" + TABLE.replace("size = 7", "size = 7.5"),
        "version = 1\n" + TABLE.replace("size = 7", "size = true"),
        "version = 1\n" + TABLE.replace("size = 7", f"size = {2**70}"),
        "version = 1\n" + TABLE.replace(":1", ""),
        "version = 1\n" + TABLE.replace("registry.corp/team", "../.."),
        "version = 1\n" + TABLE.replace("registry.corp/", ""),
        "version = 1\n" + TABLE.replace('["apache-2.0"]', '"apache-2.0"'),
        "version = 1\n" + TABLE.replace('["apache-2.0"]', "[1]"),
        "version = 1\n" + TABLE.replace("modelpack", "x" * 5000),
        "version = 1\nx = " + "[" * 5000,
        "\x00",
    ],
)
def test_a_lock_that_is_not_understood_is_void(text: str) -> None:
    with pytest.raises(InvalidLock):
        Lock.parse(text)


@given(st.text(max_size=200))
def test_any_text_is_refused_as_a_lock(text: str) -> None:
    with pytest.raises(InvalidLock):
        Lock.parse("version = 1\n[[model]]\n" + text)


def test_a_store_that_fits_passes_and_any_other_fails(tmp_path: Path) -> None:
    store = store_with(tmp_path / "s", {NAME: model(1), OTHER: model(2)})
    lock = Lock.of([locking.pin(store, ONE), locking.pin(store, TWO)])
    locking.require(store, lock)
    with pytest.raises(LockMismatch, match="is absent"):
        locking.require(Store.open(tmp_path / "empty"), lock)
    store.tag(store.find(TWO).descriptor, ONE)
    with pytest.raises(LockMismatch, match="pins sha256"):
        locking.require(store, lock)


def test_a_model_that_lost_a_blob_does_not_fit(tmp_path: Path) -> None:
    store = store_with(tmp_path / "s", {NAME: model(1)})
    lock = Lock.of([locking.pin(store, ONE)])
    store.path(store.manifest(store.find(ONE).descriptor.digest).children[-1].digest).unlink()
    with pytest.raises(LockMismatch, match="without its sha256"):
        locking.require(store, lock)


def test_a_lock_file_is_written_whole_and_its_absence_is_said(tmp_path: Path) -> None:
    path = tmp_path / "pannier.lock"
    with pytest.raises(NotFound):
        locking.read_lock(path)
    locking.write_lock(path, Lock.of([PIN]))
    assert locking.read_lock(path) == Lock.of([PIN])
    path.write_bytes(b"\xff")
    for bad in (path, tmp_path, Path("/dev/zero")):
        with pytest.raises(InvalidLock):
            locking.read_lock(bad)


def test_sync_takes_pinned_models_from_a_bundle(tmp_path: Path) -> None:
    source = store_with(tmp_path / "s", {NAME: model(1), OTHER: model(2)})
    lock = Lock.of([locking.pin(source, ONE)])
    bundle = tmp_path / "b.tar"
    bundle.write_bytes(exported(source, NAME, OTHER))
    target = Store.open(tmp_path / "t")
    brought = locking.sync(target, lock, bundles=[bundle], settings=settings(tmp_path))
    assert [pin.reference for pin in brought] == [ONE]
    assert [entry.reference for entry in target.entries()] == [ONE]
    locking.require(target, lock)


def test_sync_refuses_another_digest_under_a_pinned_name(tmp_path: Path) -> None:
    source = store_with(tmp_path / "s", {NAME: model(1)})
    bundle = tmp_path / "b.tar"
    bundle.write_bytes(exported(source, NAME))
    target = Store.open(tmp_path / "t")
    with pytest.raises(LockMismatch):
        locking.sync(target, Lock.of([PIN]), bundles=[bundle], settings=settings(tmp_path))
    assert target.entries() == ()


@pytest.mark.registry
def test_sync_outdated_and_update_against_a_registry(tmp_path: Path) -> None:
    with docker_registry(tmp_path / "registry") as registry:
        name = Reference.parse(f"{registry.host}/team/m:1")
        source = store_with(tmp_path / "s", {str(name): model(1)})
        operations.push(source, name, settings=settings(tmp_path))
        lock = Lock.of([locking.pin(source, name)])
        first = lock.pins[0].digest
        model(2).push_to(source, str(name))
        operations.push(source, name, settings=settings(tmp_path))
        target = Store.open(tmp_path / "t")
        locking.sync(target, lock, settings=settings(tmp_path))
        assert target.find(name).descriptor.digest == first
        (standing,) = locking.outdated(lock, settings=settings(tmp_path))
        assert standing.state is locking.State.CHANGED
        new = locking.update(target, lock, [name], settings=settings(tmp_path))
        assert new.pins[0].digest == source.find(name).descriptor.digest
        locking.require(target, new)
