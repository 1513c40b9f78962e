"""Registries behind mirrors: who is asked, and what becomes of a mirror that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.artifacts import make_artifact
from support.falseregistry import Handler, Hook, Script, scripted
from support.hostile import BIG, BIG_DIGEST, DEMO, ROOT_DIGEST, SMALL_DIGEST
from support.transfers import Log, open_quick, pull, settings_in

from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import DigestMismatch, NetworkError
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.settings import RegistrySettings, Settings
from pannier.pkgmgr.store.store import Store
from pannier.pkgmgr.transfer.copy import copy
from pannier.pkgmgr.transfer.events import Noticed
from pannier.pkgmgr.upkeep.repair import repair
from pannier.pkgmgr.upkeep.verify import verify


def mirrored(root: Path, host: str, *mirrors: str) -> Settings:
    said = {host: RegistrySettings(mirrors=mirrors)}
    return replace(settings_in(root), registries=said)


def test_a_mirror_is_asked_first(store: Store) -> None:
    with scripted(DEMO) as own, scripted(DEMO) as mirror:
        name = f"{own.host}/team/demo:1"
        pull(name, store, settings=mirrored(store.root, own.host, mirror.host))
    assert own.script.seen == []
    assert store.resolve(Reference.parse(name)) == DEMO.descriptor


def test_a_mirror_below_a_path_is_asked_there(store: Store) -> None:
    with scripted(DEMO) as own, scripted(DEMO) as mirror:
        settings = mirrored(store.root, own.host, f"{mirror.host}/cache/a")
        pull(f"{own.host}/team/demo:1", store, settings=settings)
    assert all("/v2/cache/a/team/demo/" in seen.path for seen in mirror.script.seen)


def test_a_mirror_that_fails_is_passed_over(store: Store) -> None:
    with scripted(DEMO) as own, scripted(hook=lambda handler: handler.answer(404)) as empty:
        settings = mirrored(store.root, own.host, "127.0.0.1:1", empty.host)
        pull(f"{own.host}/team/demo:1", store, settings=settings)
    assert own.script.seen
    assert len(empty.script.seen) < 4


def test_a_mirror_that_loses_a_layer_is_passed_over(store: Store) -> None:
    def hook(handler: Handler) -> bool:
        return BIG_DIGEST in handler.path and handler.answer(404)

    with scripted(DEMO) as own, scripted(DEMO, hook=hook) as mirror:
        settings = mirrored(store.root, own.host, mirror.host)
        pull(f"{own.host}/team/demo:1", store, settings=settings)
    assert own.script.requests("GET", BIG_DIGEST)


def test_writing_goes_to_the_registry_itself(tmp_path: Path) -> None:
    with scripted() as own, scripted() as mirror:
        name = f"{own.host}/team/demo:1"
        settings = mirrored(tmp_path, own.host, mirror.host)
        with open_quick(name, tmp_path, settings=settings) as repository:
            DEMO.push_to(repository, name)
    assert own.script.tags == {"1": str(DEMO.descriptor.digest)}
    assert mirror.script.seen == []


WRONG = bytes(len(BIG))


def other_layer(script: Script) -> Hook | None:
    script.blobs[BIG_DIGEST] = WRONG
    return None


def other_small_layer(script: Script) -> Hook | None:
    script.blobs[SMALL_DIGEST] = b"small lawyer"[: len(script.blobs[SMALL_DIGEST])]
    return None


def short_layer(script: Script) -> Hook | None:
    script.blobs[BIG_DIGEST] = BIG[:-1]
    return None


def other_manifest(script: Script) -> Hook | None:
    kind, raw = script.manifests[ROOT_DIGEST]
    script.manifests[ROOT_DIGEST] = kind, raw.replace(b"small", b"wrong").replace(b"{", b" {", 1)
    return None


def half_of_each_layer(script: Script) -> Hook | None:
    def hook(handler: Handler) -> bool:
        if BIG_DIGEST not in handler.path or handler.command != "GET":
            return False
        handler.answer(200, b"", {"Content-Length": str(len(BIG))})
        handler.send(BIG[: len(BIG) // 2])
        return handler.reset()

    return hook


def web_pages(script: Script) -> Hook | None:
    page = b"<html>please log in</html>"
    return lambda handler: handler.answer(200, page, {"Content-Type": "text/html"})


def manifests_that_are_none(script: Script) -> Hook | None:
    raw = b"[]"
    script.manifests[str(Digest.of(raw))] = DEMO.descriptor.media_type, raw
    script.tags["1"] = str(Digest.of(raw))
    return None


@pytest.mark.parametrize(
    "misbehave",
    [
        other_layer,
        other_small_layer,
        short_layer,
        other_manifest,
        half_of_each_layer,
        web_pages,
        manifests_that_are_none,
    ],
)
def test_a_mirror_that_is_wrong_is_passed_over(
    store: Store, misbehave: Callable[[Script], Hook | None]
) -> None:
    with scripted(DEMO) as own, scripted(DEMO) as mirror:
        mirror.script.hook = misbehave(mirror.script)
        name = f"{own.host}/team/demo:1"
        pull(name, store, settings=mirrored(store.root, own.host, mirror.host))
    assert store.find(Reference.parse(name)).descriptor.digest == DEMO.descriptor.digest
    for descriptor, data in DEMO.blobs:
        assert store.path(descriptor.digest).read_bytes() == data
    assert own.script.seen


def test_the_next_mirror_is_asked_before_the_registry(store: Store) -> None:
    with scripted(DEMO) as own, scripted(DEMO) as wrong, scripted(DEMO) as right:
        wrong.script.blobs[BIG_DIGEST] = WRONG
        wrong.script.blobs[SMALL_DIGEST] = b"?" * len(wrong.script.blobs[SMALL_DIGEST])
        settings = mirrored(store.root, own.host, wrong.host, right.host)
        pull(f"{own.host}/team/demo:1", store, settings=settings)
    assert own.script.seen == []
    assert right.script.requests("GET", BIG_DIGEST)


def test_where_everybody_is_wrong_nothing_counts(store: Store) -> None:
    with scripted(DEMO) as own, scripted(DEMO) as mirror:
        for registry in (own, mirror):
            registry.script.blobs[BIG_DIGEST] = WRONG
        settings = mirrored(store.root, own.host, mirror.host)
        log = Log()
        with pytest.raises(DigestMismatch):
            pull(f"{own.host}/team/demo:1", store, settings=settings, on_event=log)
    assert store.entries() == ()
    assert not store.path(Digest.parse(BIG_DIGEST)).exists()
    assert len(log.of(Noticed)) == 1


def test_a_wrong_mirror_before_a_registry_that_is_away_is_an_error(store: Store) -> None:
    with scripted(DEMO) as mirror:
        mirror.script.blobs[BIG_DIGEST] = WRONG
        settings = mirrored(store.root, "127.0.0.1:1", mirror.host)
        with pytest.raises(NetworkError):
            pull("127.0.0.1:1/team/demo:1", store, settings=settings)
    assert store.entries() == ()


def test_copies_between_registries_leave_a_wrong_mirror_too(tmp_path: Path) -> None:
    large = make_artifact(bytes(5 << 20))
    digest = str(large.blobs[1][0].digest)
    with scripted(large) as own, scripted(large) as mirror, scripted() as target:
        mirror.script.blobs[digest] = b"!" * (5 << 20)
        settings = mirrored(tmp_path, own.host, mirror.host)
        name, there = f"{own.host}/team/demo:1", f"{target.host}/team/demo:1"
        with (
            open_quick(name, tmp_path, settings=settings) as source,
            open_quick(there, tmp_path) as repository,
        ):
            copy(source, repository, source.resolve(Reference.parse(name)))
    assert target.script.blobs[digest] == bytes(5 << 20)


def test_repair_leaves_a_wrong_mirror(store: Store) -> None:
    with scripted(DEMO) as own, scripted(DEMO) as mirror:
        settings = mirrored(store.root, own.host, mirror.host)
        pull(f"{own.host}/team/demo:1", store, settings=settings)
        path = store.path(Digest.parse(BIG_DIGEST))
        path.chmod(0o644)
        path.write_bytes(WRONG)
        mirror.script.blobs[BIG_DIGEST] = WRONG
        (mended,) = repair(store, verify(store).faults, settings=settings)
    assert mended.place is not None
    assert path.read_bytes() == BIG
