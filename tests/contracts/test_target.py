"""What every target promises, asked of each implementation."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from support.artifacts import describe, make_artifact, make_index
from support.registry import PROGRAM, docker_registry

from pannier.pkgmgr.descriptor import Descriptor
from pannier.pkgmgr.errors import BlobNotFound, IntegrityError, ModelNotFound, RegistryError
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.settings import Settings
from pannier.pkgmgr.store.store import Store
from pannier.pkgmgr.transfer.content import Source, Target
from pannier.pkgmgr.transfer.copy import copy
from pannier.pkgmgr.transfer.layout import LayoutDirectory
from pannier.pkgmgr.transfer.open import open_registry

Opener = Callable[[Path], AbstractContextManager[tuple[Target, str]]]


@contextmanager
def store_target(root: Path) -> Iterator[tuple[Target, str]]:
    yield Store.open(root / "store"), "localhost:5000/team/demo"


@contextmanager
def layout_target(root: Path) -> Iterator[tuple[Target, str]]:
    yield LayoutDirectory.open(root / "layout", create=True), "localhost/layout"


@contextmanager
def registry_target(root: Path) -> Iterator[tuple[Target, str]]:
    settings = Settings.load({"PANNIER_HOME": str(root / "home"), "HOME": str(root)})
    with docker_registry(root / "registry") as registry:
        name = f"{registry.host}/team/demo"
        with open_registry(Reference.parse(name), settings=settings) as repository:
            yield repository, name


TARGETS = [
    pytest.param(store_target, id="store"),
    pytest.param(layout_target, id="layout"),
    pytest.param(registry_target, id="docker-registry", marks=pytest.mark.registry),
]


@pytest.fixture(params=TARGETS)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Target, str]]:
    opener: Opener = request.param
    if opener is registry_target and PROGRAM is None:
        pytest.skip("docker-registry is not installed")
    with opener(tmp_path) as target:
        yield target


def read(source: Source, descriptor: Descriptor, offset: int = 0) -> bytes:
    with source.fetch(descriptor, offset=offset) as content:
        return b"".join(iter(lambda: content.read(1 << 16), b""))


def test_it_is_a_target(opened: tuple[Target, str]) -> None:
    target, _ = opened
    assert isinstance(target, Target)
    assert target.place


def test_what_was_pushed_can_be_fetched(opened: tuple[Target, str]) -> None:
    target, _ = opened
    data = os.urandom(300_000)
    assert not target.exists(describe(data))
    target.push(describe(data), io.BytesIO(data))
    assert target.exists(describe(data))
    assert read(target, describe(data)) == data
    assert read(target, describe(data), 299_990) == data[-10:]


def test_pushing_again_changes_nothing(opened: tuple[Target, str]) -> None:
    target, _ = opened
    target.push(describe(b"data"), io.BytesIO(b"data"))
    target.push(describe(b"data"), io.BytesIO(b"data"))
    assert read(target, describe(b"data")) == b"data"


def test_an_empty_blob_is_a_blob(opened: tuple[Target, str]) -> None:
    target, _ = opened
    target.push(describe(b""), io.BytesIO(b""))
    assert target.exists(describe(b""))
    assert read(target, describe(b"")) == b""


@pytest.mark.parametrize("data", [b"wrong", b"shor", b"longer"], ids=["other", "short", "long"])
def test_wrong_bytes_are_refused(opened: tuple[Target, str], data: bytes) -> None:
    target, _ = opened
    with pytest.raises((IntegrityError, RegistryError)):
        target.push(describe(b"right"), io.BytesIO(data))
    assert not target.exists(describe(b"right"))


def test_what_is_absent_is_said_to_be(opened: tuple[Target, str]) -> None:
    target, name = opened
    with pytest.raises(BlobNotFound):
        read(target, describe(b"absent"))
    with pytest.raises(ModelNotFound):
        target.resolve(Reference.parse(f"{name}:absent"))


def test_a_tag_names_a_manifest(opened: tuple[Target, str]) -> None:
    target, name = opened
    first, second = make_artifact(b"1"), make_artifact(b"2")
    for artifact in (first, second):
        artifact.push_to(target, f"{name}:v1")
        found = target.resolve(Reference.parse(f"{name}:v1"))
        assert (found.digest, found.size) == (artifact.descriptor.digest, len(artifact.raw))
        assert found.media_type == artifact.descriptor.media_type
        assert read(target, found) == artifact.raw


def test_a_manifest_is_found_by_digest(opened: tuple[Target, str]) -> None:
    target, name = opened
    artifact = make_artifact(b"1")
    artifact.push_to(target, f"{name}:v1")
    pinned = Reference.parse(f"{name}@{artifact.descriptor.digest}")
    assert target.resolve(pinned).digest == artifact.descriptor.digest


def test_a_manifest_whose_blob_is_missing_gets_no_name(opened: tuple[Target, str]) -> None:
    target, name = opened
    artifact = make_artifact(b"never pushed")
    with pytest.raises(BlobNotFound):
        push_without_blobs(target, artifact.descriptor, artifact.raw, f"{name}:broken")
    with pytest.raises(ModelNotFound):
        target.resolve(Reference.parse(f"{name}:broken"))


def push_without_blobs(target: Target, descriptor: Descriptor, raw: bytes, name: str) -> None:
    target.push(descriptor, io.BytesIO(raw))
    target.tag(descriptor, Reference.parse(name))


def test_a_whole_index_is_copied_there_and_back(opened: tuple[Target, str], tmp_path: Path) -> None:
    target, name = opened
    source, other = Store.open(tmp_path / "source"), Store.open(tmp_path / "other")
    one, two = make_artifact(b"shared", b"one"), make_artifact(b"shared", b"two")
    descriptor, raw = make_index(one, two)
    one.push_to(source)
    two.push_to(source)
    source.push(descriptor, io.BytesIO(raw))
    copy(source, target, descriptor)
    target.tag(descriptor, Reference.parse(f"{name}:all"))
    found = target.resolve(Reference.parse(f"{name}:all"))
    copy(target, other, found)
    other.tag(found, Reference.parse(f"{name}:all"))
    assert other.manifest(descriptor.digest).raw == raw
