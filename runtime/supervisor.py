"""`interface.Runtime`: which models are in memory, in which process, and for how long.

One process per model, from its first use until `keep_alive` seconds after the last, or its death.
Any thread may call all methods; nothing blocks under the one lock here but dictionary work.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.gguf import Header

from .crashes import CrashLog
from .draftplan import with_draft
from .errors import CrashedInLoading, LoadError, RunnerDied
from .interface import FOREVER, Caller, Embeddings, LoadedModel, ModelSource
from .kernels import cpu_features, kernel_advice
from .machine import Machine
from .memory import MemoryPlan
from .process import RunnerProcess
from .request import GenerationRequest, LoadOptions
from .residents import (
    Resident,
    describe,
    first_to_go,
    in_the_way,
    next_look,
    out_of_room,
    read_headers,
    share_cores,
    states_folder,
)
from .supervised import Once, SupervisedStream, embeddings_of

DEFAULT_KEEP_ALIVE_S = 300.0
# A model that is asked for with other load options waits this long for its running requests.
RELOAD_WAIT_S = 600.0
# One step of a large model on a slow machine takes minutes; more than this is a wedged engine.
MAX_SILENCE_S = 600.0


class Supervisor:
    """Implements `interface.Runtime` with runner processes. Call `close` at the end."""

    def __init__(
        self,
        *,
        keep_alive_s: float = DEFAULT_KEEP_ALIVE_S,
        defaults: LoadOptions | None = None,
        max_models: int = 0,
        machine: Machine | None = None,
        states: Path | None = None,
        silence_s: float = MAX_SILENCE_S,
        advise: Callable[[str], object] = lambda text: None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start nothing yet.

        Args:
            keep_alive_s: how long a model stays after its last use where a request does not say.
            defaults: load options where a request does not say.
            max_models: in memory at a time; 0 is as many as fit.
            machine: what models may take.
            states: where runners keep shared beginnings of prompts between starts; None nowhere.
            silence_s: a busy runner that makes no step for so long is killed.
            advise: gets what would make a model faster here, when it is loaded.
            clock_s: seconds that go on while time is not set back.
        """
        self._keep_alive_s = keep_alive_s
        self.defaults = defaults or LoadOptions()
        self._clock_s = clock_s
        self._max_models = max_models
        self._machine = machine or Machine()
        self._states = states
        self._silence_s = silence_s
        self._advise = advise
        self._crashes = CrashLog(clock_s)
        self._loading = threading.Lock()
        self._closing = threading.Event()
        self._lock = threading.Condition()
        self._residents: dict[Digest, Resident] = {}
        self._leaving: set[Resident] = set()
        self._is_closed = False
        self._reaper: threading.Thread | None = None

    def load(
        self,
        source: ModelSource,
        *,
        options: LoadOptions | None = None,
        keep_alive_s: float | None = None,
    ) -> LoadedModel:
        """See `interface.Runtime.load`."""
        resident, load_ns = self._acquire(source, options, keep_alive_s)
        try:
            return self._describe(resident, load_ns)
        finally:
            self._release(resident)

    def generate(
        self,
        source: ModelSource,
        request: GenerationRequest,
        *,
        options: LoadOptions | None = None,
        keep_alive_s: float | None = None,
    ) -> SupervisedStream:
        """See `interface.Runtime.generate`."""
        resident, load_ns = self._acquire(source, options, keep_alive_s)
        try:
            return self._begin(resident, request, load_ns)
        except RunnerDied:
            if load_ns:
                raise
            # It died before it took the request, most likely while it was idle.
            resident, load_ns = self._acquire(source, options, keep_alive_s)
            return self._begin(resident, request, load_ns)

    def tokenize(self, source: ModelSource, text: str, *, special: bool = False) -> list[int]:
        """See `interface.Runtime.tokenize`."""
        return list(self._ask(source, "tokenize", text=text, special=special)[0])

    def detokenize(self, source: ModelSource, tokens: list[int]) -> str:
        """See `interface.Runtime.detokenize`."""
        return str(self._ask(source, "detokenize", tokens=tokens)[0])

    def image_tokens(self, source: ModelSource, sizes: Sequence[tuple[int, int]]) -> list[int]:
        """See `interface.Runtime.image_tokens`."""
        return list(self._ask(source, "image_tokens", sizes=[*sizes])[0])

    def embed(
        self,
        source: ModelSource,
        texts: Sequence[str],
        *,
        truncate: bool = True,
        options: LoadOptions | None = None,
        keep_alive_s: float | None = None,
        caller: Caller | None = None,
    ) -> Embeddings:
        """See `interface.Runtime.embed`."""
        facts = {"texts": [*texts], "truncate": truncate, "caller": caller or Caller()}
        return embeddings_of(*self._ask(source, "embed", options, keep_alive_s, **facts))

    def rank(
        self,
        source: ModelSource,
        query: str,
        texts: Sequence[str],
        *,
        options: LoadOptions | None = None,
        keep_alive_s: float | None = None,
        caller: Caller | None = None,
    ) -> Embeddings:
        """See `interface.Runtime.rank`."""
        facts = {"query": query, "texts": [*texts], "truncate": True, "caller": caller or Caller()}
        return embeddings_of(*self._ask(source, "rank", options, keep_alive_s, **facts))

    def loaded(self) -> tuple[LoadedModel, ...]:
        """See `interface.Runtime.loaded`."""
        with self._lock:
            residents = [r for r in self._residents.values() if r.runner is not None]
        models = [self._describe(resident, 0) for resident in residents]
        return tuple(sorted(models, key=lambda m: m.expires_at or FOREVER, reverse=True))

    def unload(self, digest: Digest) -> bool:
        """See `interface.Runtime.unload`."""
        with self._lock:
            self._crashes.clear(digest)
            resident = self._residents.get(digest)
            if resident is None:
                return False
            self._dismiss(resident)
        return True

    def close(self) -> None:
        """See `interface.Runtime.close`."""
        with self._lock:
            self._is_closed = True
            self._closing.set()
            residents = [*self._residents.values(), *self._leaving]
            self._residents.clear()
            self._leaving.clear()
            self._lock.notify_all()
        # A model that waits for another one's end is not ready before that.
        for resident in sorted(residents, key=lambda resident: resident.runner is None):
            resident.ready.wait()
            if resident.runner is not None:
                resident.runner.close()
            resident.gone.set()
        if self._reaper is not None:
            self._reaper.join()

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(
        self, resident: Resident, request: GenerationRequest, load_ns: int
    ) -> SupervisedStream:
        """Start a request on a loaded model; its end releases the model, once."""
        runner = resident.runner
        assert runner is not None
        release = Once(lambda: self._release(resident))
        try:
            model = self._describe(resident, load_ns)
            return SupervisedStream(runner.generate(request, on_end=release), model)
        except BaseException:
            release()
            raise

    def _ask(
        self,
        source: ModelSource,
        op: str,
        options: LoadOptions | None = None,
        keep_alive_s: float | None = None,
        **facts: Any,
    ) -> tuple[Any, LoadedModel]:
        """One question; asked again where the process that was there before it is dead."""
        for is_first in (True, False):
            resident, load_ns = self._acquire(source, options, keep_alive_s)
            try:
                return resident.call(op, **facts), self._describe(resident, load_ns)
            except RunnerDied:
                if load_ns or not is_first:
                    raise
            finally:
                self._release(resident)
        raise AssertionError("the second answer is the last")

    def _acquire(
        self, source: ModelSource, options: LoadOptions | None, keep_alive_s: float | None
    ) -> tuple[Resident, int]:
        """A loaded model with one more user, and what its loading took in nanoseconds."""
        started = time.monotonic_ns()
        while True:
            resident, is_mine = self._enlist(source, options, keep_alive_s)
            if is_mine:
                self._start(resident)
            resident.ready.wait()
            if resident.error is not None:
                self._release(resident)
                raise resident.error
            if is_mine or (resident.runner is not None and resident.runner.is_alive):
                waited = is_mine or resident.loaded_ns > started
                return resident, time.monotonic_ns() - started if waited else 0
            self._release(resident)

    def _enlist(
        self, source: ModelSource, options: LoadOptions | None, keep_alive_s: float | None
    ) -> tuple[Resident, bool]:
        """Enter as a user of a model; True where the caller has to load it."""
        with self._lock:
            if self._is_closed:
                raise LoadError("the runtime is closed")
            resident = self._residents.get(source.digest)
            if resident is not None and resident.is_stale(options):
                self._dismiss(resident)
                resident = None
            is_mine = resident is None
            if resident is None:
                self._crashes.check(source.digest, source.name)
                resident = Resident(source, options or self.defaults, self._keep_alive_s)
                resident.predecessors = {r for r in self._leaving if r.source == source}
                self._residents[source.digest] = resident
            resident.users += 1
            resident.keep_alive_s = self._keep_alive_s if keep_alive_s is None else keep_alive_s
            self._share_cores()
            self._lock.notify_all()
            return resident, is_mine

    def _start(self, resident: Resident) -> None:
        """Load a model; sets `runner` or `error`, and `ready`."""
        source = resident.source
        try:
            resident.wait_for_predecessors(RELOAD_WAIT_S)
            headers = read_headers(source)
            with self._lock:
                delay = self._crashes.delay_s(source.digest)
            if delay:
                self._closing.wait(delay)
            # One at a time, so that two loads never count the same memory as free.
            with self._loading:
                if self._is_closed:
                    raise LoadError("the runtime is closed")
                resident.plan = self._make_room(resident, headers)
                resident.runner = RunnerProcess(
                    source.name,
                    source.files,
                    resident.options,
                    plan=resident.plan,
                    limits=self._machine.limits,
                    threads=self._machine.cores,
                    states=states_folder(self._states, resident),
                    on_death=lambda: self._on_death(resident),
                )
            resident.loaded_ns = time.monotonic_ns()
            if advice := kernel_advice(headers[0].quantization, cpu_features()):
                resident.advice = advice
                self._advise(f"{source.name}: {advice}")
        except BaseException as error:
            resident.error = error
            with self._lock:
                if self._residents.get(source.digest) is resident:
                    del self._residents[source.digest]
                if isinstance(error, CrashedInLoading):
                    self._crashes.add(source.digest)
            resident.gone.set()
        finally:
            with self._lock:
                self._share_cores()
            resident.ready.set()
        self._watch()

    def _make_room(self, resident: Resident, headers: list[Header]) -> MemoryPlan:
        """A plan that fits, after unloading idle models where it takes that.

        Raises:
            OutOfMemory: it does not fit, even with all idle models gone.
        """
        while True:
            with self._lock:
                everybody = [*self._residents.values(), *self._leaving]
            pids = (r.runner.pid for r in everybody if r.runner is not None)
            room = self._machine.room(pids).beside(resident.beside)
            plan = room.plan(headers, resident.options)
            with self._lock:
                others = [r for r in self._residents.values() if r is not resident]
                is_full = self._max_models > 0 and len(others) >= self._max_models
                is_enough = room.holds(plan) and not is_full
                victim = first_to_go(others if not is_enough else in_the_way(others, plan))
                if victim is not None:
                    self._dismiss(victim)
            if victim is None:
                if is_enough:
                    return with_draft(plan, resident, headers[0], room).with_copies(room.free)
                raise out_of_room(resident, plan, others, room)
            victim.gone.wait(RELOAD_WAIT_S)

    def _release(self, resident: Resident) -> None:
        with self._lock:
            resident.users -= 1
            self._share_cores()
            resident.expires_s = self._clock_s() + resident.keep_alive_s
            self._lock.notify_all()

    def _share_cores(self) -> None:
        share_cores([*self._residents.values(), *self._leaving], self._machine.cores)

    def _on_death(self, resident: Resident) -> None:
        with self._lock:
            runner = resident.runner
            if runner is not None and runner.is_crash:
                self._crashes.add(resident.source.digest)
            if self._residents.get(resident.source.digest) is resident:
                self._dismiss(resident)

    def _dismiss(self, resident: Resident) -> None:
        """Take a model off the table; the reaper closes it when nobody uses it. Needs the lock."""
        del self._residents[resident.source.digest]
        self._leaving.add(resident)
        self._lock.notify_all()

    def _watch(self) -> None:
        with self._lock:
            if self._reaper is None and not self._is_closed:
                self._reaper = threading.Thread(target=self._reap, name="reaper", daemon=True)
                self._reaper.start()

    def _reap(self) -> None:
        while True:
            with self._lock:
                if self._is_closed:
                    return
                now = self._clock_s()
                for resident in tuple(self._residents.values()):
                    if resident.users == 0 and resident.expires_s <= now:
                        self._dismiss(resident)
                done = [r for r in self._leaving if r.users == 0 and r.ready.is_set()]
                self._leaving.difference_update(done)
                if not done:
                    self._lock.wait(next_look(self._residents.values(), now, self._silence_s))
                busy = [r.runner for r in self._residents.values() if r.users and r.runner]
            for runner in busy:
                runner.check_pulse(self._silence_s)
            for resident in done:
                if resident.runner is not None:
                    resident.runner.close()
                resident.gone.set()

    def _describe(self, resident: Resident, load_ns: int) -> LoadedModel:
        return describe(resident, load_ns, now=self._clock_s())
