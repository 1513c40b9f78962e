"""Loads mutated models into llama.cpp, each in a process of its own; run as a program.

``python -m support.accepted SEED COUNT`` mutates the header of a tiny model, takes COUNT mutants
that the GGUF checks accept, loads each and decodes a few tokens, and prints as JSON which of them
ended their process by a signal.
"""

from __future__ import annotations

import io
import json
import os
import random
import signal
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pannier.pkgmgr.errors import InvalidGGUF
from pannier.pkgmgr.gguf import check, read_header

from . import gguf as make

_INTS = (
    0,
    1,
    2,
    3,
    5,
    7,
    8,
    9,
    15,
    16,
    31,
    33,
    64,
    255,
    512,
    65_535,
    1 << 20,
    1 << 31,
    0xFFFF_FFFF,
)
_FLOATS = (0.0, -1.0, float("nan"), float("inf"), 1e30, 1e-30)
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_TIMEOUT_S = 20


def scalars(data: bytes) -> Iterator[tuple[str, int, int]]:
    """(key, value type, offset) of every value of a header; of arrays and strings the content."""
    position = 24
    for _ in range(struct.unpack_from("<Q", data, 16)[0]):
        length = struct.unpack_from("<Q", data, position)[0]
        key = data[position + 8 : position + 8 + length].decode()
        position += 8 + length
        (kind,) = struct.unpack_from("<I", data, position)
        position += 4
        if kind == make.STRING:
            yield key, kind, position + 8
            position += 8 + struct.unpack_from("<Q", data, position)[0]
        elif kind == make.ARRAY:
            item, count = struct.unpack_from("<IQ", data, position)
            position += 12
            if item == make.STRING:
                for _ in range(count):
                    position += 8 + struct.unpack_from("<Q", data, position)[0]
            else:
                yield key, item, position + _SIZES[item] * (count // 2)
                position += count * _SIZES[item]
        else:
            yield key, kind, position
            position += _SIZES[kind]


def mutants(data: bytes, chooser: random.Random) -> Iterator[tuple[str, bytes]]:
    """Endless mutants that the checks accept, with what was changed."""
    places = list(scalars(data))
    while True:
        changed = bytearray(data)
        key, kind, offset = chooser.choice(places)
        value: int | float = chooser.choice(_INTS)
        if kind == make.F32:
            value = chooser.choice(_FLOATS)
            struct.pack_into("<f", changed, offset, value)
        elif kind in (make.U32, make.I32):
            struct.pack_into("<I", changed, offset, value)
        else:
            value = chooser.randrange(33, 126)
            changed[offset] = value
        if changed != data and _is_accepted(bytes(changed)):
            yield f"{key}={value}", bytes(changed)


def _is_accepted(data: bytes) -> bool:
    try:
        header = read_header(io.BytesIO(data), size=len(data), name="x")
        check(header, size=len(data), name="x")
    except InvalidGGUF:
        return False
    return True


def _load(path: Path) -> None:
    import llama_cpp

    model = llama_cpp.llama_model_load_from_file(
        str(path).encode(), llama_cpp.llama_model_default_params()
    )
    if not model:
        return
    params = llama_cpp.llama_context_default_params()
    params.n_ctx, params.n_threads = 64, 1
    context = llama_cpp.llama_init_from_model(model, params)
    if context:
        tokens = (llama_cpp.llama_token * 3)(1, 2, 3)
        llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, 3))


def main(seed: int, count: int) -> None:
    """Print what died."""
    import llama_cpp

    llama_cpp.llama_backend_init()
    died = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mutant.gguf"
        data = make.tiny_llama(Path(folder) / "tiny.gguf").read_bytes()
        stream = mutants(data, random.Random(seed))
        for _ in range(count):
            what, mutant = next(stream)
            path.write_bytes(mutant)
            pid = os.fork()
            if pid == 0:
                signal.alarm(_TIMEOUT_S)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                _load(path)
                os._exit(0)
            _, status = os.waitpid(pid, 0)
            if os.WIFSIGNALED(status):
                died.append(f"{what}: {signal.Signals(os.WTERMSIG(status)).name}")
    print(json.dumps(died))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
