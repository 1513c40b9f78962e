"""States of shared beginnings on disk, so that a restart does not pay a long system prompt again.

One file per state: a line of JSON (tokens, group, SHA-256 of the rest), then the state as llama.cpp
gave it. The folder belongs to one model digest, one engine version and one type of cells, since a
state means nothing to others. Files are private to the user, since prompts stand in them. Beyond
the budget those used longest ago go.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Full, Queue
from typing import Any

from .hoststates import HostStates, SavedState, Usable
from .prefix import common_prefix

# Computing fewer tokens again is no burden.
MIN_TOKENS = 256
# Bytes of one folder.
BUDGET = 1 << 30
_SUFFIX, _UNFINISHED = ".state", ".unfinished"
# States that wait to be written, at most: each is held in memory.
_MAX_WAITING = 2


@dataclass(slots=True)
class _Entry:
    """A state of `tokens` in a file of `size` bytes; `is_written` says whether it is there yet."""

    group: str
    tokens: list[int]
    size: int
    is_written: bool = True


class DiskStates(HostStates):
    """States in memory, and behind them those of shared beginnings on disk.

    One thread calls it; another one, its own, writes.
    """

    def __init__(self, budget: int, folder: Path, *, disk_budget: int = BUDGET) -> None:
        super().__init__(budget)
        self._folder = folder
        self._disk_budget = disk_budget
        # By use, the last used at the end.
        self._known: dict[Path, _Entry] = {}
        self._lock = threading.Lock()
        self._to_write: Queue[tuple[Path, bytes]] = Queue(_MAX_WAITING)
        self._writer: threading.Thread | None = None
        self._read_index()

    def wants(self, tokens: list[int], group: str) -> bool:
        """Whether a shared beginning should be kept that is not."""
        size = len(tokens)
        return size >= MIN_TOKENS and not any(
            entry.group == group and entry.tokens[:size] == tokens
            for entry in tuple(self._known.values())
        )

    def keep(self, tokens: list[int], state: bytes, group: str) -> None:
        """Have a state written, unless too many wait for it; it can be found from then on."""
        path = self._folder / f"{secrets.token_hex(16)}{_SUFFIX}"
        with self._lock:
            self._known[path] = _Entry(group, tokens, len(state), is_written=False)
        try:
            self._to_write.put_nowait((path, state))
        except Full:
            self._forget(path)
        if self._writer is None:
            self._writer = threading.Thread(target=self._write_all, name="states", daemon=True)
            self._writer.start()

    def flush(self) -> None:
        """Wait until all that was kept is written."""
        self._to_write.join()

    def match(
        self, tokens: Sequence[int], *, least: int, limit: int, group: str, usable: Usable
    ) -> SavedState | None:
        """See `HostStates.match`; a longer one on disk goes before."""
        best = super().match(tokens, least=least, limit=limit, group=group, usable=usable)
        at_least = max(least, MIN_TOKENS if best is None else best.length + MIN_TOKENS)
        for path, entry in tuple(self._known.items()):
            if not entry.is_written or entry.group != group or entry.tokens[0] != tokens[0]:
                continue
            common = common_prefix(entry.tokens, tokens, 0, limit)
            length = usable(common, len(entry.tokens))
            if length < at_least:
                continue
            state = self._read(path)
            if state is not None:
                best, at_least = SavedState(entry.tokens, state, length), length + 1
        return best

    def _read_index(self) -> None:
        for left in self._folder.glob(f"*{_UNFINISHED}"):
            with suppress(OSError):
                left.unlink()
        paths = [path for path in self._folder.glob(f"*{_SUFFIX}") if path.is_file()]
        paths.sort(key=lambda path: path.stat().st_mtime)
        for path in paths:
            try:
                with path.open("rb") as stream:
                    head = json.loads(stream.readline(1 << 24))
                tokens = [int(token) for token in head["tokens"]]
                if not tokens:
                    raise ValueError("a state of nothing")
                self._known[path] = _Entry(str(head["group"]), tokens, path.stat().st_size)
            except (OSError, ValueError, KeyError, TypeError):
                with suppress(OSError):
                    path.unlink()
        self._shrink()

    def _shrink(self) -> None:
        """Remove what was used longest ago until the rest is within the budget."""
        with self._lock:
            total = sum(entry.size for entry in self._known.values())
            for path, entry in tuple(self._known.items()):
                if total <= self._disk_budget:
                    break
                if not entry.is_written:
                    continue
                total -= entry.size
                del self._known[path]
                with suppress(OSError):
                    path.unlink()

    def _read(self, path: Path) -> bytes | None:
        """A state whose bytes are what was written; None and forgotten otherwise."""
        entry = self._forget(path)
        try:
            with path.open("rb") as stream:
                head = json.loads(stream.readline(1 << 24))
                state = stream.read()
            if entry is not None and hashlib.sha256(state).hexdigest() == head["sha256"]:
                # The next start goes by the files' times.
                with suppress(OSError):
                    os.utime(path)
                with self._lock:
                    self._known[path] = entry
                return state
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def _forget(self, path: Path) -> _Entry | None:
        with self._lock:
            return self._known.pop(path, None)

    def _write_all(self) -> None:
        while True:
            path, state = self._to_write.get()
            entry = self._known[path]
            facts = {"tokens": entry.tokens, "group": entry.group}
            size = self._write(path, facts, state)
            if size:
                entry.size, entry.is_written = size, True
                self._shrink()
            else:
                self._forget(path)
            del state
            self._to_write.task_done()

    def _write(self, path: Path, facts: dict[str, Any], state: bytes) -> int:
        """Returns the file's size; 0 where it could not be written."""
        head = json.dumps({**facts, "sha256": hashlib.sha256(state).hexdigest()}).encode()
        unfinished = path.with_suffix(_UNFINISHED)
        try:
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(head + b"\n")
                stream.write(state)
            unfinished.replace(path)
        except OSError:
            # A full disk costs a restart some time and nothing else.
            with suppress(OSError):
                unfinished.unlink()
            return 0
        return len(head) + 1 + len(state)
