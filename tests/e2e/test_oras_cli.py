"""The oras command line on our bundles and stores, and ours on what it writes.

Not a Debian package: `go install oras.land/oras/cmd/oras@latest`. Passed with oras 1.3.6.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from support.cli import Pannier
from support.registry import DockerRegistry

pytestmark = [pytest.mark.oras_cli, pytest.mark.registry, pytest.mark.slow]
NAME = "registry.corp/team/reviewer:1.0"
SECRET = {"PANNIER_KEY_PASSPHRASE": "secret"}


@pytest.fixture
def digest(pannier: Pannier, tiny: Path, tmp_path: Path) -> str:
    """A signed model in the store."""
    made = pannier.create(NAME, tiny, "SYSTEM Be kind.")
    assert pannier("key", "generate", tmp_path / "team", **SECRET).code == 0
    assert pannier("sign", NAME, "--key", tmp_path / "team.key", **SECRET).code == 0
    return made


@pytest.fixture
def other(tmp_path: Path) -> Pannier:
    return Pannier(tmp_path / "other")


def oras(*arguments: str | Path) -> str:
    done = subprocess.run(["oras", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_oras_reads_bundles_and_stores_by_name_and_digest(
    pannier: Pannier, digest: str, tmp_path: Path
) -> None:
    bundle = tmp_path / "b.tar"
    assert pannier("export", NAME, "-o", bundle).code == 0
    raw = pannier("inspect", NAME, "--json").out
    for place in (bundle, pannier.home):
        manifest = oras("manifest", "fetch", "--oci-layout-path", place, NAME)
        assert json.loads(manifest)["config"]["digest"] in raw
        assert digest in oras(
            "manifest", "fetch", "--descriptor", "--oci-layout", f"{place}@{digest}"
        )
        assert "sigstore.bundle" in oras("discover", "--oci-layout", f"{place}@{digest}")


def test_oras_pushes_a_bundle_and_we_pull_it(
    pannier: Pannier, other: Pannier, digest: str, tmp_path: Path, registry: DockerRegistry
) -> None:
    bundle, there = tmp_path / "b.tar", f"{registry.host}/team/by-oras:1"
    assert pannier("export", NAME, "-o", bundle).code == 0
    oras("cp", "-r", "--to-plain-http", "--from-oci-layout", f"{bundle}@{digest}", there)
    assert other("pull", there).out.strip() == digest
    assert other("verify-signature", there, "--key", tmp_path / "team.pub").code == 0


@pytest.mark.parametrize("form", ["tag", "name", "backup"])
def test_we_import_what_oras_wrote(
    pannier: Pannier,
    other: Pannier,
    digest: str,
    tmp_path: Path,
    registry: DockerRegistry,
    form: str,
) -> None:
    there, out = f"{registry.host}/team/reviewer:1.0", tmp_path / f"{form}.tar"
    assert pannier("push", NAME, there).code == 0
    if form == "backup":
        oras("backup", "--plain-http", "--include-referrers", "--output", out, there)
    elif form == "tag":
        oras("cp", "-r", "--from-plain-http", "--to-oci-layout", there, f"{out}:1.0")
    else:
        oras("cp", "-r", "--from-plain-http", "--to-oci-layout-path", out, there, NAME)
    done = other("import", out, NAME)
    assert done.out == f"{digest} {NAME}\n", done.err
    assert other("verify-signature", NAME, "--key", tmp_path / "team.pub").code == 0
    assert other("bundle", "verify", out).code == 0
