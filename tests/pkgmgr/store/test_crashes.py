from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.artifacts import check_invariants, make_artifact
from support.killing import killed_children

from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.store.store import Store

NAME = "localhost/demo:1"
SCRIPT = """
import pathlib
from support.artifacts import make_artifact
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.store.store import Store
die()
store = Store.open(pathlib.Path(sys.argv[1]))
with store.lease():
    digest, size = store.ingest_file(pathlib.Path(sys.argv[2]))
    make_artifact(b"layer", b"new").push_to(store, "localhost/demo:1")
store.tag(store.resolve(Reference.parse("localhost/demo:1")), Reference.parse("localhost/other:1"))
store.untag(Reference.parse("localhost/other:1"))
store.collect(grace_s=0)
"""


@pytest.mark.slow
def test_a_kill_between_any_two_acts_leaves_the_old_state_or_the_new(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(100_000))
    old, new = make_artifact(b"layer", b"old"), make_artifact(b"layer", b"new")
    kills = 0
    home = tmp_path / "home"
    for _ in killed_children(SCRIPT, [str(home), str(tmp_path / "file")]):
        kills += 1
        store = Store.open(home)
        check_invariants(store)
        found = {entry.reference.name: entry.descriptor.digest for entry in store.entries()}
        assert found.get(NAME) in (None, old.descriptor.digest, new.descriptor.digest)
        with store.lock(wait_s=1):
            pass
        store.collect(grace_s=0)
        check_invariants(store)
        shutil.rmtree(home)
        if kills % 2:
            old.push_to(Store.open(home), NAME)
    assert kills > 40
    assert store.resolve(Reference.parse(NAME)) == new.descriptor
