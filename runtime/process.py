"""The supervisor's handle of one runner process: start, talk, notice its death, end it.

A reader thread per process hands messages to whom they are for. All methods may be called from any
thread.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import IO, Any

from pannier.pkgmgr.modelspec import ModelFiles

from . import frames
from .errors import (
    CrashedInLoading,
    DeadlinePassed,
    EngineError,
    EngineMissing,
    LoadError,
    RunnerDied,
)
from .interface import Caller, never
from .isolation import scrubbed_environment, signal_name
from .machine import RunnerLimits
from .memory import MemoryPlan
from .request import LATE, Delta, GenerationRequest, LoadOptions, ModelInfo
from .stats import EngineStats
from .stream import Stream

# Loading 100 GB from a slow disk takes this long; a runner that says nothing for it is stuck.
LOAD_SILENCE_S = 300.0
_EXIT_GRACE_S = 5.0
_LAST_WORDS = 2000

Death = Callable[[], None]
Progress = Callable[[int], None]


class RunnerProcess:
    """A runner with its model loaded, or an exception."""

    def __init__(
        self,
        name: str,
        files: ModelFiles,
        options: LoadOptions,
        *,
        plan: MemoryPlan,
        limits: RunnerLimits,
        threads: int,
        states: Path | None = None,
        on_death: Death = lambda: None,
        on_progress: Progress = lambda percent: None,
    ) -> None:
        """Start a process and load a model in it, which decodes with `threads` where nobody says.

        Raises:
            LoadError: the engine refused the model, or died of it.
            EngineMissing: there is no usable engine.
        """
        self.name = name
        self._on_death = on_death
        self._plan = plan
        self._limits = limits
        self._wanted_threads = options.num_thread
        self._threads = options.num_thread or threads
        self._steps = -1
        self.stats = EngineStats()
        self._alive_s = time.monotonic()
        self._silence_s: float | None = None
        self.is_crash = False
        self._keys = count(1)
        self._lock = threading.Lock()
        self._streams: dict[int, Stream] = {}
        self._error: EngineError | None = None
        self._ending = False
        self._last_words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed in _bury)
        self._process, self._channel, self._death_pipe = self._spawn()
        try:
            self.info, self.load_ns = self._load(files, options, states, on_progress)
        except BaseException:
            self._ending = True
            self._bury()
            raise
        self._reader = threading.Thread(target=self._read, name=f"runner {name}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it may be given work."""
        return self._error is None and not self._ending

    @property
    def busy(self) -> int:
        """Requests running or waiting."""
        return len(self._streams)

    def generate(self, request: GenerationRequest, *, on_end: Callable[[], None]) -> Stream:
        """Start a request; returns when it is accepted. `on_end` is called once, when it is over.

        Raises:
            ContextOverflow: it does not fit, and may not be truncated.
            RunnerDied: the process is gone.
        """
        stream = self._open(on_end)
        self._send({"op": "generate", "key": stream.key, "request": frames.encode_request(request)})
        stream.wait_accepted()
        return stream

    def call(self, op: str, *, caller: Caller | None = None, **facts: Any) -> Any:
        """One question with one answer: `embed`, `tokenize`; cancelled when its caller has gone."""
        stream = self._open(lambda: None)
        if caller is not None:
            facts |= {"client": caller.client, "priority": caller.priority}
        self._send({"op": op, "key": stream.key, **facts})
        return stream.wait_result(never if caller is None else caller.gone)

    def cancel(self, key: int) -> None:
        """End a request; its stream gets a last delta."""
        if key in self._streams:
            self._send({"op": "cancel", "key": key})

    def use_threads(self, share: int, *, alone: bool) -> None:
        """Decode with a share of the cores; options that say how many go up to it, alone beyond."""
        wanted = self._wanted_threads or share
        count = wanted if alone else min(wanted, share)
        if count != self._threads:
            self._threads = count
            self._send({"op": "threads", "key": 0, "count": count})

    def check_pulse(self, silence_s: float) -> None:
        """Ask a busy process for a sign of life; kill it where none came for too long."""
        if not self._streams:
            self._alive_s = time.monotonic()
            return
        if time.monotonic() - self._alive_s > silence_s:
            self._silence_s = silence_s
            self._process.kill()
            return
        # Where a sender is stuck in a process that reads nothing, no sign of life can come anyway.
        if self._lock.acquire(blocking=False):
            self._lock.release()
            self._send({"op": "pulse", "key": 0})

    def close(self) -> None:
        """End the process; running requests get an error. Idempotent."""
        self._ending = True
        self._channel.shut()
        reader = self._reader
        if reader is not threading.current_thread():
            reader.join(timeout=2 * _EXIT_GRACE_S)

    def _spawn(self) -> tuple[subprocess.Popen[bytes], frames.Channel, int]:
        ours, theirs = socket.socketpair()
        death_read, death_write = os.pipe()
        command = [sys.executable, "-m", "pannier.runtime.runner"]
        with theirs:
            try:
                process = subprocess.Popen(
                    [*command, str(theirs.fileno()), str(death_read)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._last_words,
                    env=scrubbed_environment(os.environ),
                    pass_fds=(theirs.fileno(), death_read),
                    start_new_session=True,
                )
            except BaseException:
                os.close(death_write)
                ours.close()
                self._last_words.close()
                raise
            finally:
                os.close(death_read)
        return process, frames.Channel(ours), death_write

    def _load(
        self, files: ModelFiles, options: LoadOptions, states: Path | None, on_progress: Progress
    ) -> tuple[ModelInfo, int]:
        load = {
            "op": "load",
            "weights": [str(path) for path in files.weights],
            "adapters": [str(path) for path in files.adapters],
            "draft": self._draft(files, options),
            "projector": None if files.projector is None else str(files.projector),
            "options": frames.encode_options(
                self._plan.options(replace(options, num_thread=self._threads))
            ),
            "num_ctx": self._plan.num_ctx,
            "num_contexts": self._plan.num_contexts,
            "states_budget": self._plan.states_budget,
            "checkpoints_budget": self._plan.checkpoints_budget,
            "states": None if states is None else str(states),
            "address_space": self._limits.address_space,
            "cpu_seconds": self._limits.cpu_seconds,
        }
        self._send(load)
        self._channel.set_timeout(LOAD_SILENCE_S)
        while (message := self._channel.receive()) is not None:
            match message["op"]:
                case "progress":
                    on_progress(message["percent"])
                case "loaded":
                    self._channel.set_timeout(None)
                    return self._model_info(message["info"]), message["load_ns"]
                case "failed":
                    raise self._refusal(message)
        end = self._describe_end()
        raise CrashedInLoading(
            f"cannot load {self.name}: {end}",
            hint="`pannier doctor` tells whether the engine works on this machine",
        )

    def _model_info(self, facts: dict[str, Any]) -> ModelInfo:
        plan = self._plan
        return ModelInfo(**facts, size=plan.total, size_vram=plan.shown_on_gpus)

    def _draft(self, files: ModelFiles, options: LoadOptions) -> frames.Message | None:
        plan = self._plan.draft
        if plan is None:
            return None
        return {
            "weights": [str(path) for path in files.draft],
            "options": frames.encode_options(plan.options(options)),
            "num_ctx": plan.num_ctx,
        }

    def _refusal(self, message: frames.Message) -> EngineError:
        if message["kind"] == "EngineMissing":
            return EngineMissing(message["message"], hint=message["hint"])
        reason = message["message"]
        words = self._read_last_words()
        detail = f" ({words})" if words else ""
        return LoadError(f"cannot load {self.name}: {reason}{detail}", hint=message["hint"])

    def _open(self, on_end: Callable[[], None]) -> Stream:
        stream = Stream(self, next(self._keys), on_end)
        with self._lock:
            if self._error is not None:
                raise self._error
            if not self._streams:
                # Silence counts from here: it had nothing to say while it was idle.
                self._alive_s = time.monotonic()
            self._streams[stream.key] = stream
        return stream

    def _send(self, message: frames.Message) -> None:
        try:
            with self._lock:
                self._channel.send(message)
        except OSError:
            # It is dead; the reader thread notices, and tells everybody who waits.
            return

    def _read(self) -> None:
        while (message := self._channel.receive()) is not None:
            if message["op"] == "step":
                self._alive_s = time.monotonic()
                if "stats" in message:
                    self.stats = frames.decode_stats(message["stats"])
                self._deliver(message["pieces"])
            elif message["op"] == "pulse":
                self._note_pulse(message["steps"])
            else:
                stream = self._streams.get(message["key"])
                if stream is not None:
                    if message["op"] == "accepted":
                        stream.is_accepted = True
                    else:
                        self._forget(stream)
                    stream.put(message)
        self._die()

    def _note_pulse(self, steps: int) -> None:
        if steps != self._steps:
            self._steps = steps
            self._alive_s = time.monotonic()

    def _deliver(self, pieces: list[list[Any]]) -> None:
        for key, text, tokens, *end in pieces:
            stream = self._streams.get(key)
            if stream is None:
                continue
            if not end:
                stream.put(Delta(text, tokens))
                continue
            finish, usage, stop_text, context, error, logprobs = end
            if finish is not None or error is not None:
                self._forget(stream)
            if error is not None:
                kind = DeadlinePassed if error == LATE else EngineError
                stream.put(kind(f"{self.name}: {error}"))
                continue
            stream.put(
                Delta(
                    text,
                    tokens,
                    finish=frames.decode_finish(finish),
                    usage=None if usage is None else frames.decode_usage(usage),
                    context=tuple(context),
                    stop_text=stop_text,
                    logprobs=tuple(map(frames.decode_logprob, logprobs)),
                )
            )

    def _forget(self, stream: Stream) -> None:
        with self._lock:
            self._streams.pop(stream.key, None)
        stream.on_end()

    def _die(self) -> None:
        error = self._death()
        # Who kills an idle process is no crash of the engine; that may go on meanwhile.
        has_work = any(stream.is_accepted for stream in self._streams.values())
        is_limit = error.signal == "SIGXCPU"
        self.is_crash = not (self._ending or is_limit) and (has_work or error.signal != "SIGKILL")
        with self._lock:
            self._error = error
            streams = list(self._streams.values())
            self._streams.clear()
        self._on_death()
        for stream in streams:
            stream.on_end()
            stream.put(error)

    def _death(self) -> RunnerDied:
        """Bury the process and say what it died of."""
        self._bury(keep_words=True)
        code = self._process.returncode
        name = signal_name(code)
        with self._last_words:
            if self._ending:
                return RunnerDied(f"{self.name} was unloaded", signal=name)
            if self._silence_s is not None:
                message = f"the process running {self.name} made no step for {self._silence_s:g} s"
                return RunnerDied(message, signal=name, hint="it was ended")
            hint = "the next request loads the model again"
            if name == "SIGILL":
                hint = "the engine was built for another CPU; run `pannier doctor`"
            if name == "SIGXCPU":
                hint = f"it had used up its CPU time (RUNNER_CPU_TIME); {hint}"
            message = f"the process running {self.name} died: {self._describe_end()}"
            return RunnerDied(message, signal=name, hint=hint)

    def _bury(self, *, keep_words: bool = False) -> None:
        self._channel.close()
        os.close(self._death_pipe)
        try:
            self._process.wait(timeout=_EXIT_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if not keep_words:
            self._last_words.close()

    def _describe_end(self) -> str:
        try:
            code = self._process.wait(timeout=_EXIT_GRACE_S)
        except subprocess.TimeoutExpired:
            return "it does not answer"
        name = signal_name(code)
        reason = f"killed by {name}" if name else f"exit status {code}"
        words = self._read_last_words()
        return f"{reason} ({words})" if words else reason

    def _read_last_words(self) -> str:
        """The last line that it wrote to stderr."""
        size = self._last_words.seek(0, os.SEEK_END)
        self._last_words.seek(max(0, size - _LAST_WORDS))
        lines = self._last_words.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1].strip()[:300] if lines else ""
