"""Archives in layers: what is read, and every way in which one can be hostile."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
import zlib
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from support import peers

from pannier.pkgmgr.archive import InvalidArchive, open_archive
from pannier.pkgmgr.descriptor import Descriptor
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import InvalidGGUF, PannierError, UnknownDialect
from pannier.pkgmgr.modelspec import ModelSpec, Part, Role
from pannier.pkgmgr.store.store import Store
from pannier.pkgmgr.unpack import unpack

FILES = [("a/b.gguf", b"GGUF" + b"x" * 1000), ("empty", b""), ("n" * 150 + "/long", b"y" * 512)]


def members(data: bytes) -> list[tuple[str, bytes]] | None:
    archive = open_archive(io.BytesIO(data), size=len(data), place="layer x")
    if archive is None:
        return None
    found = []
    for member in archive:
        content = b"".join(iter(lambda: archive.read(700), b""))
        assert len(content) == member.size
        found.append((member.name, content))
    return found


def tar_with(**fields: object) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("x.gguf")
        for key, value in fields.items():
            setattr(info, key, value)
        archive.addfile(info, io.BytesIO(bytes(int(info.size))))
    return out.getvalue()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_form_of_tar_is_read(form: int) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in FILES if form != tarfile.USTAR_FORMAT else FILES[:2]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    assert members(out.getvalue()) == (FILES if form != tarfile.USTAR_FORMAT else FILES[:2])


@pytest.mark.parametrize(
    "pack",
    [
        lambda data: data,
        lambda data: gzip.compress(data),
        lambda data: gzip.compress(data[:700]) + gzip.compress(data[700:]),
        lambda data: zstandard.ZstdCompressor().compress(data),
    ],
    ids=["plain", "gzip", "two gzip members", "zstd"],
)
def test_compressed_archives_are_read(pack: object) -> None:
    assert callable(pack)
    assert members(pack(peers.tar(FILES))) == FILES


@pytest.mark.parametrize("data", [b"", b"GGUF", peers.MODEL, b"x" * 2000, gzip.compress(b"no tar")])
def test_other_files_are_no_archives(data: bytes) -> None:
    assert members(data) is None


def test_links_and_devices_hold_nothing() -> None:
    for kind in (
        tarfile.LNKTYPE,
        tarfile.SYMTYPE,
        tarfile.CHRTYPE,
        tarfile.FIFOTYPE,
        tarfile.DIRTYPE,
    ):
        found = members(tar_with(type=kind, linkname="/etc/passwd"))
        assert found is not None
        assert all(content == b"" for _, content in found)


@pytest.mark.parametrize(
    "data",
    [
        peers.tar(FILES)[:700],
        gzip.compress(peers.tar(FILES))[:-20],
        gzip.compress(peers.tar(FILES))[:40] + b"\xff" * 40,
        zstandard.ZstdCompressor().compress(
            peers.tar([("r", random.Random(1).randbytes(300_000))])
        )[:4000],
        peers.tar([("a", b"")])[:512] + b"j" * 512,
    ],
)
def test_a_broken_archive_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidArchive, match="layer x cannot be unpacked"):
        members(data)


def test_a_giant_extended_header_is_refused_unread() -> None:
    header = bytearray(tar_with(type=b"x", size=0)[:512])
    header[124:136] = b"77777777777\0"
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    with pytest.raises(InvalidArchive, match="extended header has 8589934591 bytes"):
        members(bytes(header) + bytes(2048))


@pytest.mark.slow
def test_a_bomb_is_cut_off() -> None:
    state = zlib.compressobj(9, zlib.DEFLATED, 31)
    header = bytearray(tar_with()[:512])
    header[124:136] = b"77777777777\0"
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    data = state.compress(bytes(header))
    data += b"".join(state.compress(bytes(1 << 20)) for _ in range(300)) + state.flush()
    with pytest.raises(InvalidArchive, match="unpacks to more than"):
        members(data)


@settings(max_examples=200)
@given(st.data())
def test_a_damaged_archive_is_read_or_refused(data: st.DataObject) -> None:
    whole = bytearray(peers.tar(FILES))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        members(bytes(whole))
    except PannierError:
        return


def spec_of(store: Store, *layers: bytes) -> ModelSpec:
    parts = []
    for data in layers:
        descriptor = Descriptor("x", Digest.of(data), len(data))
        store.push(descriptor, io.BytesIO(data))
        parts.append(Part(Role.WEIGHTS, descriptor, None, is_packed=True))
    return ModelSpec(Digest.of(b"spec"), "image", tuple(parts))


@pytest.mark.parametrize(
    "name", ["/abs/m.gguf", "../../m.gguf", "C:\\m.gguf", "a/../../../m.gguf", "..", "m\\..\\x"]
)
def test_member_names_never_become_paths(tmp_path: Path, name: str) -> None:
    store = Store.open(tmp_path / "store")
    before = {path for path in tmp_path.rglob("*") if "store" not in path.parts}
    spec = unpack(store, spec_of(store, peers.tar([(name, peers.MODEL)])))
    assert store.path(spec.parts[0].descriptor.digest).read_bytes() == peers.MODEL
    assert {path for path in tmp_path.rglob("*") if "store" not in path.parts} == before


def test_two_models_and_no_word_which_one(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    data = peers.tar([("a.gguf", peers.MODEL), ("b.gguf", peers.SHARDS[0])])
    with pytest.raises(UnknownDialect, match=r"several models: a\.gguf, b\.gguf"):
        unpack(store, spec_of(store, data))
    chosen = peers.tar(
        [("a.gguf", peers.MODEL), ("b.gguf", peers.SHARDS[0])], [("model.file", "x/a.gguf")]
    )
    spec = unpack(store, spec_of(store, chosen))
    assert [part.filename for part in spec.select(Role.WEIGHTS)] == ["a.gguf"]


def test_shards_in_an_archive_come_in_order(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    names = ("m-00002-of-00002.gguf", "m-00001-of-00002.gguf")
    data = peers.tar([(names[0], peers.SHARDS[1]), (names[1], peers.SHARDS[0])])
    spec = unpack(store, spec_of(store, data))
    assert [part.filename for part in spec.parts] == [names[1], names[0]]


def test_a_bad_gguf_in_an_archive_is_refused(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    with pytest.raises(InvalidGGUF, match=r"bad\.gguf is not a usable GGUF"):
        unpack(store, spec_of(store, peers.tar([("bad.gguf", b"GGUF" + b"\xff" * 100)])))


def test_an_archive_without_a_model(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    with pytest.raises(UnknownDialect, match="none of its layers holds a GGUF"):
        unpack(store, spec_of(store, peers.tar([("README.md", b"# hello")]), b"something else"))
