"""`interface.Runtime`: which models are in memory, in which process, and for how long.

One runner process per model. A model is loaded on first use, kept `keep_alive` seconds after the
last, and let go when its process died; the next request then loads it again. All methods may be
called from any thread; nothing blocks under the one lock here but dictionary work.
"""

from __future__ import annotations

import base64
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from pannier.pkgmgr import gguf
from pannier.pkgmgr.digest import Digest

from .errors import LoadError, RunnerDied
from .interface import FOREVER, Embeddings, LoadedModel, ModelSource
from .process import RunnerProcess, Stream
from .request import Delta, GenerationRequest, LoadOptions

DEFAULT_KEEP_ALIVE_S = 300.0
# A model that is asked for with other load options waits this long for its running requests.
RELOAD_WAIT_S = 600.0


@dataclass(slots=True, eq=False)
class _Resident:
    """A model in memory, or on its way there: `ready` is set when `runner` or `error` is."""

    source: ModelSource
    options: LoadOptions
    ready: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)
    runner: RunnerProcess | None = None
    error: BaseException | None = None
    users: int = 0
    keep_alive_s: float = DEFAULT_KEEP_ALIVE_S
    expires_s: float = FOREVER
    loaded_ns: int = 0
    predecessors: set[_Resident] = field(default_factory=set)


class Supervisor:
    """Implements `interface.Runtime` with runner processes. Call `close` at the end."""

    def __init__(
        self,
        *,
        keep_alive_s: float = DEFAULT_KEEP_ALIVE_S,
        defaults: LoadOptions | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keep_alive_s = keep_alive_s
        self._defaults = defaults or LoadOptions()
        self._clock_s = clock_s
        self._lock = threading.Condition()
        self._residents: dict[Digest, _Resident] = {}
        self._leaving: set[_Resident] = set()
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
        tokens = self._call(source, "tokenize", text=text, special=special)
        assert isinstance(tokens, list)
        return tokens

    def detokenize(self, source: ModelSource, tokens: list[int]) -> str:
        """See `interface.Runtime.detokenize`."""
        return str(self._call(source, "detokenize", tokens=tokens))

    def embed(
        self,
        source: ModelSource,
        texts: Sequence[str],
        *,
        truncate: bool = True,
        options: LoadOptions | None = None,
        keep_alive_s: float | None = None,
    ) -> Embeddings:
        """See `interface.Runtime.embed`."""
        return self._vectors(
            source, options, keep_alive_s, op="embed", texts=[*texts], truncate=truncate
        )

    def rank(
        self,
        source: ModelSource,
        query: str,
        texts: Sequence[str],
        *,
        options: LoadOptions | None = None,
        keep_alive_s: float | None = None,
    ) -> Embeddings:
        """See `interface.Runtime.rank`."""
        return self._vectors(
            source, options, keep_alive_s, op="rank", query=query, texts=[*texts], truncate=True
        )

    def loaded(self) -> tuple[LoadedModel, ...]:
        """See `interface.Runtime.loaded`."""
        with self._lock:
            residents = [r for r in self._residents.values() if r.runner is not None]
        models = [self._describe(resident, 0) for resident in residents]
        return tuple(sorted(models, key=lambda m: m.expires_at or FOREVER, reverse=True))

    def unload(self, digest: Digest) -> bool:
        """See `interface.Runtime.unload`."""
        with self._lock:
            resident = self._residents.get(digest)
            if resident is None:
                return False
            self._dismiss(resident)
        return True

    def close(self) -> None:
        """See `interface.Runtime.close`."""
        with self._lock:
            self._is_closed = True
            residents = [*self._residents.values(), *self._leaving]
            self._residents.clear()
            self._leaving.clear()
            self._lock.notify_all()
        for resident in residents:
            resident.ready.wait()
            if resident.runner is not None:
                resident.runner.close()
        if self._reaper is not None:
            self._reaper.join()

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(
        self, resident: _Resident, request: GenerationRequest, load_ns: int
    ) -> SupervisedStream:
        """Start a request on a loaded model; its end releases the model, once."""
        runner = resident.runner
        assert runner is not None
        release = _Once(lambda: self._release(resident))
        try:
            model = self._describe(resident, load_ns)
            return SupervisedStream(runner.generate(request, on_end=release), model)
        except BaseException:
            release()
            raise

    def _vectors(
        self,
        source: ModelSource,
        options: LoadOptions | None,
        keep_alive_s: float | None,
        op: str,
        **facts: object,
    ) -> Embeddings:
        resident, load_ns = self._acquire(source, options, keep_alive_s)
        try:
            assert resident.runner is not None
            value = resident.runner.call(op, **facts)
            model = self._describe(resident, load_ns)
        finally:
            self._release(resident)
        values, width = array("f", base64.b64decode(value["vectors"])), value["width"]
        rows = [values[at : at + width].tolist() for at in range(0, len(values), width)]
        return Embeddings(rows, value["tokens"], model)

    def _call(self, source: ModelSource, op: str, **facts: object) -> object:
        resident, _ = self._acquire(source, None, None)
        try:
            assert resident.runner is not None
            return resident.runner.call(op, **facts)
        finally:
            self._release(resident)

    def _acquire(
        self, source: ModelSource, options: LoadOptions | None, keep_alive_s: float | None
    ) -> tuple[_Resident, int]:
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
    ) -> tuple[_Resident, bool]:
        """Enter as a user of a model; True where the caller has to load it."""
        with self._lock:
            if self._is_closed:
                raise LoadError("the runtime is closed")
            resident = self._residents.get(source.digest)
            if resident is not None and _is_stale(resident, options):
                self._dismiss(resident)
                resident = None
            is_mine = resident is None
            if resident is None:
                resident = _Resident(source, options or self._defaults)
                resident.predecessors = {r for r in self._leaving if r.source == source}
                self._residents[source.digest] = resident
            resident.users += 1
            wanted = self._keep_alive_s if keep_alive_s is None else keep_alive_s
            resident.keep_alive_s = wanted
            return resident, is_mine

    def _start(self, resident: _Resident) -> None:
        """Load a model; sets `runner` or `error`, and `ready`."""
        source = resident.source
        try:
            for predecessor in resident.predecessors:
                if not predecessor.gone.wait(RELOAD_WAIT_S):
                    raise LoadError(f"cannot reload {source.name}: it is in use")
            resident.predecessors = set()
            check_weights(source)
            resident.runner = RunnerProcess(
                source.name,
                source.files,
                resident.options,
                on_death=lambda: self._on_death(resident),
            )
            resident.loaded_ns = time.monotonic_ns()
        except BaseException as error:
            resident.error = error
            with self._lock:
                if self._residents.get(source.digest) is resident:
                    del self._residents[source.digest]
            resident.gone.set()
        finally:
            resident.ready.set()
        self._watch()

    def _release(self, resident: _Resident) -> None:
        with self._lock:
            resident.users -= 1
            resident.expires_s = self._clock_s() + resident.keep_alive_s
            self._lock.notify_all()

    def _on_death(self, resident: _Resident) -> None:
        with self._lock:
            if self._residents.get(resident.source.digest) is resident:
                self._dismiss(resident)

    def _dismiss(self, resident: _Resident) -> None:
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
                    self._lock.wait(self._next_expiry(now))
            for resident in done:
                if resident.runner is not None:
                    resident.runner.close()
                resident.gone.set()

    def _next_expiry(self, now: float) -> float | None:
        """Seconds until the next idle model expires, None where none does. Needs the lock."""
        idle = [r.expires_s for r in self._residents.values() if r.users == 0]
        soonest = min(idle, default=FOREVER)
        return None if soonest == FOREVER else max(0.0, soonest - now)

    def _describe(self, resident: _Resident, load_ns: int) -> LoadedModel:
        runner = resident.runner
        assert runner is not None
        left = resident.keep_alive_s
        if resident.users == 0:
            left = resident.expires_s - self._clock_s()
        return LoadedModel(
            source=resident.source,
            info=runner.info,
            expires_at=None if left == FOREVER else time.time() + max(0.0, left),
            busy=runner.busy,
            load_ns=load_ns,
            pid=runner.pid,
        )


