"""Quantising a GGUF file: in a child process, since the library ends its own for some errors.

`quantize` runs the child and reports its progress; `main` is the child.
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from pannier.pkgmgr import gguf
from pannier.pkgmgr.errors import InvalidOption, NoSpace
from pannier.pkgmgr.gguf_types import FILE_TYPES, WHOLE_TYPES
from pannier.pkgmgr.modelfile.quantized import Quantizer

from .cores import usable_cores
from .errors import EngineError, UnsupportedRequest
from .isolation import scrubbed_environment, signal_name

# What the library writes of each tensor: "[  12/ 272]  blk.0.…".
_PROGRESS = re.compile(r"\[\s*(\d+)/\s*(\d+)\]")
# Beside models that answer: it takes the cores that they leave.
_NICENESS = 10
_ALIASES = {"Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "Q3_K": "Q3_K_M"}

OnProgress = Callable[[int, int], None]


def file_type(name: str) -> int:
    """The library's number of a quantisation.

    >>> file_type("q4_k_m")
    15

    Raises:
        InvalidOption: there is none of that name.
    """
    wanted = _ALIASES.get(name.upper(), name.upper())
    for number, known in FILE_TYPES.items():
        if known == wanted:
            return number
    usual = "q4_0, q4_K_M, q5_K_M, q6_K, q8_0, f16"
    raise InvalidOption(f"unknown quantization {name!r}", hint=f"use one of {usual}")


def quantizer(kind: str, on_progress: Callable[[str, int, int], None]) -> Quantizer:
    """What makes the weights of a new model smaller, for `modelfile.build`.

    Args:
        kind: such as q4_K_M, in any case.
        on_progress: gets a status to show, and bytes of the weights done and in all.

    Raises:
        InvalidOption: there is no such type.
    """
    name = FILE_TYPES[file_type(kind)]

    def write(source: Path, target: Path, level: str) -> None:
        status = f"quantizing {level} model to {name}"
        size = source.stat().st_size

        def note(done: int, total: int) -> None:
            on_progress(status, size * done // total, size)

        on_progress(status, 0, size)
        quantize(source, target, name, on_progress=note)

    return Quantizer(name, write)


def quantize(
    source: Path,
    target: Path,
    kind: str,
    *,
    again: bool = False,
    name: str = "",
    on_progress: OnProgress = lambda done, total: None,
) -> None:
    """Write `source` to `target` with its matrices as `kind`.

    Args:
        source: a GGUF file.
        target: is complete when this returns, and absent when it raises.
        kind: such as q4_K_M, in any case.
        again: also quantise what is quantised already, which costs quality twice.
        name: what messages call `source`; by default the file's name.
        on_progress: gets tensors done and in all.

    Raises:
        InvalidGGUF: `source` is no sound GGUF file.
        UnsupportedRequest: it is quantised already.
        EngineError: the library refused or died.
    """
    number = file_type(kind)
    name = name or source.name
    size = source.stat().st_size
    with source.open("rb") as stream:
        header = gguf.read_header(stream, size=size, name=name)
    gguf.check(header, size=size, name=name)
    if header.quantization not in WHOLE_TYPES and not again:
        raise UnsupportedRequest(
            f"{name} is quantized already ({header.quantization})",
            hint="start from an F16 or BF16 file, or allow the loss with --again",
        )
    unfinished = target.with_name(f".{target.name}.unfinished")
    try:
        _run_child(source, unfinished, number, on_progress)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _run_child(source: Path, target: Path, number: int, on_progress: OnProgress) -> None:
    command = [sys.executable, "-m", "pannier.runtime.quantize", str(source), str(target)]
    with subprocess.Popen(
        [*command, str(number)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=scrubbed_environment(os.environ),
        text=True,
        errors="replace",
    ) as child:
        assert child.stdout is not None
        last = ""
        try:
            for line in child.stdout:
                match = _PROGRESS.search(line)
                if match:
                    on_progress(int(match[1]), int(match[2]))
                elif line.strip():
                    last = line.strip()[:300]
        except BaseException:
            child.kill()
            raise
    if child.returncode == 0:
        return
    if "No space left" in last:
        raise NoSpace(target)
    name = signal_name(child.returncode)
    raise EngineError(f"cannot quantize {source.name}: {f'killed by {name}' if name else last}")


def main(arguments: list[str]) -> int:
    """The child: source, target, number of the type.

    The file is not trusted, so it is read with a runner's rights; models that answer go first.
    """
    from .confine import confine, give_up_privileges
    from .native import native

    source, target, number = arguments
    give_up_privileges()
    os.nice(_NICENESS)
    confine([Path(source)], writable=Path(target).parent)
    logging.basicConfig(stream=sys.stdout, level=logging.DEBUG, format="%(message)s")
    library = native()
    library.start()
    params = library.api.llama_model_quantize_default_params()
    params.ftype = int(number)
    params.nthread = usable_cores()
    params.allow_requantize = True
    import ctypes

    status: int = library.api.llama_model_quantize(
        source.encode(), target.encode(), ctypes.byref(params)
    )
    return 1 if status else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
