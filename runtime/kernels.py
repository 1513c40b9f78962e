"""Which quantisations ggml multiplies quickly for several streams, and on which CPU.

With repacked matrices, or tiled ones for 8-bit integers and floats, several rows cost little more
than one. With other types eight streams are hardly faster than one: 227 tokens/s with Q4_0, 100
with Q4_1 (2-core Xeon, 135M model). The table is ggml's (llama.cpp 0c1e57098, `repack.cpp`).
"""

from __future__ import annotations

import platform
from pathlib import Path

_TILED = ("Q8_0", "F16", "BF16", "F32")
# By what /proc/cpuinfo calls the instructions that they need.
_FAST: dict[str, tuple[str, ...]] = {
    "avx2": ("Q4_0", "Q4_K_M", "Q4_K_S", "IQ4_NL", "MXFP4", *_TILED),
    "avx512f": ("Q2_K", "Q2_K_S"),
    "asimddp": (
        *("Q4_0", "Q4_K_M", "Q4_K_S", "Q5_K_M", "Q5_K_S", "Q6_K", "IQ4_NL", "MXFP4"),
        *_TILED,
    ),
}
_CPUINFO = Path("/proc/cpuinfo")


def kernel_advice(kind: str, features: frozenset[str]) -> str | None:
    """What would make a model of a quantisation faster on a CPU with such instructions.

    None where nothing would: it is fast, or nothing is on this CPU.
    """
    fast = {name for feature in features & _FAST.keys() for name in _FAST[feature]}
    if kind in fast or not fast:
        return None
    better = " or ".join(name for name in ("Q4_K_M", "Q4_0") if name in fast)
    return (
        f"{kind} has no fast kernel for several streams on this CPU; {better} would be faster "
        f"(`pannier quantize`)"
    )


def cpu_features(cpuinfo: Path = _CPUINFO) -> frozenset[str]:
    """The instructions of this machine's CPU that matter here, by Linux's names."""
    try:
        for line in cpuinfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("flags", "Features"):
                return frozenset(value.split()) & _FAST.keys()
    except OSError:
        pass
    # Apple's processors all have them, and no such file.
    return frozenset({"asimddp"}) if platform.machine() == "arm64" else frozenset()
