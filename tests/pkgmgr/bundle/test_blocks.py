from __future__ import annotations

import json
import os
import random
import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import gguf
from support.artifacts import Artifact, make_artifact
from support.bundles import NAME, OTHER, exported, store_with
from support.falseregistry import Handler, Hook, error_body, scripted
from support.registry import docker_registry
from support.transfers import settings_in

from pannier.pkgmgr import attachments, operations
from pannier.pkgmgr.bundle import blockindex, blocks, delta, export
from pannier.pkgmgr.bundle.assemble import LocalFiles, assemble
from pannier.pkgmgr.bundle.blockindex import Block, BlockIndex
from pannier.pkgmgr.bundle.load import load
from pannier.pkgmgr.bundle.plan import Extra, plan
from pannier.pkgmgr.bundle.stream import load_stream
from pannier.pkgmgr.descriptor import Descriptor
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import DigestMismatch, InvalidBundle, PannierError
from pannier.pkgmgr.mediatypes import BLOCK_INDEX, BLOCK_INDEX_BLOB, DELTA
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.settings import Settings
from pannier.pkgmgr.store.store import Store
from pannier.pkgmgr.transfer.events import Advanced, Event, Noticed, Started

ONE, TWO = Reference.parse(NAME), Reference.parse(OTHER)


def weights(tmp_path: Path, template: str, *, seed: int = 1) -> bytes:
    path = gguf.tiny_llama(tmp_path / "m.gguf", template=template, blocks=60, seed=seed)
    return path.read_bytes()


def changed_tensor(raw: bytes) -> bytes:
    """The same file with other bytes in the last 40 kB, where the last tensors are."""
    return raw[:-40_000] + bytes(b ^ 0x55 for b in raw[-40_000:-39_000]) + raw[-39_000:]


def artifact(raw: bytes) -> Artifact:
    return make_artifact(b"params", raw)


def index_of(tmp_path: Path, raw: bytes) -> BlockIndex:
    path = tmp_path / "blob"
    path.write_bytes(raw)
    return blockindex.build(path, Digest.of(raw))


def test_an_index_covers_every_byte_once(tmp_path: Path) -> None:
    raw = weights(tmp_path, "a")
    index = index_of(tmp_path, raw)
    assert b"".join(raw[b.offset : b.offset + b.size] for b in index.blocks) == raw
    assert all(b.matches(raw[b.offset : b.offset + b.size]) for b in index.blocks)
    assert BlockIndex.parse(index.render()) == index


def test_tensors_keep_their_blocks_when_the_header_grows(tmp_path: Path) -> None:
    old = index_of(tmp_path, weights(tmp_path, "a"))
    new = index_of(tmp_path, weights(tmp_path, "a much longer template" * 100))
    known = {(block.section, block.start, block.hash) for block in old.blocks}
    changed = {b.section for b in new.blocks if (b.section, b.start, b.hash) not in known}
    assert changed <= {"key tokenizer.chat_template", "tensors"}


def test_a_file_that_is_no_gguf_is_one_section(tmp_path: Path) -> None:
    index = index_of(tmp_path, b"x" * 3_000_000)
    assert [name for name, _ in index.sections.starts] == ["file"]
    assert len(index.blocks) == 3
    assert index_of(tmp_path, b"").blocks == ()


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"digest": "sha256:zz"},
        {"size": -1},
        {"size": 2**62},
        {"size": True},
        {"step": 0},
        {"step": 1 << 40},
        {"step": "x"},
        {"sections": []},
        {"sections": [["a", 5]]},
        {"sections": [["a", 0], ["b", 0]]},
        {"sections": [["a", 0], ["a", 10]]},
        {"sections": [["a", 0], ["b", 1 << 40]]},
        {"sections": [[0, 0]]},
        {"sections": [["a", 0, 1]]},
        {"blocks": "AAAA"},
        {"blocks": "%%"},
        {"blocks": 5},
    ],
)
def test_malformed_indexes_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    value = json.loads(index_of(tmp_path, b"x" * 100_000).render()) | change
    with pytest.raises(InvalidBundle):
        BlockIndex.parse(json.dumps(value).encode())


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_as_an_index(raw: bytes) -> None:
    with pytest.raises(InvalidBundle):
        BlockIndex.parse(raw)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), max_size=30), st.integers(0, 9))
def test_runs_hold_every_block_and_no_large_gap(pieces: list[tuple[int, int]], gap: int) -> None:
    found, position = [], 0
    for skip, size in pieces:
        position += skip
        found.append(Block("s", position, position, size, b""))
        position += size
    runs = list(blockindex.merge(found, gap=gap, limit=40))
    assert [block for run in runs for block in run] == found
    for run in runs:
        ends = [a.offset + a.size for a in run[:-1]]
        assert all(b.offset - end <= gap for b, end in zip(run[1:], ends, strict=True))
        assert len(run) == 1 or run[-1].offset + run[-1].size - run[0].offset <= 40


