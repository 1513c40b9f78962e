"""What models may take of this machine: main memory, GPUs, processor cores, and bounds on each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from pannier.pkgmgr.gguf import Header

from .cores import usable_cores
from .devices import Device, GpuProbe
from .memory import MemoryPlan, available_memory, file_bytes_of, plan_memory
from .placement import GPU_RESERVE
from .request import LoadOptions

# Of a runner's address space, what is no model: the tokenizer's stack (512 MiB, hardly used), the
# interpreter and its libraries, stacks and arenas of threads. A tiny model's runner has 0.9 GB.
ADDRESS_SPACE_OVERHEAD = 900 << 20


@dataclass(frozen=True, slots=True)
class RunnerLimits:
    """Bounds on each runner process, in bytes and in seconds of CPU time; 0 is none."""

    address_space: int = 0
    cpu_seconds: int = 0


@dataclass(frozen=True, slots=True)
class Room:
    """What there is for one more model.

    Attributes:
        free: bytes of main memory.
        is_limit: whether that is what a runner may take, and not what the machine has.
        gpus: with what each has free; `reserve` bytes of it are left alone.
        extra: what the model takes beside weights and cells: its projector.
    """

    free: int
    is_limit: bool = False
    gpus: tuple[Device, ...] = ()
    reserve: int = GPU_RESERVE
    extra: int = 0

    def beside(self, size: int) -> Room:
        """The same for a model that takes `size` more bytes, in main memory or on a GPU."""
        return replace(self, extra=size, reserve=self.reserve + size)

    def plan(self, headers: Sequence[Header], options: LoadOptions) -> MemoryPlan:
        """How a model would be loaded here; compare with `holds`."""
        free = self.free - self.extra
        plan = plan_memory(headers, options, free=free, gpus=self.gpus, reserve=self.reserve)
        return replace(plan, work=plan.work + self.extra)

    def holds(self, plan: MemoryPlan) -> bool:
        """Whether a planned model fits."""
        return plan.in_main_memory <= self.free and plan.fits_gpus


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine as models see it.

    Attributes:
        free_memory: gets the bytes of files that running models hold, gives what may be taken.
        gpus: those that a model could be put on now.
        gpu_reserve: bytes of each that are left alone.
        cores: threads that compute at a time, all models together.
        limits: on each runner.
    """

    free_memory: Callable[[int], int] = available_memory
    gpus: Callable[[], tuple[Device, ...]] = field(default_factory=GpuProbe)
    gpu_reserve: int = GPU_RESERVE
    cores: int = field(default_factory=usable_cores)
    limits: RunnerLimits = field(default_factory=RunnerLimits)

    def room(self, pids: Iterable[int]) -> Room:
        """What is left beside models that run in these processes."""
        free = self.free_memory(sum(map(file_bytes_of, pids)))
        most = self.limits.address_space
        allowed = max(0, most - ADDRESS_SPACE_OVERHEAD) if most else free
        return Room(min(free, allowed), allowed < free, self.gpus(), self.gpu_reserve)
