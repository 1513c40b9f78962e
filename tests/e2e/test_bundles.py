"""The commands of bundles, trust, locks and upkeep as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from support.cli import PROGRAM, Pannier
from support.registry import DockerRegistry, free_port

PASSPHRASE = {"PANNIER_KEY_PASSPHRASE": "correct horse"}


@pytest.fixture
def other(tmp_path: Path) -> Pannier:
    return Pannier(tmp_path / "other")


@pytest.fixture
def reviewer(pannier: Pannier, tiny: Path) -> str:
    """A model in the store; its digest."""
    return pannier.create("reviewer", tiny, "SYSTEM Be kind.")


def test_export_and_import_print_the_same_digest(
    pannier: Pannier, other: Pannier, reviewer: str, tmp_path: Path
) -> None:
    bundle = tmp_path / "b.tar"
    done = pannier("export", "reviewer", "-o", bundle)
    assert (done.code, done.out) == (0, f"{reviewer} reviewer:latest\n"), done.err
    done = other("import", bundle, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out) == {
        "models": [{"name": "reviewer:latest", "digest": reviewer}],
        "lacking": [],
    }
    assert other.names() == ["reviewer:latest"]


@pytest.mark.parametrize(("out", "source"), [("-", "-"), ("/dev/stdout", "/dev/stdin")])
def test_a_bundle_goes_through_a_pipe(
    pannier: Pannier, other: Pannier, reviewer: str, out: str, source: str
) -> None:
    sending = pannier.start("export", "reviewer", "-o", out)
    done = subprocess.run(
        [PROGRAM, "import", source],
        stdin=sending.stdout,
        env=other.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    sending.communicate()
    assert (sending.returncode, done.returncode) == (0, 0), done.stderr
    assert done.stdout.split() == [reviewer, "reviewer:latest"]


def test_a_full_medium_is_told_as_one(pannier: Pannier, reviewer: str) -> None:
    done = pannier("export", "reviewer", "-o", "/dev/full")
    done.fails(1, "no space left for /dev/full")
    assert "--split" in done.err
    assert Path("/dev/full").is_char_device()


def test_a_cut_bundle_fails_with_what_it_lacks(
    pannier: Pannier, other: Pannier, reviewer: str, tmp_path: Path
) -> None:
    bundle = tmp_path / "b.tar"
    pannier("export", "reviewer", "-o", bundle)
    os.truncate(bundle, bundle.stat().st_size // 2)
    done = other("import", bundle)
    assert done.code == 4
    assert "reviewer:latest lacks" in done.err
    assert other.names() == []
    assert pannier("bundle", "verify", bundle).code == 4


def test_wrong_arguments_say_what_to_type(pannier: Pannier, reviewer: str, tmp_path: Path) -> None:
    pannier("import", tmp_path / "absent.tar").fails(3, "there is no bundle")
    pannier("export", "nobody", "-o", tmp_path / "b.tar").fails(3, "'nobody:latest' not found")
    pannier("export", "reviewer", "-o", tmp_path / "b", "--split", "huge").fails(2, "no size")
    pannier("export", "reviewer", "-o", tmp_path / "b", "--split", "1K").fails(2, "too small")
    pannier("export", "reviewer", "-o", "-", "--split", "4M").fails(2, "not of a pipe")
    pannier("export", "reviewer", "-o", f"{tmp_path}/b/", "--split", "4M").fails(2, "a directory")
    pannier("export", "reviewer", "-o", tmp_path / "b", "--since", "x").fails(3, "--since x: there")
    pannier("bundle", "list", PROGRAM).fails(4, "not a tar file")
    pannier("verify", "reviewer", "--all").fails(2, "exclude each other")
    pannier("verify-signature", "reviewer").fails(2, "neither a --key nor a trust policy")
    pannier("sync").fails(3, "no lock file")
    pannier("lock").fails(2, "no model is named")
    pannier("sbom", "reviewer", "--format", "xml").fails(2, "no format")
    pannier("sign", "reviewer", "--key", tmp_path / "absent.key").fails(3, "no key file")
    pannier("attach", "reviewer", PROGRAM, "--type", "nonsense").fails(2, "is no media type")
    pannier("sync", "-f", tmp_path).fails(2, "Is a directory")
    assert list(tmp_path.glob("b*")) == []


def test_a_signed_model_is_verified_and_a_changed_key_is_not(
    pannier: Pannier, reviewer: str, tmp_path: Path
) -> None:
    for name in ("team", "other"):
        done = pannier("key", "generate", tmp_path / name, **PASSPHRASE)
        assert done.code == 0, done.err
    signature = tmp_path / "model.sig"
    key = tmp_path / "team.key"
    done = pannier("sign", "reviewer", "--key", key, "--model-signature", signature, **PASSPHRASE)
    assert done.code == 0, done.err
    good = ("verify-signature", "reviewer", "--key", tmp_path / "team.pub")
    assert reviewer in pannier(*good).out
    assert pannier(*good, "--model-signature", signature).code == 0
    bad = ("verify-signature", "reviewer", "--key", tmp_path / "other.pub")
    pannier(*bad).fails(4, "is not signed by key")
    pannier(*bad, "--model-signature", signature).fails(4, "signature is not by key")
    wrong = {"PANNIER_KEY_PASSPHRASE": "guess"}
    pannier("sign", "reviewer", "--key", key, **wrong).fails(2, "wrong passphrase")
    assert pannier.names() == ["reviewer:latest"]
    kinds = json.loads(pannier("referrers", "reviewer", "--json").out)
    assert len(kinds) == 2


def test_what_is_attached_is_told_by_its_digest(
    pannier: Pannier, reviewer: str, tmp_path: Path
) -> None:
    (tmp_path / "made.json").write_text("{}")
    made = pannier("attach", "reviewer", tmp_path / "made.json", "-t", "application/json").out
    bill = json.loads(pannier("sbom", "reviewer", "--attach", "--json").out)["digest"]
    held = json.loads(pannier("referrers", "reviewer", "--json").out)
    assert {item["digest"] for item in held} == {made.strip(), bill}


def test_a_refused_model_neither_shows_as_trusted_nor_runs(pannier: Pannier, reviewer: str) -> None:
    (pannier.home / "policy.toml").write_text('version = 1\ndefault = "enforce"\n')
    pannier("run", "reviewer", "hello").fails(4, "trust policy refuses reviewer:latest")
    shown = json.loads(pannier("show", "reviewer", "--json").out)
    assert shown["trust"]["allowed"] is False
    assert "refused (enforce)" in pannier("show", "reviewer").out


def rot(blob: Path, offset: int) -> None:
    blob.chmod(0o644)
    with blob.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff\xfe\xfd")


def test_rot_behind_a_rotted_manifest_is_mended_too(
    pannier: Pannier, reviewer: str, tmp_path: Path
) -> None:
    bundle = tmp_path / "b.tar"
    pannier("export", "reviewer", "-o", bundle)
    rot(max(pannier.blobs(), key=lambda path: path.stat().st_size), 100_000)
    rot(next(path for path in pannier.blobs() if reviewer.endswith(path.name)), 10)
    assert "damaged" in pannier("list").out
    mended = pannier("verify", "--repair", "--from", bundle, "--json")
    assert mended.code == 0, mended.err
    assert len(json.loads(mended.out)["repaired"]) == 2
    assert pannier("verify").code == 0


def test_rot_is_found_named_and_mended(pannier: Pannier, reviewer: str, tmp_path: Path) -> None:
    bundle = tmp_path / "b.tar"
    pannier("export", "reviewer", "-o", bundle)
    blob = max(pannier.blobs(), key=lambda path: path.stat().st_size)
    rot(blob, 100_000)
    found = pannier("verify")
    assert found.code == 4
    assert blob.name in found.out
    mended = pannier("verify", "--repair", "--from", str(bundle), "--json")
    assert mended.code == 0, mended.err
    assert json.loads(mended.out)["repaired"][0]["from"] == str(bundle)
    assert pannier("verify").code == 0


def test_df_and_prune_speak_of_bytes(pannier: Pannier, reviewer: str) -> None:
    used = json.loads(pannier("df", "--json").out)
    assert used["models"][0]["name"] == "reviewer:latest"
    assert used["unnamed"] == 0
    assert json.loads(pannier("prune", "--dry-run", "--json").out)["files"] == 0


@pytest.mark.registry
def test_a_lock_is_synced_on_another_machine_and_frozen(
    pannier: Pannier, other: Pannier, tiny: Path, registry: DockerRegistry, tmp_path: Path
) -> None:
    name = f"{registry.host}/team/locked:1"
    digest = pannier.create(name, tiny, "SYSTEM Be kind.")
    pannier("push", name)
    lock = tmp_path / "pannier.lock"
    assert pannier("lock", name, "-f", lock).out == f"{digest} {name}\n"
    assert pannier("lock", "--check", "-f", lock).out == f"{digest} {name}\n"
    other("sync", "--frozen", "-f", lock).fails(4, "is absent, but the lock file pins")
    assert other("sync", "-f", lock).code == 0
    assert other("sync", "--frozen", "-f", lock).code == 0
    pannier.create(name, tiny, "SYSTEM Be brief.")
    pannier("push", name)
    (changed,) = json.loads(other("outdated", "-f", lock, "--json").out)
    assert (changed["state"], changed["locked"]) == ("changed", digest)
    assert other("update", "-f", lock).code == 0
    assert json.loads(other("outdated", "-f", lock, "--json").out) == []


@pytest.mark.registry
def test_an_update_that_fails_half_way_leaves_a_lock_that_fits(
    pannier: Pannier, other: Pannier, tiny: Path, registry: DockerRegistry, tmp_path: Path
) -> None:
    moved, away = f"{registry.host}/team/half:1", f"{registry.host}/team/half:2"
    lock = tmp_path / "pannier.lock"
    for name in (moved, away):
        pannier.create(name, tiny, "SYSTEM Be kind.")
        other.create(name, tiny, "SYSTEM Be kind.")
    assert pannier("lock", moved, away, "-f", lock).code == 0
    digest = other.create(moved, tiny, "SYSTEM Be brief.")
    other("push", moved)
    done = pannier("update", "-f", lock)
    assert (done.code, "not found" in done.err) == (3, True)
    assert done.out == f"{digest} {moved}\n"
    assert pannier("lock", "--check", "-f", lock).code == 0


@pytest.mark.slow
@pytest.mark.registry
def test_a_lock_is_synced_through_a_mirror_of_a_registry_that_is_away(
    pannier: Pannier, other: Pannier, tiny: Path, registry: DockerRegistry, tmp_path: Path
) -> None:
    away = f"127.0.0.1:{free_port()}"
    name, lock = f"{away}/team/mirrored:1", tmp_path / "pannier.lock"
    digest = pannier.create(name, tiny, "SYSTEM Be kind.")
    assert pannier("push", name, f"{registry.host}/team/mirrored:1").code == 0
    assert pannier("lock", name, "-f", lock).code == 0
    other.home.mkdir()
    (other.home / "settings.toml").write_text(
        f'[registry."{away}"]\nmirrors = ["{registry.host}"]\n'
    )
    done = other("sync", "-f", lock)
    assert (done.code, done.out) == (0, f"{digest} {name}\n"), done.err
    assert "on mirrors only: cannot reach" in done.err
    assert json.loads(other("outdated", "-f", lock, "--json").out) == []
    pannier.create(name, tiny, "SYSTEM Be brief.")
    assert pannier("push", name, f"{registry.host}/team/mirrored:1").code == 0
    (moved,) = json.loads(other("outdated", "-f", lock, "--json").out)
    assert (moved["state"], moved["locked"]) == ("changed", digest)
    assert other("pull", name).code == 0
    other("sync", "--frozen", "-f", lock).fails(4, f"but the lock file pins {digest}")
