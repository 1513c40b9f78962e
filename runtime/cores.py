"""How many threads a decoder may use: physical cores that this process is allowed to run on."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP_MAX = Path("/sys/fs/cgroup/cpu.max")
_TOPOLOGY = "/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"


def usable_cores() -> int:
    """Physical cores in the affinity mask, at most the cgroup's CPU quota; at least 1.

    Two hyper-threads of a core share its vector units, so a second decoder thread there only waits
    at barriers.
    """
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    cores = os.cpu_count() or 1 if cpus is None else len({_siblings(cpu) for cpu in cpus})
    quota = _quota()
    return max(1, min(cores, round(quota)) if quota is not None else cores)


def _siblings(cpu: int) -> str:
    try:
        return Path(_TOPOLOGY.format(cpu=cpu)).read_text().strip()
    except OSError:
        return str(cpu)


def _quota(path: Path = _CGROUP_MAX) -> float | None:
    """CPUs that cgroup v2 grants, None where it sets no limit."""
    try:
        quota, period = path.read_text().split()[:2]
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None
