"""Verification stamps: which blob files were hashed, and looked like what at that time.

A stamp is inode, size, mtime and ctime in nanoseconds. A file that still looks so has not been
written since by any program that goes through the kernel; rot below the file system stays unseen,
which is what a full `verify` is for. `verified.json` in the store; losing it costs time, not truth.
"""

from __future__ import annotations

import errno
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import strictjson
from ..digest import Digest
from ..store.files import replace_file
from ..store.store import Store

_log = logging.getLogger(__name__)
_FILE = "verified.json"
_MAX_SIZE = 64 << 20


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a file looked like when it was whole. `verified` is in seconds since 1970."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    verified: float

    @classmethod
    def of(cls, path: Path, *, now: float) -> Stamp:
        """The stamp of a file as it is now.

        Raises:
            FileNotFoundError: where it is not there.
        """
        status = path.stat(follow_symlinks=False)
        return cls(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, now)

    def still_fits(self, other: Stamp) -> bool:
        """Whether the file has not been written since.

        The times of a blob also change when a command refreshes its last use; content cannot
        change without a change of size, inode or ctime, so a refresh merely costs a hash.
        """
        return (self.inode, self.size, self.mtime_ns, self.ctime_ns) == (
            other.inode,
            other.size,
            other.mtime_ns,
            other.ctime_ns,
        )


def read_stamps(store: Store) -> Mapping[Digest, Stamp]:
    """Every stamp of a store; none where the file is absent or damaged."""
    try:
        raw = (store.root / _FILE).read_bytes()
        value = strictjson.loads(raw, max_size=_MAX_SIZE)
        return {Digest.parse(key): _stamp(item) for key, item in value.items()}
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return {}


def write_stamps(store: Store, changes: Mapping[Digest, Stamp | None]) -> None:
    """Add and (None) remove stamps, leaving those that other processes wrote meanwhile.

    Where the store may only be read, there are none.
    """
    try:
        _change(store, changes)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES):
            raise
        _log.debug("verified, but not noted: %s", error)


def _change(store: Store, changes: Mapping[Digest, Stamp | None]) -> None:
    with store.lock():
        stamps = dict(read_stamps(store))
        for digest, stamp in changes.items():
            if stamp is None:
                stamps.pop(digest, None)
            else:
                stamps[digest] = stamp
        value = {
            str(digest): [s.inode, s.size, s.mtime_ns, s.ctime_ns, s.verified]
            for digest, s in sorted(stamps.items())
            if store.path(digest).exists()
        }
        replace_file(store.root / _FILE, json.dumps(value).encode("ascii"))


def is_fresh(store: Store, digest: Digest, stamps: Mapping[Digest, Stamp]) -> bool:
    """Whether a blob was verified and has not been written since."""
    stamp = stamps.get(digest)
    if stamp is None:
        return False
    try:
        return stamp.still_fits(Stamp.of(store.path(digest), now=time.time()))
    except FileNotFoundError:
        return False


def _stamp(item: Any) -> Stamp:
    inode, size, mtime_ns, ctime_ns, verified = item
    return Stamp(int(inode), int(size), int(mtime_ns), int(ctime_ns), float(verified))
