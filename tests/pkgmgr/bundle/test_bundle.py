from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import random
import shutil
import subprocess
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest
from support.bundles import (
    NAME,
    OTHER,
    exported,
    model,
    repacked,
    store_with,
    unpacked,
    weights,
)

from pannier.pkgmgr import attachments
from pannier.pkgmgr.bundle import export
from pannier.pkgmgr.bundle.load import load
from pannier.pkgmgr.bundle.look import verify_path
from pannier.pkgmgr.bundle.plan import plan
from pannier.pkgmgr.bundle.source import open_bundle
from pannier.pkgmgr.bundle.stream import load_stream
from pannier.pkgmgr.bundle.volumes import checksum_path, volume_path
from pannier.pkgmgr.descriptor import Descriptor
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import (
    DigestMismatch,
    IncompleteBundle,
    InvalidBundle,
    InvalidOption,
    ModelNotFound,
    Untrusted,
)
from pannier.pkgmgr.mediatypes import OCI_MANIFEST, REF_NAME
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.store.store import Store
from pannier.pkgmgr.trust.keys import SigningKey
from pannier.pkgmgr.trust.signing import sign

ONE, TWO = Reference.parse(NAME), Reference.parse(OTHER)
KEY = SigningKey.generate()


@pytest.fixture
def source(tmp_path: Path) -> Store:
    return store_with(tmp_path / "source", {NAME: model(1), OTHER: model(2)})


@pytest.fixture
def target(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "target")


def write(path: Path, raw: bytes) -> Path:
    path.write_bytes(raw)
    return path


