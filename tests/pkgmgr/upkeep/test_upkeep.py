from __future__ import annotations

import errno
import os
import random
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from support import gguf
from support.artifacts import Artifact, make_artifact
from support.bundles import NAME, OTHER, exported, model, store_with
from support.registry import docker_registry

from pannier.pkgmgr import attachments, operations
from pannier.pkgmgr.bundle.blocks import index_model
from pannier.pkgmgr.descriptor import Descriptor
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import ModelNotFound
from pannier.pkgmgr.mediatypes import OCTET_STREAM
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.settings import Settings
from pannier.pkgmgr.store.store import Store
from pannier.pkgmgr.trust.keys import SigningKey
from pannier.pkgmgr.trust.signing import sign
from pannier.pkgmgr.upkeep.repair import repair
from pannier.pkgmgr.upkeep.usage import prune, usage
from pannier.pkgmgr.upkeep.verify import verify

ONE, TWO = Reference.parse(NAME), Reference.parse(OTHER)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return store_with(tmp_path / "store", {NAME: model(1), OTHER: model(2)})


def settings(tmp_path: Path) -> Settings:
    return Settings.load({"PANNIER_HOME": str(tmp_path / "home")})


def weights_of(store: Store, name: Reference = ONE) -> Digest:
    manifest = store.manifest(store.find(name).descriptor.digest)
    return max(manifest.children, key=lambda part: part.size).digest


def rot(store: Store, digest: Digest, offset: int, data: bytes = b"\x01\x02\x03") -> None:
    """Change a blob in place, as a failing disk does: no time changes."""
    path = store.path(digest)
    status = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(offset)
        old = file.read(len(data))
        file.seek(offset)
        file.write(bytes(a ^ b for a, b in zip(old, data, strict=True)))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def tiny(tmp_path: Path) -> Artifact:
    raw = gguf.tiny_llama(tmp_path / "tiny.gguf", blocks=300).read_bytes()
    assert len(raw) > 1 << 20
    return make_artifact(b"params", raw)


def test_a_store_in_good_order_has_no_faults(store: Store) -> None:
    found = verify(store)
    assert found.faults == ()
    assert found.num_blobs == 8
    assert found.hashed > 600_000


def test_of_a_partial_download_counts_what_has_arrived(store: Store) -> None:
    part = Descriptor(OCTET_STREAM, Digest.of(b"to come"), 50 << 20)
    with store.receive(part, wait=lambda _: None) as partial:
        assert partial is not None
        with partial.writer(0) as writer:
            writer.write(bytes(1 << 20))
    assert 1 << 20 <= usage(store).unfinished < 2 << 20


class ReadOnly(Store):
    """A store on a medium that cannot be written."""

    def lock(self, *, wait_s: float = 0) -> AbstractContextManager[None]:
        raise OSError(errno.EROFS, "Read-only file system")


def test_a_store_that_may_only_be_read_is_verified(store: Store) -> None:
    assert verify(ReadOnly(store.root)).faults == ()
    rot(store, weights_of(store), 100)
    assert len(verify(ReadOnly(store.root)).faults) == 1


def test_a_damaged_manifest_hides_no_other_model(store: Store) -> None:
    rot(store, store.find(ONE).descriptor.digest, 5)
    listed = {item.reference: item.dialect for item in operations.list_models(store)}
    assert listed.pop(ONE) == operations.DAMAGED
    assert TWO in listed
    assert {item.reference for item in usage(store).models} == {ONE, TWO}
    operations.remove(store, [ONE])
    assert [item.reference for item in operations.list_models(store)] == [TWO]


def test_a_damaged_attachment_does_not_count_and_hides_nothing(store: Store) -> None:
    sign(store, ONE, SigningKey.generate(), now=lambda: 0)
    digest = store.find(ONE).descriptor.digest
    signatures = attachments.in_store(store, digest)
    for item in signatures:
        rot(store, item.manifest.descriptor.digest, 5)
    assert attachments.in_store(store, digest) == ()
    assert {ONE, TWO} <= {item.reference for item in operations.list_models(store)}
    assert len(verify(store).faults) == len(signatures)


