"""Builds llama.cpp's own tools, once, from the sources inside llama-cpp-python's sdist.

So the peer is the same revision as the engine, compiled with the same flags. `python
tests/bench/peer.py` builds (about 15 minutes on 2 cores) and prints the folder of the programs.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tarfile
from pathlib import Path

VERSION = "0.3.36"
TOOLS = ("llama-server", "llama-batched-bench", "llama-bench")
_NO_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"


def tools() -> Path:
    """The folder of the built programs; builds them where they are missing."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pannier-bench"
    build = cache / f"llama.cpp-{VERSION}-build"
    programs = build / "bin"
    if not all((programs / tool).exists() for tool in TOOLS):
        _build(_sources(cache), build)
    return programs


def _sources(cache: Path) -> Path:
    root = cache / f"llama_cpp_python-{VERSION}"
    if not root.exists():
        cache.mkdir(parents=True, exist_ok=True)
        name = f"llama-cpp-python=={VERSION}"
        download = ["download", "--no-deps", "--no-binary", "llama-cpp-python", "-d", str(cache)]
        _run([sys.executable, "-m", "pip", *download, name])
        with tarfile.open(cache / f"llama_cpp_python-{VERSION}.tar.gz") as archive:
            archive.extractall(cache, filter="data")
    return root / "vendor" / "llama.cpp"


def _build(source: Path, build: Path) -> None:
    flags = _NO_AMX if platform.machine() == "x86_64" else ""
    settings = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_C_FLAGS": flags,
        "CMAKE_CXX_FLAGS": flags,
        "GGML_NATIVE": "ON",
        "LLAMA_BUILD_APP": "OFF",
        "LLAMA_BUILD_EXAMPLES": "OFF",
        "LLAMA_BUILD_TESTS": "OFF",
        "LLAMA_BUILD_UI": "OFF",
        "LLAMA_USE_PREBUILT_UI": "OFF",
        "LLAMA_OPENSSL": "OFF",
    }
    defines = [f"-D{name}={value}" for name, value in settings.items()]
    _run(["cmake", "-S", str(source), "-B", str(build), *defines])
    jobs = str(os.cpu_count() or 1)
    _run(["nice", "-n", "10", "cmake", "--build", str(build), "-j", jobs, "-t", *TOOLS])


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr)


if __name__ == "__main__":
    print(tools())
