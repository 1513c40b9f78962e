"""Where the files of a Modelfile lie: paths, directories and shard sets on this machine's disk.

A path is absolute, begins with `~`, or is relative to the Modelfile. Only regular files are
opened, so that a device or a pipe cannot hang a build.
"""

from __future__ import annotations

import stat
from pathlib import Path

from ..dialects.shards import shard_of
from ..errors import InvalidGGUF, InvalidInput, PannierError
from ..gguf import Header, check, read_header

_GGUF = ".gguf"
# Weights that other tools turn into GGUF; we only pack what runs.
_FOREIGN = (".safetensors", ".bin", ".pth", ".pt")
_LFS = b"version https://git-lfs"


class MissingFile(InvalidInput):
    """A file that a Modelfile names is not there, or is none that can be read."""


def find_files(text: str, base_dir: Path) -> tuple[Path, ...] | None:
    """The GGUF files that an argument of FROM, ADAPTER or DRAFT names.

    Args:
        text: the argument.
        base_dir: what relative paths are relative to.

    Returns:
        One file, all shards of a set in order, or what a directory holds; None where the argument
        is no path, hence a model's name.

    Raises:
        MissingFile: where it looks like a path and there is nothing to read, or a shard is absent.
    """
    path = _expanded(text, base_dir)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        if _looks_like_path(text):
            reason = getattr(error, "strerror", None) or "no valid path"
            raise MissingFile(f"cannot read {text}: {reason}") from error
        return None
    if stat.S_ISDIR(mode):
        return _in_directory(path)
    if not stat.S_ISREG(mode):
        raise MissingFile(f"cannot read {text}: not a regular file")
    return _with_siblings(path)


def read_checked_header(path: Path, *, name: str, arrays: bool = True) -> Header:
    """The header of a GGUF file within the safe bounds.

    Raises:
        InvalidGGUF: where it is none.
        MissingFile: where it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            size = path.stat().st_size
            header = read_header(stream, size=size, name=name, arrays=arrays)
    except OSError as error:
        raise MissingFile(f"cannot read {name}: {error.strerror}") from error
    except InvalidGGUF as error:
        raise _explained(error, path) from error
    check(header, size=size, name=name)
    return header


def _expanded(text: str, base_dir: Path) -> Path:
    try:
        return base_dir / Path(text).expanduser()
    except RuntimeError as error:
        raise MissingFile(f"cannot read {text}: no such user") from error


def _looks_like_path(text: str) -> bool:
    return text.startswith(("/", "./", "../", "~")) or text.lower().endswith((_GGUF, *_FOREIGN))


def _with_siblings(path: Path) -> tuple[Path, ...]:
    """The whole set where the file is a shard."""
    shard = shard_of(path.name)
    if shard is None:
        return (path,)
    stem, _, count = shard
    suffix = path.name[-len(_GGUF) :]
    names = [f"{stem}-{number:05d}-of-{count:05d}{suffix}" for number in range(1, count + 1)]
    files = tuple(path.with_name(name) for name in names)
    missing = [file.name for file in files if not file.is_file()]
    if missing or not files:
        raise MissingFile(
            f"{path.name} is one of {count} shards, and {', '.join(missing[:3]) or 'all'} "
            f"{'is' if len(missing) == 1 else 'are'} not beside it"
        )
    return files


def _in_directory(path: Path) -> tuple[Path, ...]:
    names = sorted(item for item in path.iterdir() if item.is_file())
    files = tuple(item for item in names if item.suffix.lower() == _GGUF)
    if files:
        return files
    foreign = any(item.suffix in _FOREIGN for item in names)
    raise MissingFile(
        f"directory {path} holds no GGUF file",
        hint="convert the weights to GGUF with llama.cpp's convert_hf_to_gguf.py"
        if foreign
        else None,
    )


def _explained(error: InvalidGGUF, path: Path) -> PannierError:
    with path.open("rb") as stream:
        begin = stream.read(len(_LFS))
    if begin == _LFS:
        error.hint = "it is a Git LFS pointer: run `git lfs pull` first"
    elif path.suffix in _FOREIGN:
        error.hint = "convert the weights to GGUF with llama.cpp's convert_hf_to_gguf.py"
    return error