def flip(path: Path, offset: int) -> None:
    """Change one byte of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        old = file.read(1)
        file.seek(offset)
        file.write(bytes((old[0] ^ 1,)))


def names(store: Store) -> set[str]:
    return {entry.reference.name for entry in store.entries()}


def blobs(store: Store) -> set[str]:
    return {path.name for path in (store.root / "blobs" / "sha256").iterdir()}


def content_of(store: Store, reference: Reference) -> list[str]:
    manifest = store.manifest(store.find(reference).descriptor.digest)
    return [str(child.digest) for child in manifest.children]


def test_an_exported_model_is_imported_with_the_same_digest(
    source: Store, target: Store, tmp_path: Path
) -> None:
    done = load(target, write(tmp_path / "b.tar", exported(source, NAME)))
    assert done.models[0][1].digest == source.find(ONE).descriptor.digest
    assert names(target) == {NAME}
    for child in target.manifest(target.find(ONE).descriptor.digest).children:
        assert target.exists(child)


def test_the_same_models_give_the_same_bytes(source: Store, tmp_path: Path) -> None:
    again = store_with(
        tmp_path / "again", {OTHER: model(2), "a.example/x": model(9), NAME: model(1)}
    )
    assert exported(source, NAME, OTHER) == exported(again, OTHER, NAME)


def test_blobs_that_models_share_are_written_once(source: Store) -> None:
    members = [name for name, _ in unpacked(exported(source, NAME, OTHER))]
    shared = hashlib.sha256(b"shared licence").hexdigest()
    assert members.count(f"blobs/sha256/{shared}") == 1


def test_heads_come_first_then_small_blobs_then_aligned_weights(source: Store) -> None:
    raw = exported(source, NAME)
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        infos = list(tar)
    assert [info.name for info in infos[:2]] == ["oci-layout", "index.json"]
    sizes = [info.size for info in infos[3:]]
    assert sizes == sorted(sizes)
    assert infos[-1].size == 300_000
    assert infos[-1].offset_data % 4096 == 0


def test_a_pipe_is_imported_in_one_pass(source: Store, target: Store) -> None:
    class Pipe(io.RawIOBase):
        def __init__(self, raw: bytes) -> None:
            self._raw = io.BytesIO(raw)

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1, /) -> bytes:
            return self._raw.read(min(size, 7777) if size >= 0 else 7777)

    done = load_stream(target, Pipe(exported(source, NAME, OTHER)), place="standard input")
    assert {reference.name for reference, _ in done.models} == {NAME, OTHER}
    assert names(target) == {NAME, OTHER}


def test_one_of_several_models_is_chosen_by_name(
    source: Store, target: Store, tmp_path: Path
) -> None:
    load(target, write(tmp_path / "b.tar", exported(source, NAME, OTHER)), [TWO])
    assert names(target) == {OTHER}
    assert hashlib.sha256(weights(1)).hexdigest() not in blobs(target)


def test_a_name_that_is_not_in_the_bundle_is_said(
    source: Store, target: Store, tmp_path: Path
) -> None:
    with pytest.raises(ModelNotFound) as caught:
        load(target, write(tmp_path / "b.tar", exported(source, NAME)), [TWO])
    assert "reviewer" in (caught.value.hint or "")
    assert not blobs(target)


def test_signatures_travel_with_their_model(source: Store, target: Store, tmp_path: Path) -> None:
    sign(source, ONE, KEY, now=lambda: 0)
    load(target, write(tmp_path / "b.tar", exported(source, NAME)))
    digest = target.find(ONE).descriptor.digest
    kinds = {item.kind for item in attachments.in_store(target, digest)}
    assert len(kinds) == 2


def test_a_second_import_takes_only_what_the_first_did_not(
    source: Store, target: Store, tmp_path: Path
) -> None:
    path = write(tmp_path / "b.tar", exported(source, NAME))
    load(target, path)
    before = {
        item.name: item.stat().st_ino for item in (target.root / "blobs" / "sha256").iterdir()
    }
    load(target, path)
    after = {item.name: item.stat().st_ino for item in (target.root / "blobs" / "sha256").iterdir()}
    assert before == after


def test_a_truncated_bundle_gives_its_whole_models_and_names_what_the_other_lacks(
    source: Store, target: Store, tmp_path: Path
) -> None:
    raw = exported(source, NAME, OTHER)
    done = load(target, write(tmp_path / "b.tar", raw[: len(raw) - 200_000]))
    assert len(done.models) == 1
    with pytest.raises(IncompleteBundle, match=r"lacks sha256:.*300000 bytes.*truncated"):
        done.require_complete()
    assert names(target) == {done.models[0][0].name}


def test_a_damaged_blob_is_named_and_its_model_not_imported(
    source: Store, target: Store, tmp_path: Path
) -> None:
    raw = bytearray(exported(source, NAME))
    raw[-5000] ^= 1
    done = load(target, write(tmp_path / "b.tar", bytes(raw)))
    assert done.models == ()
    assert hashlib.sha256(weights(1)).hexdigest()[:12] in done.lacking[0]
    assert not names(target)


def test_a_damaged_blob_in_a_pipe_is_named_too(source: Store, target: Store) -> None:
    raw = bytearray(exported(source, NAME))
    raw[-5000] ^= 1
    done = load_stream(target, io.BytesIO(bytes(raw)), place="standard input")
    assert done.models == ()
    assert hashlib.sha256(weights(1)).hexdigest()[:12] in done.lacking[0]


def test_bit_rot_in_the_store_does_not_travel(source: Store) -> None:
    path = source.root / "blobs" / "sha256" / hashlib.sha256(weights(1)).hexdigest()
    path.chmod(0o644)
    path.write_bytes(b"x" + weights(1)[1:])
    with pytest.raises(DigestMismatch):
        exported(source, NAME)


def test_a_file_appears_only_when_it_is_whole(source: Store, tmp_path: Path) -> None:
    path = source.root / "blobs" / "sha256" / hashlib.sha256(weights(1)).hexdigest()
    path.chmod(0o644)
    path.write_bytes(b"short")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(Exception, match="size mismatch"):
        export.write_file(plan(source, [ONE]), source, out / "b.tar")
    with pytest.raises(Exception, match="size mismatch"):
        export.write_volumes(plan(source, [ONE]), source, out / "b.tar", size=1 << 20)
    assert list(out.iterdir()) == []


def test_volumes_are_joined_again(tmp_path: Path, target: Store) -> None:
    source = store_with(tmp_path / "big", {NAME: model(3, size=2_500_000)})
    path = tmp_path / "b.tar"
    volumes = export.write_volumes(plan(source, [ONE]), source, path, size=1 << 20)
    assert len(volumes) == 3
    assert {item.stat().st_size for item in volumes[:-1]} == {1 << 20}
    subprocess.run(
        ["sha256sum", "--quiet", "-c", checksum_path(path).name], cwd=tmp_path, check=True
    )
    load(target, path)
    assert names(target) == {NAME}


def test_a_missing_volume_is_named(tmp_path: Path, target: Store) -> None:
    source = store_with(tmp_path / "big", {NAME: model(3, size=2_500_000)})
    path = tmp_path / "b.tar"
    export.write_volumes(plan(source, [ONE]), source, path, size=1 << 20)
    volume_path(path, 2).unlink()
    with pytest.raises(InvalidBundle, match=r"b\.tar\.002"):
        load(target, path)


@pytest.mark.parametrize("given", ["b.tar", "b.tar.002", "b.tar.sha256"])
def test_a_missing_first_volume_is_named(tmp_path: Path, target: Store, given: str) -> None:
    volume_path(split(tmp_path), 1).unlink()
    with pytest.raises(InvalidBundle, match=r"missing: b\.tar\.001"):
        load(target, tmp_path / given)


@pytest.mark.parametrize("module", [gzip, bz2, lzma])
def test_a_compressed_bundle_says_how_to_unpack_it(
    source: Store, target: Store, tmp_path: Path, module: ModuleType
) -> None:
    data = write(tmp_path / "b.tar", exported(source, NAME)).read_bytes()
    path = write(tmp_path / "b.tar.packed", module.compress(data))
    with pytest.raises(InvalidBundle, match="compressed") as caught:
        load(target, path)
    assert "-dc FILE | pannier import -" in (caught.value.hint or "")


def with_damage(path: Path, raw: bytes) -> None:
    """Flip a byte in the middle of something that a bundle holds."""
    flip(path, path.read_bytes().index(raw) + len(raw) // 2)


@pytest.mark.parametrize("by_pipe", [False, True])
def test_a_damaged_manifest_costs_one_model(
    source: Store, target: Store, tmp_path: Path, *, by_pipe: bool
) -> None:
    path = write(tmp_path / "b.tar", exported(source, NAME, OTHER))
    root = source.find(ONE).descriptor
    with_damage(path, source.path(root.digest).read_bytes())
    assert verify_path(path) == (
        f"{NAME} has damaged sha256:{root.digest.short} ({root.size} bytes)",
    )
    with path.open("rb") as stream:
        done = load_stream(target, stream, place="pipe") if by_pipe else load(target, path)
    with pytest.raises(IncompleteBundle, match=f"{NAME} has damaged") as caught:
        done.require_complete()
    assert "copy the bundle again" in (caught.value.hint or "")
    assert names(target) == {OTHER}


@pytest.mark.parametrize("by_pipe", [False, True])
def test_a_damaged_signature_is_named(
    source: Store, target: Store, tmp_path: Path, *, by_pipe: bool
) -> None:
    sign(source, ONE, KEY, now=lambda: 0)
    path = write(tmp_path / "b.tar", exported(source, NAME))
    found = attachments.in_store(source, source.find(ONE).descriptor.digest)
    with_damage(path, found[0].manifest.raw)
    with path.open("rb") as stream:
        done = load_stream(target, stream, place="pipe") if by_pipe else load(target, path)
    with pytest.raises(IncompleteBundle, match=found[0].manifest.descriptor.digest.short):
        done.require_complete()
    assert NAME in names(target)


def split(tmp_path: Path) -> Path:
    """A bundle in three volumes; its name."""
    source = store_with(tmp_path / "big", {NAME: model(3, size=2_500_000)})
    path = tmp_path / "b.tar"
    export.write_volumes(plan(source, [ONE]), source, path, size=1 << 20)
    return path


@pytest.mark.parametrize("given", ["b.tar", "b.tar.001", "b.tar.003", "b.tar.sha256"])
def test_any_of_its_files_names_a_split_bundle(tmp_path: Path, target: Store, given: str) -> None:
    split(tmp_path)
    load(target, tmp_path / given).require_complete()
    assert names(target) == {NAME}


@pytest.mark.parametrize(("number", "offset"), [(1, 5), (2, 600_000), (3, 1000)])
def test_a_damaged_volume_is_named(tmp_path: Path, number: int, offset: int) -> None:
    path = split(tmp_path)
    flip(volume_path(path, number), offset)
    problems = verify_path(path)
    assert problems[-1] == f"volume b.tar.00{number} is damaged: copy it again"
    assert len(problems) == 2


def test_a_volume_that_was_cut_short_is_named(tmp_path: Path, target: Store) -> None:
    path = split(tmp_path)
    os.truncate(volume_path(path, 3), 1000)
    assert "volume b.tar.003 is damaged: copy it again" in verify_path(path)
    with pytest.raises(IncompleteBundle) as caught:
        load(target, path).require_complete()
    assert "copy the bundle again" in (caught.value.hint or "")


def test_volumes_under_other_names_are_refused(tmp_path: Path, target: Store) -> None:
    path = split(tmp_path)
    for old in (*(volume_path(path, n) for n in (1, 2, 3)), checksum_path(path)):
        old.rename(old.with_name(old.name.replace("b.tar", "c.tar")))
    with pytest.raises(InvalidBundle, match="does not list the volumes"):
        load(target, tmp_path / "c.tar")


@pytest.mark.parametrize(
    "name", ["modèle ☃.tar", "line\u2028separator.tar", os.fsdecode(b"\xff.tar")]
)
def test_volumes_may_have_any_name(tmp_path: Path, source: Store, target: Store, name: str) -> None:
    path = tmp_path / name
    export.write_volumes(plan(source, [ONE]), source, path, size=1 << 20)
    assert verify_path(path) == ()
    load(target, path)
    assert names(target) == {NAME}


def test_volumes_have_no_line_break_in_their_name(tmp_path: Path, source: Store) -> None:
    with pytest.raises(InvalidOption, match="line break"):
        export.write_volumes(plan(source, [ONE]), source, tmp_path / "a\nb", size=1 << 20)


def test_a_checksum_list_may_have_carriage_returns(tmp_path: Path, target: Store) -> None:
    path = split(tmp_path)
    sums = checksum_path(path)
    sums.write_bytes(sums.read_bytes().replace(b"\n", b"\r\n"))
    load(target, path)
    assert names(target) == {NAME}


def test_a_pipe_gets_a_bundle_and_stays_one(tmp_path: Path, source: Store, target: Store) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(export.write_file, plan(source, [ONE]), source, path)
        with path.open("rb") as stream:
            load_stream(target, stream, place="a pipe")
        writing.result()
    assert path.is_fifo()
    assert names(target) == {NAME}


def test_a_link_is_followed_and_stays_one(tmp_path: Path, source: Store, target: Store) -> None:
    (tmp_path / "link.tar").symlink_to("b.tar")
    export.write_file(plan(source, [ONE]), source, tmp_path / "link.tar")
    assert (tmp_path / "link.tar").is_symlink()
    load(target, tmp_path / "b.tar")


def test_a_shorter_second_export_leaves_no_old_volume(tmp_path: Path, source: Store) -> None:
    big = store_with(tmp_path / "big", {NAME: model(3, size=2_500_000)})
    path = tmp_path / "b.tar"
    export.write_volumes(plan(big, [ONE]), big, path, size=1 << 20)
    export.write_volumes(plan(source, [ONE]), source, path, size=1 << 20)
    assert not volume_path(path, 2).exists()


def test_volumes_are_not_hidden_behind_a_whole_bundle(source: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "b.tar", exported(source, NAME))
    with pytest.raises(InvalidOption, match="there already"):
        export.write_volumes(plan(source, [TWO]), source, path, size=1 << 20)


def test_volumes_must_not_be_tiny(source: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidOption):
        export.write_volumes(plan(source, [ONE]), source, tmp_path / "b", size=1000)


def test_a_layout_directory_works_like_a_tar(source: Store, target: Store, tmp_path: Path) -> None:
    export.write_directory(plan(source, [ONE, TWO]), source, tmp_path / "layout")
    load(target, tmp_path / "layout")
    assert names(target) == {NAME, OTHER}


def test_what_is_no_manifest_in_a_layout_hinders_no_model(
    source: Store, target: Store, tmp_path: Path
) -> None:
    layout = tmp_path / "layout"
    export.write_directory(plan(source, [ONE]), source, layout)
    strange = b'{"schemaVersion": 1}'
    (layout / "blobs/sha256" / Digest.of(strange).hex).write_bytes(strange)
    index = json.loads((layout / "index.json").read_bytes())
    described = Descriptor(OCI_MANIFEST, Digest.of(strange), len(strange), {REF_NAME: OTHER})
    index["manifests"].append(described.to_json())
    (layout / "index.json").write_text(json.dumps(index))
    load(target, layout, [ONE])
    assert names(target) == {NAME}


def test_a_second_export_into_a_layout_adds_to_it(
    source: Store, target: Store, tmp_path: Path
) -> None:
    layout = tmp_path / "layout"
    for reference in (TWO, ONE):
        export.write_directory(plan(source, [reference]), source, layout)
    load(target, layout)
    assert names(target) == {NAME, OTHER}
    model(4).push_to(source, NAME)
    export.write_directory(plan(source, [ONE]), source, layout)
    export.write_directory(plan(source, [ONE, TWO]), source, tmp_path / "fresh")
    index = (layout / "index.json").read_bytes()
    assert index == (tmp_path / "fresh" / "index.json").read_bytes()


def test_a_directory_of_other_things_is_not_written_into(source: Store, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "file").touch()
    with pytest.raises(InvalidOption):
        export.write_directory(plan(source, [ONE]), source, tmp_path / "d")


def test_links_in_a_layout_directory_are_not_followed(
    source: Store, target: Store, tmp_path: Path
) -> None:
    layout = tmp_path / "layout"
    export.write_directory(plan(source, [ONE]), source, layout)
    blob = layout / "blobs" / "sha256" / hashlib.sha256(weights(1)).hexdigest()
    blob.rename(tmp_path / "elsewhere")
    blob.symlink_to(tmp_path / "elsewhere")
    done = load(target, layout)
    assert done.models == ()


def test_members_in_any_order_are_read_from_a_file(
    source: Store, target: Store, tmp_path: Path
) -> None:
    members = unpacked(exported(source, NAME, OTHER))
    random.Random(4).shuffle(members)
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        load(target, write(tmp_path / "b.tar", repacked(members, form=form)))
    assert names(target) == {NAME, OTHER}


def test_members_in_any_order_are_read_from_a_pipe(source: Store, target: Store) -> None:
    members = unpacked(exported(source, NAME))[::-1]
    load_stream(target, io.BytesIO(repacked(members)), place="standard input")
    assert names(target) == {NAME}


def test_what_gnu_tar_makes_of_a_layout_directory_is_read(
    source: Store, target: Store, tmp_path: Path
) -> None:
    export.write_directory(plan(source, [ONE]), source, tmp_path / "layout")
    subprocess.run(["tar", "-C", tmp_path / "layout", "-cf", tmp_path / "b.tar", "."], check=True)
    load(target, tmp_path / "b.tar")
    assert names(target) == {NAME}


def test_a_model_without_a_full_name_gets_the_one_given(
    source: Store, target: Store, tmp_path: Path
) -> None:
    members = dict(unpacked(exported(source, NAME)))
    index = json.loads(members["index.json"])
    index["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": "1"}
    members["index.json"] = json.dumps(index).encode()
    path = write(tmp_path / "b.tar", repacked(members.items()))
    with pytest.raises(InvalidOption, match="no full model name"):
        load(target, path)
    load(target, path, [TWO])
    assert names(target) == {OTHER}


def test_what_the_other_side_has_is_left_out(source: Store, target: Store, tmp_path: Path) -> None:
    load(target, write(tmp_path / "one.tar", exported(source, NAME)))
    known = {child.digest for child in source.manifest(source.find(ONE).descriptor.digest).children}
    out = io.BytesIO()
    made = plan(source, [TWO], known=known)
    export.write_tar(made, source, out)
    assert [item.size for item in made.left_out]
    path = write(tmp_path / "two.tar", out.getvalue())
    load(target, path).require_complete()
    assert names(target) == {NAME, OTHER}


def test_a_bundle_that_builds_on_an_absent_one_says_what_it_lacks(
    source: Store, target: Store, tmp_path: Path
) -> None:
    known = {child.digest for child in source.manifest(source.find(ONE).descriptor.digest).children}
    out = io.BytesIO()
    export.write_tar(plan(source, [ONE], known=known), source, out)
    done = load(target, write(tmp_path / "b.tar", out.getvalue()))
    with pytest.raises(IncompleteBundle, match="lacks"):
        done.require_complete()
    assert not blobs(target)


def bring(store: Store, raw: bytes, tmp_path: Path, piped: bool) -> None:
    if piped:
        load_stream(store, io.BytesIO(raw), place="standard input")
    else:
        load(store, write(tmp_path / "b.tar", raw))


def enforce(store: Store, key: SigningKey) -> None:
    (store.root / "team.pub").write_bytes(key.public.pem)
    (store.root / "policy.toml").write_text(
        'version = 1\ndefault = "enforce"\n[keys]\nteam = "team.pub"\n'
    )


@pytest.mark.parametrize("piped", [False, True])
def test_the_policy_is_asked_before_weights_come_in(
    piped: bool, target: Store, tmp_path: Path
) -> None:
    big = store_with(tmp_path / "big", {NAME: model(5, size=2_000_000)})
    enforce(target, KEY)
    with pytest.raises(Untrusted):
        bring(target, exported(big, NAME), tmp_path, piped)
    assert hashlib.sha256(weights(5, 2_000_000)).hexdigest() not in blobs(target)
    sign(big, ONE, KEY, now=lambda: 0)
    bring(target, exported(big, NAME), tmp_path, piped)
    assert ONE.name in names(target)


def test_a_large_stray_blob_in_a_pipe_is_refused(tmp_path: Path, target: Store) -> None:
    big = store_with(tmp_path / "big", {NAME: model(5, size=2_000_000)})
    stray = weights(6, 3_000_000)
    members = unpacked(exported(big, NAME))
    members.append((f"blobs/sha256/{hashlib.sha256(stray).hexdigest()}", stray))
    with pytest.raises(InvalidBundle, match="belongs to no model"):
        load_stream(target, io.BytesIO(repacked(members)), place="standard input")
    assert names(target) == set()


def test_a_reader_sees_the_bundle_while_it_is_open(source: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "b.tar", exported(source, NAME))
    with open_bundle(path) as bundle:
        assert bundle.resolve(ONE).digest == source.find(ONE).descriptor.digest
        with pytest.raises(ModelNotFound):
            bundle.resolve(TWO)


@pytest.mark.skopeo
@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
class TestSkopeo:
    def test_reads_our_bundle_and_our_layout(self, source: Store, tmp_path: Path) -> None:
        path = write(tmp_path / "b.tar", exported(source, NAME, OTHER))
        export.write_directory(plan(source, [ONE]), source, tmp_path / "layout")
        for where in (f"oci-archive:{path}:{NAME}", f"oci:{tmp_path / 'layout'}:{NAME}"):
            raw = subprocess.run(
                ["skopeo", "inspect", "--raw", where], check=True, capture_output=True
            ).stdout
            assert hashlib.sha256(raw).hexdigest() == source.find(ONE).descriptor.digest.hex

    def test_copies_out_of_our_bundle_and_we_read_its_archive(
        self, source: Store, target: Store, tmp_path: Path
    ) -> None:
        path = write(tmp_path / "b.tar", exported(source, NAME))
        copied = tmp_path / "copy.tar"
        subprocess.run(
            [
                "skopeo", "copy", "-q", "--insecure-policy",
                f"oci-archive:{path}", f"oci-archive:{copied}:{NAME}",
            ],
            check=True,
        )  # fmt: skip
        done = load(target, copied)
        assert done.models[0][1].digest == source.find(ONE).descriptor.digest


def test_import_of_nothing_is_an_error(target: Store, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(target, tmp_path / "absent.tar")
    with pytest.raises(InvalidBundle):
        load(target, write(tmp_path / "empty.tar", b""))
    with pytest.raises(InvalidBundle):
        load_stream(target, io.BytesIO(b""), place="standard input")


def test_an_old_bundle_keeps_its_times_out_of_the_bytes(source: Store) -> None:
    before = exported(source, NAME)
    for path in (source.root / "blobs" / "sha256").iterdir():
        os.utime(path, (time.time() - 1e6, time.time() - 1e6))
    assert exported(source, NAME) == before


def test_content_of_a_model_is_what_it_was(source: Store, target: Store, tmp_path: Path) -> None:
    load(target, write(tmp_path / "b.tar", exported(source, NAME)))
    assert content_of(target, ONE) == content_of(source, ONE)
