"""Imports and exports that are killed between any two acts, and file systems that share blocks."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.bundles import NAME, OTHER, exported, model, store_with
from support.killing import killed_children

from pannier.pkgmgr.bundle import export
from pannier.pkgmgr.bundle.load import load
from pannier.pkgmgr.bundle.look import verify_path
from pannier.pkgmgr.bundle.plan import plan
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.store.store import Store
from pannier.pkgmgr.trust.keys import SigningKey
from pannier.pkgmgr.trust.signing import sign
from pannier.pkgmgr.upkeep.usage import prune
from pannier.pkgmgr.upkeep.verify import verify

ONE = Reference.parse(NAME)
IMPORT = """
import pathlib
from pannier.pkgmgr.bundle.load import load
from pannier.pkgmgr.store.store import Store
die()
load(Store.open(pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[2]))
"""
EXPORT = """
import pathlib
from pannier.pkgmgr.bundle import export
from pannier.pkgmgr.bundle.plan import plan
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.store.store import Store
store = Store.open(pathlib.Path(sys.argv[1]))
made = plan(store, [Reference.parse("registry.corp/team/reviewer:1")])
write = getattr(export, sys.argv[3])
die()
write(made, store, pathlib.Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_killed_import_leaves_whole_models_and_goes_on(tmp_path: Path) -> None:
    source = store_with(tmp_path / "s", {NAME: model(1, size=90_000), OTHER: model(2, size=90_000)})
    sign(source, ONE, SigningKey.generate(), now=lambda: 0)
    bundle = tmp_path / "b.tar"
    bundle.write_bytes(exported(source, NAME, OTHER))
    home, kills, seen = tmp_path / "home", 0, set()
    for _ in killed_children(IMPORT, [str(home), str(bundle)], step=3):
        kills += 1
        store = Store.open(home)
        assert verify(store).faults == ()
        seen.add(len(store.entries()))
        if kills % 4 == 0:
            load(store, bundle).require_complete()
            prune(store, grace_s=0)
            assert verify(store).faults == ()
        shutil.rmtree(home)
    assert kills > 20
    assert 0 in seen
    assert {NAME, OTHER} <= {entry.reference.name for entry in Store.open(home).entries()}


@pytest.mark.slow
def test_a_killed_export_leaves_no_bundle_that_looks_whole(tmp_path: Path) -> None:
    source = store_with(tmp_path / "s", {NAME: model(1, size=90_000)})
    out = tmp_path / "b.tar"
    whole = exported(source, NAME)
    for _ in killed_children(EXPORT, [str(source.root), str(out), "write_file"], step=2):
        if out.exists():
            assert out.read_bytes() == whole
            out.unlink()
    assert out.read_bytes() == whole
    assert [path.name for path in tmp_path.glob(".*")] == []


@pytest.mark.slow
def test_a_killed_export_into_a_directory_is_gone_on_with(tmp_path: Path) -> None:
    source = store_with(tmp_path / "s", {NAME: model(1, size=90_000)})
    out = tmp_path / "layout"
    kills = 0
    for _ in killed_children(EXPORT, [str(source.root), str(out), "write_directory"], step=3):
        kills += 1
        if (out / "index.json").exists():
            assert verify_path(out) == ()
            shutil.rmtree(out)
    assert kills > 5
    assert verify_path(out) == ()
    assert [path.name for path in out.rglob(".*")] == []


@pytest.fixture(params=["xfs", "btrfs"])
def sharing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A mounted file system that shares blocks."""
    mkfs = f"mkfs.{request.param}"
    if shutil.which(mkfs) is None or os.geteuid() != 0:
        pytest.skip(f"needs {mkfs} and the right to mount")
    image, point = tmp_path / "image", tmp_path / "mounted"
    with image.open("wb") as file:
        file.truncate(400 << 20)
    subprocess.run([mkfs, "-q", image], check=True, capture_output=True)
    point.mkdir()
    mounted = subprocess.run(
        ["mount", "-o", "loop", image, point], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.decode().strip()}")
    try:
        yield point
    finally:
        subprocess.run(["umount", point], check=True)


def used(path: Path) -> int:
    os.sync()
    status = os.statvfs(path)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


@pytest.mark.slow
def test_an_import_on_a_file_system_that_shares_blocks_copies_no_weights(
    sharing: Path,
) -> None:
    size = 60_000_000
    source = store_with(sharing / "s", {NAME: model(1, size=size)})
    bundle = sharing / "b.tar"
    export.write_file(plan(source, [ONE]), source, bundle)
    before = used(sharing)
    target = Store.open(sharing / "t")
    load(target, bundle).require_complete()
    assert used(sharing) - before < size // 10
    assert verify(target).faults == ()
