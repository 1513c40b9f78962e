"""A canary decode: proves in a child process that the engine works on this machine.

A build for another CPU, or one that uses AMX where a virtual machine only announces it, does not
fail to import; it dies with an illegal instruction at the first larger prompt. So a child loads a
model, computes 64 prompt tokens in one batch and draws 8.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .isolation import scrubbed_environment, signal_name
from .tinymodel import tiny_model

PROMPT_TOKENS = 64
DRAWN_TOKENS = 8
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class CanaryResult:
    """What became of a canary decode.

    Attributes:
        problem: one line, None where all went well.
        signal: the name of the signal that killed the child, None otherwise.
        report: what the library says of this machine: CPU features, devices.
    """

    problem: str | None
    signal: str | None = None
    hint: str | None = None
    report: str = ""


def run_canary(model: Path | None = None, *, timeout_s: float = TIMEOUT_S) -> CanaryResult:
    """Decode with a model file, or with a tiny one made for the purpose; never raises for it."""
    command = [sys.executable, "-m", "pannier.runtime.canary", *([str(model)] if model else [])]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=scrubbed_environment(os.environ),
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return CanaryResult(f"the engine did not finish within {timeout_s:.0f} s")
    if done.returncode == 0:
        return CanaryResult(None, report=done.stdout.strip())
    name = signal_name(done.returncode)
    lines = done.stderr.strip().splitlines()
    words = lines[-1][:300] if lines else f"exit status {done.returncode}"
    if name is None:
        return CanaryResult(words, hint="install it with `pip install 'pannier[runtime]'`")
    hint = "rebuild llama-cpp-python on this machine (docs/install.md names the flags)"
    return CanaryResult(f"the engine was killed by {name}", signal=name, hint=hint)


def main(arguments: list[str]) -> int:
    """The child: decode with the model named, or with the tiny one."""
    from .errors import EngineError

    try:
        if arguments:
            report = _decode(Path(arguments[0]))
        else:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "canary.gguf"
                path.write_bytes(tiny_model())
                report = _decode(path)
    except EngineError as error:
        print(error, file=sys.stderr)
        return 1
    print(report)
    return 0


def _decode(path: Path) -> str:
    from .backend import DecodeStatus, Row
    from .context import ContextParams, LlamaBackend
    from .cores import usable_cores
    from .errors import EngineError
    from .model import Model
    from .native import native
    from .request import LoadOptions, SamplingParams

    library = native()
    library.start()
    model = Model.load([path], LoadOptions())
    threads = usable_cores()
    backend = LlamaBackend(model, ContextParams(256, 1, 256, 1, threads, threads))
    tokens = [number % model.vocabulary_size for number in range(PROMPT_TOKENS)]
    sampler = backend.sampler(SamplingParams(temperature=0), tokens)
    rows = [Row(token, at, 0, at == PROMPT_TOKENS - 1) for at, token in enumerate(tokens)]
    for position in range(PROMPT_TOKENS, PROMPT_TOKENS + DRAWN_TOKENS):
        if backend.decode(rows) is not DecodeStatus.DONE:
            raise EngineError("the engine refused to decode")
        (token,) = backend.sample([(sampler, len(rows) - 1)])
        rows = [Row(token, position, 0, True)]
    sampler.close()
    backend.close()
    model.close()
    report: bytes = library.api.llama_print_system_info()
    return report.decode("utf-8", "replace")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
