"""Renders Jinja templates in child processes, under a deadline and a memory limit.

A chat template is a stranger's program: Jinja's sandbox keeps it from files and from Python's
insides, but not from looping for hours or filling the memory. A `RenderPool` keeps a few children
(`worker`) that hold compiled templates; one that overruns is killed and replaced.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any

from ..errors import TemplateError
from ..isolation import scrubbed_environment
from .jinja import MAX_SOURCE
from .worker import LENGTH, MAX_CPU_S

# A rendering has MAX_CPU_S of processor time; this is for a machine that has none to give.
DEADLINE_S = 15.0
MAX_WORKERS = 4
_MAX_IDLE = 2
# JSON may write six bytes for a character of output.
_MAX_REPLY = 32 << 20


class RenderPool:
    """Up to `MAX_WORKERS` children, started as they are needed. Any thread may call."""

    def __init__(self, *, deadline_s: float = DEADLINE_S) -> None:
        self._deadline_s = deadline_s
        self._free = threading.BoundedSemaphore(MAX_WORKERS)
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._is_closed = False

    def check(self, source: str) -> None:
        """Compile a template.

        Raises:
            TemplateError: where it is none.
        """
        self._ask(source, {})

    def render(self, source: str, names: Mapping[str, Any], *, now: datetime) -> str:
        """The text for these top-level names, which are JSON values.

        Raises:
            TemplateError: where the template fails, refuses, or overruns a limit.
        """
        return self._ask(source, {"names": names, "now": now.isoformat()})

    def close(self) -> None:
        """End the children. Idempotent; nothing may be rendered after it."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.close()

    def _ask(self, source: str, request: Mapping[str, Any]) -> str:
        if len(source) > MAX_SOURCE:
            raise TemplateError(f"{len(source)} characters, more than {MAX_SOURCE}")
        key = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
        with self._free:
            worker = self._take()
            try:
                reply = worker.ask({"key": key, **request}, self._deadline_s)
                if "unknown" in reply:
                    full = {"key": key, "source": source, **request}
                    reply = worker.ask(full, self._deadline_s)
            except BaseException:
                worker.close()
                raise
            self._put(worker)
        if "error" in reply:
            raise TemplateError(reply["error"], line=reply.get("line"))
        return str(reply["text"])

    def _take(self) -> _Worker:
        with self._lock:
            while self._idle:
                worker = self._idle.pop()
                if worker.is_alive:
                    return worker
                worker.close()
        return _Worker()

    def _put(self, worker: _Worker) -> None:
        with self._lock:
            if not self._is_closed and len(self._idle) < _MAX_IDLE:
                self._idle.append(worker)
                return
        worker.close()


@cache
def shared_pool() -> RenderPool:
    """The pool of this process; it ends with the process."""
    pool = RenderPool()
    atexit.register(pool.close)
    return pool


class _Worker:
    """One child and its pipes. For one thread at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pannier.runtime.template.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=scrubbed_environment(os.environ),
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in = self._process.stdin
        self._out = self._process.stdout

    @property
    def is_alive(self) -> bool:
        """Whether the child still runs."""
        return self._process.poll() is None

    def ask(self, request: Mapping[str, Any], deadline_s: float) -> dict[str, Any]:
        """One request and its reply."""
        data = json.dumps(request, separators=(",", ":")).encode()
        end = time.monotonic() + deadline_s
        try:
            view = memoryview(LENGTH.pack(len(data)) + data)
            while view:
                view = view[os.write(self._in.fileno(), view) :]
        except OSError as error:
            raise TemplateError(self._why_dead()) from error
        (length,) = LENGTH.unpack(self._read(LENGTH.size, end))
        if length > _MAX_REPLY:
            raise TemplateError("the rendering process talks nonsense")
        reply = json.loads(self._read(length, end))
        assert isinstance(reply, dict)
        return reply

    def close(self) -> None:
        """End the child and free its pipes. Idempotent."""
        self._process.kill()
        self._process.wait()
        self._in.close()
        self._out.close()

    def _read(self, count: int, end: float) -> bytes:
        data = b""
        poll = select.poll()
        poll.register(self._out, select.POLLIN)
        while len(data) < count:
            if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
                raise TemplateError("rendering takes too long")
            part = os.read(self._out.fileno(), count - len(data))
            if not part:
                raise TemplateError(self._why_dead())
            data += part
        return data

    def _why_dead(self) -> str:
        code = self._process.wait()
        if code == -signal.SIGXCPU:
            return f"rendering takes more than {MAX_CPU_S} seconds of processor time"
        return f"the rendering process died with status {code}"
