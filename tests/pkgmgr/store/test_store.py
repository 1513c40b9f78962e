from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support.artifacts import check_invariants, describe, make_artifact, make_index

from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import (
    BlobNotFound,
    CorruptStore,
    DigestMismatch,
    InvalidManifest,
    ModelNotFound,
    NoSpace,
    PannierError,
    SizeMismatch,
    StoreBusy,
)
from pannier.pkgmgr.operations import remove
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.store.store import Store

NAME = Reference.parse("localhost:5000/team/demo:1")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "home")


def unfinished(store: Store) -> list[Path]:
    return list((store.root / "ingest").iterdir())


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_a_new_store_is_an_empty_oci_layout(store: Store) -> None:
    assert json.loads((store.root / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert json.loads((store.root / "index.json").read_bytes())["manifests"] == []
    assert store.entries() == ()


def test_pannier_home_moves_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PANNIER_HOME", str(tmp_path / "elsewhere"))
    assert Store.open().root == tmp_path / "elsewhere"


def test_a_layout_of_another_version_is_refused(store: Store) -> None:
    (store.root / "oci-layout").write_text('{"imageLayoutVersion": "9"}')
    with pytest.raises(CorruptStore, match="'9'"):
        Store.open(store.root)


def test_a_damaged_index_is_named(store: Store) -> None:
    (store.root / "index.json").write_text("{")
    with pytest.raises(CorruptStore, match=r"index\.json"):
        store.entries()


def test_what_is_tagged_is_found_again(store: Store) -> None:
    artifact = make_artifact(b"weights")
    artifact.push_to(store, str(NAME))
    (entry,) = store.entries()
    assert entry.reference == NAME
    assert entry.descriptor == artifact.descriptor
    assert abs(entry.modified - time.time()) < 60
    assert store.resolve(NAME) == artifact.descriptor
    assert store.manifest(artifact.descriptor.digest).raw == artifact.raw


def test_names_are_found_without_regard_to_case(store: Store) -> None:
    make_artifact(b"a").push_to(store, "localhost:5000/Team/Demo:V1")
    assert store.find(Reference.parse("LOCALHOST:5000/team/demo:v1")).reference.tag == "V1"
    make_artifact(b"b").push_to(store, "localhost:5000/team/demo:v1")
    assert len(store.entries()) == 1


def test_a_digest_in_the_name_decides(store: Store) -> None:
    old, new = make_artifact(b"old"), make_artifact(b"new")
    old.push_to(store, str(NAME))
    new.push_to(store, str(NAME.with_tag("2")))
    pinned = NAME.with_tag("2").with_digest(old.descriptor.digest)
    assert store.find(pinned).reference == NAME
    with pytest.raises(ModelNotFound):
        store.find(Reference.parse("localhost:5000/other").with_digest(old.descriptor.digest))


def test_a_name_by_digest_alone_is_kept(store: Store) -> None:
    artifact = make_artifact(b"x")
    name = f"localhost:5000/team/demo@{artifact.descriptor.digest}"
    artifact.push_to(store, name)
    assert str(store.find(Reference.parse(name)).reference) == name


def test_newest_names_come_first(store: Store) -> None:
    for number in range(3):
        make_artifact(b"x").push_to(store, str(NAME.with_tag(str(number))))
    assert [entry.reference.tag for entry in store.entries()] == ["2", "1", "0"]


def test_a_near_miss_is_hinted(store: Store) -> None:
    make_artifact(b"x").push_to(store, "llama3:8b")
    with pytest.raises(ModelNotFound) as caught:
        store.find(Reference.parse("llama3:8B-x"))
    assert caught.value.hint is not None
    assert "'llama3:8b'" in caught.value.hint


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("zzz", None),
        ("registry.corp/team/m:1.0", None),
        ("smoll:latest", "smol:latest"),
        ("SMOL:q4", "smol:q4_0"),
        ("reviewer", "registry.corp/team/reviewer:1.0"),
    ],
)
def test_hints_go_by_the_path_of_a_name_before_its_tag(
    store: Store, typed: str, meant: str | None
) -> None:
    for name in ("smol", "smol:q4_0", "registry.corp/team/reviewer:1.0"):
        make_artifact(b"x").push_to(store, name)
    signed = Digest.of(b"x").hex
    make_artifact(b"s").push_to(store, f"zzzz:sha256-{signed}.sig")
    with pytest.raises(ModelNotFound) as caught:
        store.find(Reference.parse(typed))
    hint = caught.value.hint or ""
    assert (
        f"did you mean {meant!r}" in hint
        if meant
        else f"pannier pull {Reference.parse(typed).familiar}`" in hint
    )


def test_retagging_moves_the_name(store: Store) -> None:
    first, second = make_artifact(b"1"), make_artifact(b"2")
    first.push_to(store, str(NAME))
    second.push_to(store, str(NAME))
    assert [entry.descriptor for entry in store.entries()] == [second.descriptor]


def test_a_manifest_with_a_missing_blob_gets_no_name(store: Store) -> None:
    artifact = make_artifact(b"weights")
    artifact.push_to(store)
    store.path(artifact.blobs[1][0].digest).unlink()
    with pytest.raises(BlobNotFound):
        store.tag(artifact.descriptor, NAME)
    assert store.entries() == ()


