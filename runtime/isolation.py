"""What a runner may have and do: environment, core dumps, privileges, network, files.

A model file is not trusted, and neither is the C++ that reads it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

# What a runner may know of the environment. Tokens, proxies and home folders are not its business.
_KEPT_VARIABLES = (
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "LLAMA_CPP_LIB_PATH",
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "GGML_VK_VISIBLE_DEVICES",
    "OMP_WAIT_POLICY",
    "GOMP_SPINCOUNT",
    "GOMP_CPU_AFFINITY",
    "GLIBC_TUNABLES",
    "TMPDIR",
)


def scrubbed_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What of the environment a runner gets."""
    kept = {name: environment[name] for name in _KEPT_VARIABLES if name in environment}
    ours = {
        # Else ggml's abort handler starts a debugger where one is installed.
        "GGML_NO_BACKTRACE": "1",
        # How often a decoder thread looks at a barrier before it sleeps: some 5 ms. Where the
        # server takes a core for a moment, sleeping and waking costs more than waiting: one stream
        # of a 135M model makes 99 tokens/s so, 96 with a hundredth of it (2-core EPYC).
        "GOMP_SPINCOUNT": "1000000",
        # Cells, work space and weights that are read into memory get huge pages where the kernel
        # gives them to those who ask: one stream of a 135M model makes 126 tokens/s so, 118
        # without (2-core EPYC).
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
        "PATH": os.defpath,
    }
    return {**ours, **kept}


def signal_name(code: int | None) -> str | None:
    """The name of the signal that a return code stands for, None where it is no signal."""
    if code is None or code >= 0:
        return None
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