def test_shared_blobs_are_hashed_once(store: Store) -> None:
    both = verify(store).hashed
    assert both < verify(store, [ONE]).hashed + verify(store, [TWO]).hashed


def test_every_flipped_byte_is_found(store: Store) -> None:
    rng = random.Random(7)
    digest = weights_of(store)
    for _ in range(20):
        offset = rng.randrange(300_000 - 3)
        rot(store, digest, offset)
        (fault,) = verify(store, [ONE]).faults
        assert (fault.descriptor.digest, fault.reason) == (digest, "digest")
        assert fault.models == (ONE,)
        rot(store, digest, offset)
    assert verify(store, [ONE]).faults == ()


def test_missing_and_short_blobs_are_told_apart(store: Store) -> None:
    store.path(weights_of(store)).unlink()
    short = store.path(weights_of(store, TWO))
    short.chmod(0o644)
    with short.open("r+b") as file:
        file.truncate(5)
    reasons = {fault.models: fault.reason for fault in verify(store).faults}
    assert reasons == {(ONE,): "missing", (TWO,): "size"}


def test_a_damaged_manifest_is_a_fault_and_no_end(store: Store) -> None:
    rot(store, store.find(ONE).descriptor.digest, 3)
    faults = verify(store).faults
    assert [fault.models for fault in faults] == [(ONE,)]


def test_an_unknown_name_is_said(store: Store) -> None:
    with pytest.raises(ModelNotFound):
        verify(store, [Reference.parse("nobody/knows")])


def test_a_stamp_saves_the_second_hash_until_the_file_is_written(store: Store) -> None:
    verify(store)
    again = verify(store, fresh_is_enough=True)
    assert (again.hashed, again.faults) == (0, ())
    path = store.path(weights_of(store))
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(b"changed")
    assert len(verify(store, fresh_is_enough=True).faults) == 1
    assert len(verify(store, fresh_is_enough=True).faults) == 1


