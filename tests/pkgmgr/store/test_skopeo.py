from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from support.artifacts import make_artifact

from pannier.pkgmgr.store.store import Store

SKOPEO = shutil.which("skopeo")


@pytest.mark.skopeo
@pytest.mark.skipif(SKOPEO is None, reason="skopeo is not installed")
@pytest.mark.parametrize("name", ["localhost:5000/team/demo:1", "registry.ollama.ai/library/m:x"])
def test_skopeo_reads_the_store_in_place(tmp_path: Path, name: str) -> None:
    store = Store.open(tmp_path / "home")
    artifact = make_artifact(b"weights")
    artifact.push_to(store, name)
    make_artifact(b"other").push_to(store, "localhost/other:2")
    command = [str(SKOPEO), "inspect", "--raw", f"oci:{store.root}:{name}"]
    done = subprocess.run(command, check=True, capture_output=True)
    assert json.loads(done.stdout) == json.loads(artifact.raw)
    copied = tmp_path / "copy"
    source = f"oci:{store.root}:{name}"
    subprocess.run([str(SKOPEO), "copy", "-q", source, f"dir:{copied}"], check=True)
    assert (copied / "manifest.json").read_bytes() == artifact.raw
