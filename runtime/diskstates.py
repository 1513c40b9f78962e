"""States of shared beginnings on disk, so that a restart does not pay a long system prompt again.

One file per state: a line of JSON (tokens, group, SHA-256 of the rest), then the state as llama.cpp
gave it. The folder belongs to one model digest, one engine version and one type of cells, since a
state means nothing to others. Files are private to the user, since prompts stand in them.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .hoststates import HostStates, SavedState, Usable
from .prefix import common_prefix

# Computing fewer tokens again is no burden.
MIN_TOKENS = 256
BUDGET = 1 << 30
_SUFFIX = ".state"


class DiskStates(HostStates):
    """States in memory, and behind them those of shared beginnings on disk."""

    def __init__(self, budget: int, folder: Path) -> None:
        super().__init__(budget)
        self._folder = folder
        self._known: dict[Path, tuple[str, list[int]]] = {}
        self._read_index()

    def wants(self, tokens: list[int], group: str) -> bool:
        """Whether a shared beginning should be kept that is not."""
        size = len(tokens)
        return size >= MIN_TOKENS and not any(
            other_group == group and other[:size] == tokens
            for other_group, other in self._known.values()
        )

    def keep(self, tokens: list[int], state: bytes, group: str) -> None:
        """Hash and write a state, on a thread of its own."""
        path = self._folder / f"{secrets.token_hex(16)}{_SUFFIX}"
        self._known[path] = (group, tokens)
        facts = {"tokens": tokens, "group": group}
        threading.Thread(target=self._write, args=(path, facts, state), daemon=True).start()

    def match(
        self, tokens: Sequence[int], *, limit: int, group: str, usable: Usable
    ) -> SavedState | None:
        """See `HostStates.match`; a longer one on disk goes before."""
        best = super().match(tokens, limit=limit, group=group, usable=usable)
        at_least = MIN_TOKENS if best is None else best.length + MIN_TOKENS
        for path, (other_group, other) in tuple(self._known.items()):
            if other_group != group or other[0] != tokens[0]:
                continue
            length = usable(common_prefix(other, tokens, 0, limit), len(other))
            if length < at_least:
                continue
            state = self._read(path)
            if state is not None:
                best, at_least = SavedState(other, state, length), length + 1
        return best

    def _read_index(self) -> None:
        paths = [path for path in self._folder.glob(f"*{_SUFFIX}") if path.is_file()]
        paths.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        total = 0
        for path in paths:
            total += path.stat().st_size
            try:
                with path.open("rb") as stream:
                    head = json.loads(stream.readline(1 << 24))
                tokens = [int(token) for token in head["tokens"]]
                if total > BUDGET or not tokens:
                    raise ValueError("beyond the budget")
                self._known[path] = (str(head["group"]), tokens)
            except (OSError, ValueError, KeyError, TypeError):
                with suppress(OSError):
                    path.unlink()

    def _read(self, path: Path) -> bytes | None:
        """A state whose bytes are what was written; None and forgotten otherwise."""
        try:
            with path.open("rb") as stream:
                head = json.loads(stream.readline(1 << 24))
                state = stream.read()
            if hashlib.sha256(state).hexdigest() == head["sha256"]:
                return state
        except (OSError, ValueError, KeyError, TypeError):
            pass
        self._known.pop(path, None)
        return None

    def _write(self, path: Path, facts: dict[str, Any], state: bytes) -> None:
        head = json.dumps({**facts, "sha256": hashlib.sha256(state).hexdigest()}).encode()
        unfinished = path.with_suffix(".unfinished")
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