class SupervisedStream:
    """Implements `interface.GenerationStream`."""

    __slots__ = ("_stream", "model", "poll")

    def __init__(self, stream: Stream, model: LoadedModel) -> None:
        self._stream = stream
        self.model = model
        self.poll = stream.poll

    def __iter__(self) -> Iterator[Delta]:
        return iter(self._stream)

    def cancel(self) -> None:
        """See `interface.GenerationStream.cancel`."""
        self._stream.cancel()


def check_weights(source: ModelSource) -> None:
    """Read the GGUF headers of a model in Python, before C does.

    Raises:
        InvalidGGUF: a file is none, or breaks a bound.
        LoadError: a file is not there.
    """
    for number, path in enumerate(source.files.weights, start=1):
        part = f" (file {number})" if len(source.files.weights) > 1 else ""
        name = f"the model file{part} of {source.name}"
        try:
            with path.open("rb") as stream:
                size = path.stat().st_size
                gguf.check(gguf.read_header(stream, size=size, name=name), size=size, name=name)
        except OSError as error:
            raise LoadError(f"cannot read {name}: {error.strerror}") from error


class _Once:
    """An action that is done on the first call, whichever thread that comes from."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._actions = [action]

    def __call__(self) -> None:
        try:
            action = self._actions.pop()
        except IndexError:
            return
        action()


def _is_stale(resident: _Resident, options: LoadOptions | None) -> bool:
    """Whether a model has to be loaded again for a request with these options."""
    if resident.runner is not None and not resident.runner.is_alive:
        return True
    return options is not None and options != resident.options