def test_an_index_needs_what_its_manifests_need(store: Store) -> None:
    one, two = make_artifact(b"1"), make_artifact(b"2")
    described, raw = make_index(one, two)
    one.push_to(store)
    store.push(described, io.BytesIO(raw))
    with pytest.raises(BlobNotFound):
        store.tag(described, NAME)
    two.push_to(store)
    store.tag(described, NAME)
    assert store.resolve(NAME) == described


def test_a_foreign_entry_survives_and_is_no_model(store: Store) -> None:
    artifact = make_artifact(b"x")
    artifact.push_to(store)
    foreign = artifact.descriptor.to_json() | {
        "annotations": {"org.opencontainers.image.ref.name": "latest", "other": "kept"}
    }
    path = store.root / "index.json"
    path.write_text(json.dumps({"schemaVersion": 2, "manifests": [foreign], "x": 1}))
    assert store.entries() == ()
    make_artifact(b"y").push_to(store, str(NAME))
    value = json.loads(path.read_bytes())
    assert value["x"] == 1
    assert foreign in value["manifests"]


def test_untag_removes_the_name_only(store: Store) -> None:
    artifact = make_artifact(b"x")
    artifact.push_to(store, str(NAME))
    assert store.untag(NAME) == artifact.descriptor
    assert store.entries() == ()
    assert store.exists(artifact.descriptor)
    with pytest.raises(ModelNotFound):
        store.untag(NAME)


@pytest.mark.parametrize("data", [b"wrong", b"long" * 9, b""])
def test_wrong_bytes_are_never_visible(store: Store, data: bytes) -> None:
    expected = describe(b"right")
    with pytest.raises((DigestMismatch, SizeMismatch)):
        store.push(expected, io.BytesIO(data))
    assert not store.exists(expected)
    assert unfinished(store) == []
    assert list((store.root / "blobs" / "sha256").iterdir()) == []


def test_an_endless_stream_is_cut(store: Store) -> None:
    class Endless:
        given = 0

        def read(self, size: int = -1, /) -> bytes:
            self.given += size
            return bytes(size)

    endless = Endless()
    with pytest.raises(SizeMismatch):
        store.push(describe(b"short"), endless)
    assert endless.given < 4 << 20


def test_blobs_are_read_only_and_ingest_is_empty_afterwards(store: Store) -> None:
    artifact = make_artifact(b"x")
    artifact.push_to(store, str(NAME))
    mode = store.path(artifact.descriptor.digest).stat().st_mode
    assert stat.S_IMODE(mode) == 0o444
    assert unfinished(store) == []


def test_an_ingest_that_is_left_leaves_nothing(store: Store) -> None:
    with store.ingest() as ingest:
        ingest.write(b"x" * 100)
    assert unfinished(store) == []


