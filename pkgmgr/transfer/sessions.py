"""Uploads that were begun and not ended, kept on disk so that the next process can go on.

A location may hold a registry's secret state: the files are the user's alone.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from ..digest import Digest
from ..store.files import disk_errors, replace_file

# Registries forget uploads after a day or a week.
_MAX_AGE_S = 7 * 24 * 3600.0
_MAX_FILE = 64 << 10


@dataclass(frozen=True, slots=True)
class Session:
    """An upload at a registry: where it goes on, how many bytes are there, how long chunks are."""

    location: str
    offset: int
    chunk: int

    def with_chunk(self, chunk: int) -> Self:
        """The same with another chunk length."""
        return replace(self, chunk=chunk)


class Sessions:
    """The sessions of one user. Files are replaced whole; the last writer wins."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, base: str, digest: Digest) -> Session | None:
        """The session of a blob in a repository, None where there is none of late."""
        path = self._path(base, digest)
        try:
            if time.time() - path.stat().st_mtime > _MAX_AGE_S or path.stat().st_size > _MAX_FILE:
                return None
            value: dict[str, Any] = json.loads(path.read_bytes())
            return Session(str(value["location"]), int(value["offset"]), int(value["chunk"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, base: str, digest: Digest, session: Session) -> None:
        """Remember how far an upload is."""
        path = self._path(base, digest)
        value = {
            "location": session.location,
            "offset": session.offset,
            "chunk": session.chunk,
            "digest": str(digest),
        }
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            replace_file(path, json.dumps(value).encode(), mode=0o600)

    def forget(self, base: str, digest: Digest) -> None:
        """The upload has ended."""
        self._path(base, digest).unlink(missing_ok=True)

    def _path(self, base: str, digest: Digest) -> Path:
        key = hashlib.sha256(f"{base} {digest}".encode()).hexdigest()
        return self._folder / f"{key}.json"