def test_a_wrong_block_never_becomes_a_blob(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    raw = weights(tmp_path, "a")
    index = index_of(tmp_path, raw)
    part = Descriptor("", index.digest, len(raw))
    with LocalFiles(()) as local, pytest.raises(DigestMismatch):
        assemble(
            store,
            index,
            part,
            local=local,
            fetch=lambda run: bytes(sum(b.size for b in run)),
            gap=0,
            on_event=lambda event: None,
        )
    assert not store.exists(part)


def test_a_lying_index_never_becomes_a_blob(tmp_path: Path) -> None:
    """The blocks hash as the index says, but the whole is another file than the descriptor's."""
    store = Store.open(tmp_path / "store")
    raw, other = weights(tmp_path, "a"), weights(tmp_path, "b", seed=2)
    index = index_of(tmp_path, other)
    part = Descriptor("", Digest.of(raw), len(other))
    with LocalFiles([tmp_path / "blob"]) as local, pytest.raises(DigestMismatch):
        assemble(
            store,
            index,
            part,
            local=local,
            fetch=lambda run: b"",
            gap=0,
            on_event=lambda event: None,
        )
    assert list((store.root / "blobs" / "sha256").iterdir()) == []


# Delta bundles


def delta_bundle(store: Store, base: Reference, new: Reference, path: Path) -> Path:
    known = {c.digest for c in store.manifest(store.find(base).descriptor.digest).children}
    made = plan(store, [new], known=known, extras=delta.make(store, new, known=known))
    export.write_file(made, store, path)
    return path


def test_a_delta_bundle_carries_only_what_changed(tmp_path: Path) -> None:
    raw = weights(tmp_path, "a")
    new = changed_tensor(weights(tmp_path, "another template"))
    source = store_with(tmp_path / "s", {NAME: artifact(raw), OTHER: artifact(new)})
    path = delta_bundle(source, ONE, TWO, tmp_path / "d.tar")
    assert path.stat().st_size < len(raw) // 4
    target = store_with(tmp_path / "t", {NAME: artifact(raw)})
    load(target, path).require_complete()
    assert target.find(TWO).descriptor.digest == source.find(TWO).descriptor.digest
    assert target.path(Digest.of(new)).read_bytes() == new


def test_a_delta_bundle_goes_through_a_pipe(tmp_path: Path) -> None:
    raw, new = weights(tmp_path, "a"), weights(tmp_path, "b")
    source = store_with(tmp_path / "s", {NAME: artifact(raw), OTHER: artifact(new)})
    path = delta_bundle(source, ONE, TWO, tmp_path / "d.tar")
    target = store_with(tmp_path / "t", {NAME: artifact(raw)})
    with path.open("rb") as pipe:
        load_stream(target, pipe, place="standard input").require_complete()
    assert target.path(Digest.of(new)).read_bytes() == new


@pytest.mark.slow
def test_a_hostile_delta_never_becomes_a_blob(tmp_path: Path) -> None:
    """Every byte of the delta's own blobs is flipped once, under the digest that fits."""
    raw, new = weights(tmp_path, "a"), weights(tmp_path, "b")
    source = store_with(tmp_path / "s", {NAME: artifact(raw), OTHER: artifact(new)})
    (extra,) = delta.make(source, TWO, known={Digest.of(raw)})
    config, index = (data for _, data in extra.blobs[1:3])
    assert isinstance(config, bytes)
    assert isinstance(index, bytes)
    known = {Digest.of(raw)}
    for number in range(0, len(config), 3):
        broken = bytearray(config)
        broken[number] ^= 2
        made = with_config(extra, bytes(broken))
        path = tmp_path / "d.tar"
        export.write_file(plan(source, [TWO], known=known, extras=[made]), source, path)
        target = store_with(tmp_path / f"t{number}", {NAME: artifact(raw)})
        try:
            load(target, path).require_complete()
        except PannierError:
            assert [entry.reference for entry in target.entries()] == [ONE]
        else:
            assert target.path(Digest.of(new)).read_bytes() == new


def with_config(extra: Extra, config: bytes) -> Extra:
    """The same delta with another config, every digest made to fit."""
    old = {item.digest: data for item, data in extra.blobs}
    manifest = next(data for item, data in extra.blobs if item == extra.descriptor)
    assert isinstance(manifest, bytes)
    value = json.loads(manifest)
    described = Descriptor(DELTA, Digest.of(config), len(config))
    value["config"] = described.to_json()
    raw = json.dumps(value).encode()
    head = Descriptor(extra.descriptor.media_type, Digest.of(raw), len(raw), artifact_type=DELTA)
    rest = [(item, old[item.digest]) for item, _ in extra.blobs[2:]]
    name = extra.reference.with_digest(head.digest)
    return Extra(name, head, ((head, raw), (described, config), *rest), extra.replaces)


def test_a_delta_bundle_is_deterministic(tmp_path: Path) -> None:
    raw, new = weights(tmp_path, "a"), weights(tmp_path, "b")
    source = store_with(tmp_path / "s", {NAME: artifact(raw), OTHER: artifact(new)})
    one = delta_bundle(source, ONE, TWO, tmp_path / "1.tar").read_bytes()
    assert one == delta_bundle(source, ONE, TWO, tmp_path / "2.tar").read_bytes()


def test_a_delta_without_its_base_says_so_and_names_nothing(tmp_path: Path) -> None:
    raw, new = weights(tmp_path, "a"), weights(tmp_path, "b")
    source = store_with(tmp_path / "s", {NAME: artifact(raw), OTHER: artifact(new)})
    known = {Digest.of(raw)}
    made = plan(source, [TWO], known=known, extras=delta.make(source, TWO, known=known))
    path = tmp_path / "d.tar"
    export.write_file(made, source, path)
    target = Store.open(tmp_path / "t")
    with pytest.raises(PannierError, match="builds on") as caught:
        load(target, path).require_complete()
    assert "import the bundle that this one builds on" in (caught.value.hint or "")
    assert target.entries() == ()


def test_a_delta_without_its_blocks_is_copied_again(tmp_path: Path) -> None:
    raw, new = weights(tmp_path, "a"), changed_tensor(weights(tmp_path, "b"))
    source = store_with(tmp_path / "s", {NAME: artifact(raw), OTHER: artifact(new)})
    path = delta_bundle(source, ONE, TWO, tmp_path / "d.tar")
    os.truncate(path, path.stat().st_size - 2048)
    target = store_with(tmp_path / "t", {NAME: artifact(raw)})
    with pytest.raises(PannierError, match="damaged") as caught:
        load(target, path).require_complete()
    assert "copy the bundle again" in (caught.value.hint or "")
    assert [entry.reference for entry in target.entries()] == [ONE]


# Pulls


class Watch:
    """Counts what a pull fetched, and keeps its notices."""

    def __init__(self) -> None:
        self.fetched = 0
        self.resumed = 0
        self.notices: list[str] = []

    def __call__(self, event: Event) -> None:
        match event:
            case Advanced(_, count):
                self.fetched += count
            case Started(_, resumed):
                self.resumed += resumed
            case Noticed(message):
                self.notices.append(message)
            case _:
                pass


def large(seed: int, template: bytes) -> bytes:
    """A GGUF of 3 MB whose only tensor keeps its bytes while the template changes."""
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 2)
    head += _string(b"general.architecture") + struct.pack("<I", 8) + _string(b"llama")
    head += _string(b"tokenizer.chat_template") + struct.pack("<I", 8) + _string(template)
    head += _string(b"w") + struct.pack("<IQIQ", 1, 750_000, 0, 0)
    return head + bytes(-len(head) % 32) + random.Random(seed).randbytes(3_000_000)


