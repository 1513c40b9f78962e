"""Hostile bundles: each is refused with an error of ours, and only true blobs are written."""

from __future__ import annotations

import hashlib
import io
import resource
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.artifacts import make_artifact
from support.bundles import NAME, exported, store_with, unpacked
from support.hostile_tars import hostile_tars

from pannier.pkgmgr.bundle.load import Loaded, load
from pannier.pkgmgr.bundle.stream import load_stream
from pannier.pkgmgr.errors import PannierError
from pannier.pkgmgr.store.store import Store

MAX_SECONDS = 5.0
# These hold every blob: the model comes in, and the command fails all the same.
ALL_BUT_THE_END = ("an end of", "cut at 4")


def good_members(tmp_path: Path) -> list[tuple[str, bytes]]:
    artifact = make_artifact(b"params", b"licence", b"w" * 40_000)
    return unpacked(exported(store_with(tmp_path / "source", {NAME: artifact}), NAME))


def is_refused(attempt: Callable[[], Loaded]) -> bool:
    try:
        done = attempt()
        done.require_complete()
    except PannierError:
        return True
    return False


def tree(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def strays(store: Store) -> list[str]:
    """Files of a store, beside its lock, that are neither index nor a blob of the right name."""
    found = []
    for name, data in tree(store.root).items():
        folder, _, last = name.rpartition("/")
        is_blob = folder == "blobs/sha256" and hashlib.sha256(data).hexdigest() == last
        if not is_blob and name not in ("oci-layout", "index.json", ".lock"):
            found.append(name)
    return found


def test_there_are_three_hundred_hostile_tars(tmp_path: Path) -> None:
    names = [name for name, _ in hostile_tars(good_members(tmp_path))]
    assert len(names) >= 300


@pytest.mark.slow
@pytest.mark.parametrize("piped", [False, True])
def test_every_hostile_tar_is_refused_and_leaves_nothing(piped: bool, tmp_path: Path) -> None:
    members = good_members(tmp_path)
    canary = tmp_path / "canary"
    (canary / "sub").mkdir(parents=True)
    (canary / "sub" / "file").write_text("untouched")
    before = tree(canary)
    accepted = []
    for name, raw in hostile_tars(members):
        store = Store.open(canary / "work")
        began = time.monotonic()
        if not is_refused(partial(attempt, store, raw, tmp_path, piped)):
            accepted.append(name)
        assert not store.entries() or name.startswith(ALL_BUT_THE_END), name
        assert time.monotonic() - began < MAX_SECONDS, name
        assert strays(store) == [], name
        if tree(store.root / "blobs"):
            shutil.rmtree(store.root)
    shutil.rmtree(canary / "work", ignore_errors=True)
    assert accepted == []
    assert tree(canary) == before
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 1 << 20  # kB


def attempt(store: Store, raw: bytes, tmp_path: Path, piped: bool) -> Loaded:
    if piped:
        return load_stream(store, io.BytesIO(raw), place="pipe")
    path = tmp_path / "hostile.tar"
    path.write_bytes(raw)
    return load(store, path)


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_bundle_with_flipped_bytes_never_makes_a_wrong_model(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tmp_path = tmp_path_factory.mktemp("flip")
    artifact = make_artifact(b"params", b"licence", b"w" * 40_000)
    raw = bytearray(exported(store_with(tmp_path / "source", {NAME: artifact}), NAME))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    store = Store.open(tmp_path / "target")
    (tmp_path / "b.tar").write_bytes(raw)
    is_refused(lambda: load(store, tmp_path / "b.tar"))
    assert strays(store) == []
    for entry in store.entries():
        manifest = store.manifest(entry.descriptor.digest)
        assert all(store.exists(child) for child in manifest.children)
