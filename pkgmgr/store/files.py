"""The few file-system acts that durability rests on: whole writes, synced renames, plain errors.

Not a place for paths or formats; `store.py` and `ingest.py` know those.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import NoSpace, PannierError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an OSError into the project's errors, naming `path`.

    Raises:
        NoSpace: where the disk or a quota is full.
        PannierError: for any other refusal of the operating system.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise NoSpace(path) from error
        raise PannierError(f"cannot write {path}: {error.strerror or error}") from error


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write every byte; `os.write` may take fewer than it was given."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def file_mark(path: Path) -> object:
    """What differs after every `replace_file` of a path, cheap to ask; None where it is absent."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size


def replace_file(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace a file's content: after a crash it holds the old bytes or the new ones.

    The caller keeps other writers of the same path away.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with suppress(FileNotFoundError):
        temporary.unlink()
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        write_all(fd, data)
        os.fsync(fd)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
    os.replace(temporary, path)
    sync_directory(path.parent)