def _string(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data


@pytest.mark.registry
def test_a_pull_fetches_only_the_blocks_that_no_local_model_has(tmp_path: Path) -> None:
    old, new = large(1, b"old"), large(1, b"a new and longer template")
    settings = Settings.load({"PANNIER_HOME": str(tmp_path / "home")})
    with docker_registry(tmp_path / "registry") as registry:
        name = Reference.parse(f"{registry.host}/team/m:2")
        source = store_with(tmp_path / "s", {str(name): artifact(new)})
        blocks.index_model(source, name)
        operations.push(source, name, settings=settings)
        target = store_with(tmp_path / "t", {NAME: artifact(old)})
        watch = Watch()
        operations.pull(target, name, settings=settings, on_event=watch)
    assert target.path(Digest.of(new)).read_bytes() == new
    assert watch.resumed > 2_900_000
    assert watch.fetched < 5_000
    kinds = [a.kind for a in attachments.in_store(target, target.find(name).descriptor.digest)]
    assert kinds == [BLOCK_INDEX]


@pytest.mark.registry
def test_a_wrong_index_costs_a_plain_pull(tmp_path: Path) -> None:
    old, new = large(1, b"old"), large(2, b"new")
    settings = Settings.load({"PANNIER_HOME": str(tmp_path / "home")})
    with docker_registry(tmp_path / "registry") as registry:
        name = Reference.parse(f"{registry.host}/team/m:2")
        source = store_with(tmp_path / "s", {str(name): artifact(new)})
        hang_wrong_index(source, name, old, Digest.of(new), tmp_path)
        operations.push(source, name, settings=settings)
        target = store_with(tmp_path / "t", {NAME: artifact(old)})
        watch = Watch()
        operations.pull(target, name, settings=settings, on_event=watch)
    assert target.path(Digest.of(new)).read_bytes() == new
    assert any("pulled whole" in notice for notice in watch.notices)


def no_ranges(handler: Handler) -> bool:
    del handler.headers["Range"]
    return False


def ranges_of_other_bytes(handler: Handler) -> bool:
    return _answer_range(handler, lambda data, start, stop: (start, data[: stop - start]))


def ranges_of_another_place(handler: Handler) -> bool:
    return _answer_range(handler, lambda data, start, stop: (start + 1, data[start + 1 : stop + 1]))


def ranges_that_end_early(handler: Handler) -> bool:
    return _answer_range(handler, lambda data, start, stop: (start, data[start : stop - 1]))


def ranges_refused(handler: Handler) -> bool:
    return _range(handler) is not None and handler.answer(416)


def ranges_that_fail(handler: Handler) -> bool:
    return _range(handler) is not None and handler.answer(403, error_body("DENIED"))


def _range(handler: Handler) -> tuple[int, int] | None:
    match = re.fullmatch(r"bytes=([1-9]\d*)-(\d+)", handler.headers.get("Range", ""))
    return (int(match[1]), int(match[2]) + 1) if match and "/blobs/" in handler.path else None


def _answer_range(handler: Handler, lie: Callable[[bytes, int, int], tuple[int, bytes]]) -> bool:
    """Answer a Range that does not begin at the beginning with what `lie` makes of it."""
    asked = _range(handler)
    if asked is None:
        return False
    data = handler.script.blobs[handler.path.rpartition("/")[2]]
    start, part = lie(data, *asked)
    said = {"Content-Range": f"bytes {start}-{start + len(part) - 1}/{len(data)}"}
    return handler.answer(206, part, said)


@pytest.mark.parametrize(
    "hook",
    [
        no_ranges,
        ranges_of_other_bytes,
        ranges_of_another_place,
        ranges_that_end_early,
        ranges_refused,
        ranges_that_fail,
    ],
)
def test_a_registry_without_honest_ranges_costs_a_plain_pull(tmp_path: Path, hook: Hook) -> None:
    new = large(2, b"new")
    old = new[:1_000_000] + bytes(5000) + new[1_005_000:2_000_000] + bytes(5000) + new[2_005_000:]
    settings = settings_in(tmp_path)
    with scripted() as server:
        name = Reference.parse(f"{server.host}/team/m:2")
        source = store_with(tmp_path / "s", {str(name): artifact(new)})
        blocks.index_model(source, name)
        operations.push(source, name, settings=settings)
        server.script.hook = hook
        target = store_with(tmp_path / "t", {NAME: artifact(old)})
        watch = Watch()
        operations.pull(target, name, settings=settings, on_event=watch)
    assert target.path(Digest.of(new)).read_bytes() == new
    assert any("pulled whole" in notice for notice in watch.notices)


def hang_wrong_index(
    store: Store, name: Reference, other: bytes, digest: Digest, tmp_path: Path
) -> None:
    """An index that claims to be about `digest` but describes other bytes of the same size."""
    honest = index_of(tmp_path, other)
    lie = BlockIndex(digest, honest.step, honest.sections, honest.blocks).render()
    layer = Descriptor(BLOCK_INDEX, Digest.of(lie), len(lie), {BLOCK_INDEX_BLOB: str(digest)})
    manifest = attachments.make_referrer(
        store.find(name).descriptor,
        artifact_type=BLOCK_INDEX,
        layers=[layer],
        annotations={},
    )
    attachments.add(store, name, attachments.Attachment(manifest), {layer.digest: lie})


def test_indexes_travel_in_bundles(tmp_path: Path) -> None:
    source = store_with(tmp_path / "s", {NAME: artifact(large(1, b"x"))})
    (index,) = blocks.index_model(source, ONE)
    path = tmp_path / "b.tar"
    path.write_bytes(exported(source, NAME))
    target = Store.open(tmp_path / "t")
    load(target, path)
    found = attachments.in_store(target, target.find(ONE).descriptor.digest)
    assert blocks.find_index(target, found, index.digest) == index
