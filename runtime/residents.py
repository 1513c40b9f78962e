"""Models in memory as the supervisor keeps book of them, and the choice of who has to go."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pannier.pkgmgr import gguf

from .errors import LoadError, OutOfMemory
from .interface import FOREVER, LoadedModel, ModelSource
from .machine import Room
from .memory import MemoryPlan, projector_bytes
from .native import VERSION
from .process import RunnerProcess
from .request import LoadOptions

# The system refuses to wait for centuries, which a `keep_alive` may ask for.
_LONGEST_WAIT_S = 3600.0


@dataclass(slots=True, eq=False)
class Resident:
    """A model in memory, or on its way there: `ready` is set when `runner` or `error` is.

    Attributes:
        gone: set when its process is no more.
        users: callers that wait for it or have requests in it.
        expires_s: on the supervisor's clock; means something while `users` is 0.
        advice: what would make it faster here, None where nothing would.
        predecessors: what has to be gone before it is loaded: the same model with other options.
    """

    source: ModelSource
    options: LoadOptions
    keep_alive_s: float
    ready: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)
    runner: RunnerProcess | None = None
    error: BaseException | None = None
    plan: MemoryPlan | None = None
    advice: str | None = None
    users: int = 0
    expires_s: float = FOREVER
    loaded_ns: int = 0
    predecessors: set[Resident] = field(default_factory=set)

    @property
    def is_idle(self) -> bool:
        """Whether it is loaded and nobody uses it."""
        return self.users == 0 and self.runner is not None

    @property
    def holds_gpus(self) -> bool:
        """Whether a part of a GPU is its own."""
        return self.plan is not None and self.plan.on_gpus > 0

    @property
    def beside(self) -> int:
        """Bytes that it takes beside its weights and cells; raises as `read_headers` does."""
        projector = read_projector(self.source)
        return 0 if projector is None else projector_bytes(projector)

    def wait_for_predecessors(self, seconds: float) -> None:
        """Return when all are gone.

        Raises:
            LoadError: one is still in use.
        """
        for predecessor in self.predecessors:
            if not predecessor.gone.wait(seconds):
                raise LoadError(f"cannot reload {self.source.name}: it is in use")
        self.predecessors = set()

    def call(self, op: str, **facts: Any) -> Any:
        """Ask the process of a loaded model one question."""
        assert self.runner is not None
        return self.runner.call(op, **facts)

    def is_stale(self, options: LoadOptions | None) -> bool:
        """Whether it has to be loaded again for a request with these options."""
        if self.runner is not None and not self.runner.is_alive:
            return True
        return options is not None and options != self.options


def first_to_go(residents: Iterable[Resident]) -> Resident | None:
    """The idle model that was used longest ago, or expires soonest; None where all are busy."""
    idle = [resident for resident in residents if resident.is_idle]
    return min(idle, key=lambda resident: resident.expires_s, default=None)


def in_the_way(others: Iterable[Resident], plan: MemoryPlan) -> list[Resident]:
    """Models on GPUs, where a planned one would have more of its layers there without them."""
    return [] if plan.is_whole else [resident for resident in others if resident.holds_gpus]


def next_look(residents: Iterable[Resident], now: float, silence_s: float) -> float | None:
    """Seconds until somebody has to look for an expired or a silent model; None for never."""
    waits = [
        silence_s / 4 if resident.users else max(0.0, resident.expires_s - now)
        for resident in residents
    ]
    soonest = min(waits, default=FOREVER)
    return None if soonest == FOREVER else min(soonest, _LONGEST_WAIT_S)


def describe(resident: Resident, load_ns: int, *, now: float) -> LoadedModel:
    """A loaded model as `ps` shows it."""
    runner = resident.runner
    assert runner is not None
    left = resident.keep_alive_s if resident.users else resident.expires_s - now
    return LoadedModel(
        source=resident.source,
        info=runner.info,
        expires_at=None if left == FOREVER else time.time() + max(0.0, left),
        busy=runner.busy,
        load_ns=load_ns,
        pid=runner.pid,
        stats=runner.stats,
        advice=resident.advice,
    )


def states_folder(root: Path | None, resident: Resident) -> Path | None:
    """The folder for states of a model under this engine, made where it is missing; or none."""
    if root is None:
        return None
    kind = f"{VERSION}-{resident.options.cache_type}"
    folder = root / resident.source.digest.hex / kind
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return None
    return folder


def share_cores(residents: Iterable[Resident], cores: int) -> None:
    """Divide the cores among the models that are busy."""
    busy = [r.runner for r in residents if r.users and r.runner is not None]
    for runner in busy:
        runner.use_threads(max(1, cores // len(busy)), alone=len(busy) == 1)


def out_of_room(
    resident: Resident, plan: MemoryPlan, others: Sequence[Resident], room: Room
) -> OutOfMemory:
    """The error for a model that does not fit beside others, all of them busy."""
    needed, free = plan.in_main_memory, room.free
    reason = f"it needs {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free"
    if room.is_limit:
        reason = f"it needs {needed / 1e9:.2f} GB, its process may take {free / 1e9:.2f} GB"
    if needed <= free and not plan.fits_gpus:
        reason, needed, free = _gpu_shortage(plan, room)
    elif needed <= free:
        reason = f"no more than {len(others)} may be in memory at a time"
    busy = ", ".join(other.source.name for other in others)
    beside = f"; in use: {busy}" if busy else ""
    return OutOfMemory(
        f"no room for {resident.source.name}: {reason}{beside}",
        needed=needed,
        free=free,
        hint="set a smaller num_ctx, or wait until other models are idle",
    )


def _gpu_shortage(plan: MemoryPlan, room: Room) -> tuple[str, int, int]:
    """Which GPU is too small for what it shall hold, and both in bytes."""
    for need, gpu in zip(plan.placement.on_gpus, room.gpus, strict=True):
        free = max(0, gpu.free - room.reserve)
        if need > free:
            where = (
                f"on {gpu.name} it needs {need / 1e9:.2f} GB, {free / 1e9:.2f} GB are free there"
            )
            return where, need, free
    raise AssertionError("every GPU has room")


def read_headers(source: ModelSource) -> list[gguf.Header]:
    """The GGUF headers of a model, checked in Python before C sees them.

    Raises:
        InvalidGGUF: a file is none, or breaks a bound.
        LoadError: a file is not there.
    """
    return read_checked(source.files.weights, f"the model file{{}} of {source.name}")


def read_checked(paths: Sequence[Path], name: str) -> list[gguf.Header]:
    """The checked headers of files; `name` has a place for which of them one is."""
    headers = []
    for number, path in enumerate(paths, start=1):
        one = name.format(f" (file {number})" if len(paths) > 1 else "")
        try:
            with path.open("rb") as stream:
                size = path.stat().st_size
                header = gguf.read_header(stream, size=size, name=one)
        except OSError as error:
            raise LoadError(f"cannot read {one}: {error.strerror}") from error
        gguf.check(header, size=size, name=one)
        headers.append(header)
    return headers


def read_projector(source: ModelSource) -> gguf.Header | None:
    """The header of a model's projector, None where it has none; raises as `read_headers` does."""
    path = source.files.projector
    return None if path is None else read_checked([path], f"the projector of {source.name}")[0]