@pytest.mark.parametrize("size", [0, 1, 5000, (1 << 20) + 1, 40_000_001])
def test_ingest_file_copies_and_hashes(store: Store, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    seen: list[int] = []
    digest, actual = store.ingest_file(tmp_path / "file", on_bytes=seen.append)
    assert (digest, actual, sum(seen)) == (Digest.of(data), size, size)
    assert store.path(digest).read_bytes() == data


def test_ingest_hashes_many_small_writes(store: Store) -> None:
    piece = os.urandom(70_000)
    with store.ingest(algorithm="sha512") as ingest:
        for _ in range(60):
            ingest.write(piece)
        digest = ingest.commit()
    assert digest == Digest.of(piece * 60, algorithm="sha512")
    assert store.path(digest).stat().st_size == 60 * 70_000


def test_a_file_that_cannot_be_read_leaves_nothing(store: Store, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.ingest_file(tmp_path / "absent")
    assert unfinished(store) == []


def test_a_full_disk_is_named_and_leaves_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(NoSpace):
        store.push(describe(b"data"), io.BytesIO(b"data"))
    assert unfinished(store) == []


def test_a_failed_sync_is_an_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(PannierError, match="Input/output error"):
        store.push(describe(b"data"), io.BytesIO(b"data"))
    assert not store.exists(describe(b"data"))


def test_a_truncated_blob_is_replaced(store: Store) -> None:
    described = describe(b"content")
    store.push(described, io.BytesIO(b"content"))
    path = store.path(described.digest)
    path.chmod(0o644)
    path.write_bytes(b"con")
    assert not store.exists(described)
    store.push(described, io.BytesIO(b"content"))
    assert store.read(described, max_size=100) == b"content"


def test_read_refuses_damage_and_too_much(store: Store) -> None:
    described = describe(b"content")
    with pytest.raises(BlobNotFound):
        store.read(described, max_size=100)
    store.push(described, io.BytesIO(b"content"))
    with pytest.raises(SizeMismatch):
        store.read(described, max_size=3)
    with pytest.raises(SizeMismatch):
        store.read(replace(described, size=3), max_size=100)
    path = store.path(described.digest)
    path.chmod(0o644)
    path.write_bytes(b"c0ntent")
    with pytest.raises(DigestMismatch):
        store.read(described, max_size=100)


def test_a_large_blob_is_no_manifest(store: Store) -> None:
    data = bytes(5 << 20)
    store.push(describe(data), io.BytesIO(data))
    with pytest.raises(InvalidManifest):
        store.manifest(Digest.of(data))


def test_fetch_begins_at_the_offset(store: Store) -> None:
    described = describe(b"0123456789")
    store.push(described, io.BytesIO(b"0123456789"))
    with store.fetch(described, offset=4) as reader:
        assert reader.read() == b"456789"


# Collecting


def test_collect_keeps_what_a_name_needs(store: Store) -> None:
    kept, dropped = make_artifact(b"shared", b"kept"), make_artifact(b"shared", b"dropped")
    kept.push_to(store, str(NAME))
    dropped.push_to(store, str(NAME.with_tag("2")))
    store.untag(NAME.with_tag("2"))
    assert store.collect(grace_s=0, dry_run=True).count == 2
    assert store.exists(dropped.descriptor)
    collected = store.collect(grace_s=0)
    assert (collected.count, collected.size) == (2, len(dropped.raw) + len(b"dropped"))
    assert not store.exists(dropped.descriptor)
    assert all(store.exists(descriptor) for descriptor, _ in kept.blobs)


def test_removing_a_model_spares_uploads_that_have_no_name_yet(store: Store) -> None:
    model = make_artifact(b"weights")
    model.push_to(store, str(NAME))
    upload = describe(b"uploaded for a model to come")
    store.push(upload, io.BytesIO(b"uploaded for a model to come"))
    assert remove(store, [NAME]).size == len(model.raw) + len(b"weights") + len(b"{}")
    assert store.exists(upload)
    assert not store.exists(model.descriptor)


def test_collect_spares_what_was_used_within_the_grace(store: Store) -> None:
    described = describe(b"x")
    store.push(described, io.BytesIO(b"x"))
    age(store.path(described.digest), 7200)
    assert store.exists(described)  # and so marks it as used
    assert store.collect(grace_s=3600).count == 0
    age(store.path(described.digest), 7200)
    assert store.collect(grace_s=3600).count == 1


def test_collect_spares_what_a_lease_may_count_on(store: Store) -> None:
    with store.lease():
        store.push(describe(b"x"), io.BytesIO(b"x"))
        assert store.collect(grace_s=0).count == 0
    assert store.collect(grace_s=0).count == 1
    assert list((store.root / "leases").iterdir()) == []


def test_collect_removes_leases_and_files_of_dead_processes(store: Store) -> None:
    script = (
        "import os, signal, sys; from pannier.pkgmgr.store.store import Store\n"
        "store = Store.open(__import__('pathlib').Path(sys.argv[1]))\n"
        "with store.lease(), store.ingest() as ingest, store.lock():\n"
        "    ingest.write(b'half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(store.root)], check=False)
    assert done.returncode == -9
    (left,) = unfinished(store)
    age(left, 3600)
    assert store.collect(grace_s=0).count == 1
    assert unfinished(store) == []
    assert list((store.root / "leases").iterdir()) == []


def test_collect_stops_where_a_named_manifest_is_gone(store: Store) -> None:
    artifact = make_artifact(b"x")
    artifact.push_to(store, str(NAME))
    store.path(artifact.descriptor.digest).unlink()
    with pytest.raises(BlobNotFound):
        store.collect(grace_s=0)
    assert store.exists(artifact.blobs[1][0])


# Several at once


def test_the_lock_gives_up_after_a_while(store: Store) -> None:
    with store.lock(), pytest.raises(StoreBusy), store.lock(wait_s=0.02):
        pytest.fail("two holders")


def test_threads_that_tag_at_once_lose_no_name(store: Store) -> None:
    artifact = make_artifact(b"x")
    artifact.push_to(store)

    def tag(number: int) -> None:
        store.tag(artifact.descriptor, NAME.with_tag(str(number)))

    threads = [threading.Thread(target=tag, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {entry.reference.tag for entry in store.entries()} == {str(n) for n in range(12)}


HAMMER = """
import io, pathlib, sys
sys.path.insert(0, sys.argv[2])
from support.artifacts import make_artifact
from pannier.pkgmgr.errors import BlobNotFound
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.store.store import Store
store = Store.open(pathlib.Path(sys.argv[1]))
for number in range(15):
    name = f"localhost:5000/p{sys.argv[3]}:{number}"
    with store.lease():
        make_artifact(b"shared", bytes([number % 4])).push_to(store, name)
    if number % 3 == 0:
        store.untag(Reference.parse(name))
    store.collect(grace_s=0)
"""


@pytest.mark.slow
def test_processes_that_write_and_collect_at_once_break_nothing(store: Store) -> None:
    support = str(Path(__file__).parents[2])
    arguments = [sys.executable, "-c", HAMMER, str(store.root), support]
    processes = [subprocess.Popen([*arguments, str(number)]) for number in range(4)]
    assert [process.wait(120) for process in processes] == [0] * 4
    assert len(store.entries()) == 4 * 10
    check_invariants(store)
