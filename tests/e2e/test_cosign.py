"""The real cosign verifies what we sign, we what it signs, and keys go both ways. Offline.

Not a Debian package: `go install github.com/sigstore/cosign/v3/cmd/cosign@latest`. Passed with
cosign 2.6.5 and 3.1.3; what those wrote is in tests/golden/cosign for machines without them.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from support.cli import Pannier
from support.registry import DockerRegistry

pytestmark = [pytest.mark.cosign, pytest.mark.registry, pytest.mark.slow]
SECRET = {"PANNIER_KEY_PASSPHRASE": "secret"}
# cosign 2.6 wants a root of trust for bundles even where a key is given; an empty one will do.
ROOT = '{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}'


@pytest.fixture
def model(pannier: Pannier, tiny: Path, tmp_path: Path, registry: DockerRegistry) -> str:
    """A model on the registry, in a repository of its own."""
    name = f"{registry.host}/{tmp_path.name.lower()}/m:1"
    pannier.create(name, tiny, "SYSTEM Be kind.")
    assert pannier("push", name).code == 0
    return name


def cosign(*arguments: str | Path, at: Path) -> subprocess.CompletedProcess[str]:
    """Run it in a directory, which is its home too."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(at), "COSIGN_PASSWORD": "secret"}
    command = ["cosign", *arguments]
    return subprocess.run(
        command, cwd=at, env=environment, capture_output=True, text=True, check=False
    )


def sign_offline(at: Path) -> list[str]:
    version = re.search(r"GitVersion:\s+v(\d+)", cosign("version", at=at).stdout)
    assert version is not None
    flags = ["sign", "-y", "--allow-http-registry", "--tlog-upload=false"]
    return [*flags, "--use-signing-config=false"] if int(version[1]) > 2 else flags


def verifies(key: Path, name: str, at: Path) -> bool:
    (at / "root.json").write_text(ROOT)
    offline = ("--insecure-ignore-tlog=true", "--trusted-root", "root.json")
    done = cosign("verify", "--key", key, *offline, "--allow-http-registry", name, at=at)
    return done.returncode == 0


def test_cosign_verifies_our_signature(pannier: Pannier, model: str, tmp_path: Path) -> None:
    for prefix in ("team", "other"):
        assert pannier("key", "generate", tmp_path / prefix, **SECRET).code == 0
    assert pannier("sign", model, "--key", tmp_path / "team.key", "--push", **SECRET).code == 0
    assert verifies(tmp_path / "team.pub", model, tmp_path)
    assert not verifies(tmp_path / "other.pub", model, tmp_path)


def test_we_verify_what_cosign_signed_with_its_own_key_and_with_ours(
    pannier: Pannier, model: str, tmp_path: Path
) -> None:
    assert pannier("key", "generate", tmp_path / "ours", **SECRET).code == 0
    made = cosign("generate-key-pair", "--output-key-prefix", "theirs", at=tmp_path)
    assert made.returncode == 0, made.stderr
    reader = Pannier(tmp_path / "reader")
    for prefix in ("ours", "theirs"):
        done = cosign(*sign_offline(tmp_path), "--key", f"{prefix}.key", model, at=tmp_path)
        assert done.returncode == 0, done.stderr
        assert reader("pull", model).code == 0
        good = reader("verify-signature", model, "--key", tmp_path / f"{prefix}.pub")
        assert good.code == 0, good.err
    assert pannier("key", "generate", tmp_path / "other", **SECRET).code == 0
    assert reader("verify-signature", model, "--key", tmp_path / "other.pub").code == 4


def test_we_sign_with_a_key_of_cosigns(pannier: Pannier, model: str, tmp_path: Path) -> None:
    assert cosign("generate-key-pair", at=tmp_path).returncode == 0
    done = pannier("sign", model, "--key", tmp_path / "cosign.key", "--push", **SECRET)
    assert done.code == 0, done.err
    assert verifies(tmp_path / "cosign.pub", model, tmp_path)