def test_an_interrupted_run_goes_on_where_it_was(store: Store) -> None:
    seen: list[object] = []

    def stop_at_the_second(event: object) -> None:
        seen.append(event)
        if sum(type(item).__name__ == "Finished" for item in seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify(store, jobs=1, on_event=stop_at_the_second)
    whole = verify(store)
    assert whole.skipped == 0
    verify(store)
    assert verify(store, fresh_is_enough=True).hashed == 0


def test_a_limited_rate_is_kept(store: Store) -> None:
    began = time.monotonic()
    verify(store, [ONE], rate=1_000_000.0)
    assert time.monotonic() - began > 0.25


def test_damage_is_told_by_tensor(tmp_path: Path) -> None:
    store = store_with(tmp_path / "s", {NAME: tiny(tmp_path)})
    (index,) = index_model(store, ONE)
    name, begin, end = list(index.sections.bounds())[-3]
    rot(store, index.digest, (begin + end) // 2)
    (fault,) = verify(store, [ONE]).faults
    assert fault.where == (name,)


def test_repair_takes_only_the_bad_blocks_from_a_bundle(tmp_path: Path) -> None:
    store = store_with(tmp_path / "s", {NAME: tiny(tmp_path)})
    (index,) = index_model(store, ONE)
    bundle = tmp_path / "b.tar"
    bundle.write_bytes(exported(store, NAME))
    good = store.path(index.digest).read_bytes()
    rot(store, index.digest, 5)
    rot(store, index.digest, len(good) - 100)
    faults = verify(store, [ONE]).faults
    (done,) = repair(store, faults, bundles=[bundle], settings=settings(tmp_path))
    assert done.place == str(bundle)
    assert 0 < done.fetched < len(good) // 10
    assert store.path(index.digest).read_bytes() == good
    assert verify(store).faults == ()


def test_repair_without_an_index_fetches_the_blob(store: Store, tmp_path: Path) -> None:
    bundle = tmp_path / "b.tar"
    bundle.write_bytes(exported(store, NAME))
    rot(store, weights_of(store), 5)
    faults = verify(store).faults
    (done,) = repair(store, faults, bundles=[bundle], settings=settings(tmp_path))
    assert done.fetched == 300_000
    assert verify(store).faults == ()


@pytest.mark.registry
def test_repair_fetches_blocks_from_the_models_registry(tmp_path: Path) -> None:
    with docker_registry(tmp_path / "registry") as registry:
        name = Reference.parse(f"{registry.host}/team/m:1")
        store = store_with(tmp_path / "s", {str(name): tiny(tmp_path)})
        (index,) = index_model(store, name)
        operations.push(store, name, settings=settings(tmp_path))
        rot(store, index.digest, index.size - 100)
        (done,) = repair(store, verify(store).faults, settings=settings(tmp_path))
    assert done.place == f"{registry.host}/team/m"
    assert done.fetched < index.size // 10
    assert verify(store).faults == ()


@pytest.mark.slow
def test_what_cannot_be_repaired_is_said(store: Store, tmp_path: Path) -> None:
    bundle = tmp_path / "other.tar"
    bundle.write_bytes(exported(store, OTHER))
    rot(store, weights_of(store), 5)
    fault = verify(store).faults[0]
    loose = Reference.parse("127.0.0.1:1/nobody/home")
    (done,) = repair(
        store,
        [type(fault)(fault.descriptor, (loose,), fault.reason)],
        bundles=[bundle],
        settings=settings(tmp_path),
    )
    assert done.place is None
    assert done.reason


def test_usage_tells_own_and_shared_bytes(store: Store) -> None:
    used = usage(store)
    assert {item.reference for item in used.models} == {ONE, TWO}
    for item in used.models:
        assert 300_000 < item.own < item.size
    assert used.unnamed == 0
    assert used.num_blobs == 8


def test_prune_removes_what_no_model_needs_and_says_how_much(store: Store) -> None:
    store.untag(ONE)
    would = prune(store, grace_s=0, dry_run=True)
    assert would.size > 300_000
    assert would.size == usage(store).unnamed
    assert prune(store, grace_s=0) == would
    assert verify(store).faults == ()
    assert [entry.reference for entry in store.entries()] == [TWO]


def test_what_a_model_was_asked_goes_with_the_model(store: Store) -> None:
    folders = []
    for name in (ONE, TWO):
        folder = store.root / "states" / store.find(name).descriptor.digest.hex / "1.0-f16"
        folder.mkdir(parents=True)
        (folder / "a.state").write_bytes(bytes(1000))
        folders.append(folder)
    assert usage(store).states == 2000
    operations.remove(store, [ONE])
    assert [folder.exists() for folder in folders] == [False, True]
    store.untag(TWO)
    would = prune(store, dry_run=True)
    assert (would.count, would.size) == (1, 1000)
    assert prune(store) == would
    assert usage(store).states == 0


def test_prune_spares_what_is_young(store: Store) -> None:
    store.untag(ONE)
    assert prune(store).count == 0


@pytest.mark.slow
def test_prune_never_takes_what_a_copy_under_way_counts_on(tmp_path: Path) -> None:
    """A writer pushes and names models while prunes without grace run beside it."""
    store = Store.open(tmp_path / "s")
    done = threading.Event()

    def prune_on() -> None:
        while not done.is_set():
            prune(store, grace_s=0)

    pruner = threading.Thread(target=prune_on)
    pruner.start()
    try:
        for seed in range(8):
            with store.lease():
                model(seed, size=20_000).push_to(store, f"a.example/m:{seed}")
    finally:
        done.set()
        pruner.join()
    assert len(store.entries()) == 8
    assert verify(store).faults == ()


def test_removing_a_model_takes_its_attachments(tmp_path: Path) -> None:
    store = store_with(tmp_path / "s", {NAME: tiny(tmp_path)})
    index_model(store, ONE)
    assert len(operations.list_models(store)) == 1
    operations.remove(store, [ONE])
    assert store.entries() == ()
    assert usage(store).num_blobs == 0
