"""What the environment says of the server: ours as PANNIER_…, else Ollama's as OLLAMA_….

A flag of the command line is the same setting in another place: `with_flags` lays it over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pannier.pkgmgr.cli.bundle import parse_size
from pannier.pkgmgr.errors import InvalidOption
from pannier.runtime.cores import usable_cores
from pannier.runtime.interface import FOREVER
from pannier.runtime.machine import Machine, RunnerLimits
from pannier.runtime.options import split_options
from pannier.runtime.placement import GPU_RESERVE
from pannier.runtime.request import TOP_P_PREFILTER, LoadOptions
from pannier.runtime.supervisor import DEFAULT_KEEP_ALIVE_S, Supervisor

from .admission import MAX_REQUESTS

_PREFIXES = ("PANNIER_", "OLLAMA_")
# Settings that are options of a load as well; what a request or a model says goes before them.
_NUMBERS = {
    "CONTEXT_LENGTH": "num_ctx",
    "NUM_PARALLEL": "num_parallel",
    "NUM_GPU": "num_gpu",
    "MAIN_GPU": "main_gpu",
}
_TEXTS = {
    "SPLIT_MODE": "split_mode",
    "TENSOR_SPLIT": "tensor_split",
    "KV_CACHE_TYPE": "kv_cache_type",
}


def setting(environ: Mapping[str, str], name: str) -> str | None:
    """A setting's text; None where neither variable is there or has a text."""
    for prefix in _PREFIXES:
        if text := environ.get(prefix + name, "").strip().strip("\"'"):
            return text
    return None


def with_flags(environ: Mapping[str, str], **flags: object) -> Mapping[str, str]:
    """An environment under a command line's flags; what is None was not said.

    >>> setting(with_flags({"PANNIER_NUM_GPU": "3"}, NUM_GPU=8, MAIN_GPU=None), "NUM_GPU")
    '8'
    """
    said = {f"PANNIER_{name}": str(value) for name, value in flags.items() if value is not None}
    return {**environ, **said}


def origins(environ: Mapping[str, str]) -> tuple[str, ...]:
    """ORIGINS: what browsers may come from, beside this machine's own pages."""
    text = setting(environ, "ORIGINS") or ""
    return tuple(item.strip() for item in text.split(",") if item.strip())


def max_queue(environ: Mapping[str, str]) -> int:
    """MAX_QUEUE: how many requests may be in work at a time.

    Raises:
        InvalidOption: where it is no number.
    """
    return _whole(environ, "MAX_QUEUE") or MAX_REQUESTS


def open_runtime(
    environ: Mapping[str, str],
    *,
    states: Path | None = None,
    advise: Callable[[str], object] = lambda text: None,
) -> Supervisor:
    """The runtime as the environment wants it (docs/engine.md, "Settings").

    `states` is where beginnings of prompts are kept between starts; `advise` gets what would make a
    model faster here.

    Raises:
        InvalidOption: where a setting is wrong.
    """
    return Supervisor(
        keep_alive_s=_keep_alive_s(environ),
        defaults=load_options(environ),
        max_models=_whole(environ, "MAX_LOADED_MODELS"),
        machine=machine(environ),
        states=states,
        advise=advise,
    )


def load_options(environ: Mapping[str, str]) -> LoadOptions:
    """How a model is loaded where neither a request nor the model says.

    Raises:
        InvalidOption: where a setting is wrong.
    """
    defaults = LoadOptions(top_p_prefilter=_prefilter(environ))
    said: dict[str, Any] = {
        option: _whole(environ, name) for name, option in _NUMBERS.items() if setting(environ, name)
    }
    for name, option in _TEXTS.items():
        if text := setting(environ, name):
            said[option] = text
            try:
                split_options({option: text})
            except InvalidOption as error:
                raise InvalidOption(f"{name} {text!r}: {error}") from error
    return split_options(said, defaults=defaults).load or defaults


def machine(environ: Mapping[str, str]) -> Machine:
    """NUM_THREAD, GPU_OVERHEAD and the limits of runners: what models may take.

    Raises:
        InvalidOption: where a setting is wrong.
    """
    return Machine(
        cores=_whole(environ, "NUM_THREAD") or usable_cores(),
        gpu_reserve=GPU_RESERVE + _size(environ, "GPU_OVERHEAD"),
        limits=runner_limits(environ),
    )


def runner_limits(environ: Mapping[str, str]) -> RunnerLimits:
    """RUNNER_MEMORY and RUNNER_CPU_TIME: what one model's process may take.

    Raises:
        InvalidOption: where one is no size, or no duration.
    """
    seconds = _duration_s(environ, "RUNNER_CPU_TIME", 0.0)
    return RunnerLimits(
        address_space=_size(environ, "RUNNER_MEMORY"),
        cpu_seconds=0 if seconds == FOREVER else round(seconds),
    )


def _size(environ: Mapping[str, str], name: str) -> int:
    text = setting(environ, name)
    try:
        return parse_size(text) if text is not None else 0
    except InvalidOption as error:
        raise InvalidOption(f"{name} {text!r} is no size", hint="write 8G or 512MiB") from error


def _prefilter(environ: Mapping[str, str]) -> float:
    text = setting(environ, "TOP_P_PREFILTER")
    try:
        value = TOP_P_PREFILTER if text is None else float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise InvalidOption(
            f"TOP_P_PREFILTER {text!r} is no share", hint="write 1e-5, or 0 for none"
        )
    return value


def _keep_alive_s(environ: Mapping[str, str]) -> float:
    return _duration_s(environ, "KEEP_ALIVE", DEFAULT_KEEP_ALIVE_S)


def _duration_s(environ: Mapping[str, str], name: str, default: float) -> float:
    from .errors import RequestError
    from .ollama.convert import keep_alive_s

    text = setting(environ, name)
    if text is None:
        return default
    try:
        # A bare number is seconds here, as in Ollama.
        seconds = keep_alive_s(int(text) if text.lstrip("-").isdecimal() else text)
    except RequestError as error:
        raise InvalidOption(
            f"{name} {text!r} is no duration", hint="write 5m, 300, or -1 for ever"
        ) from error
    return default if seconds is None else seconds


def _whole(environ: Mapping[str, str], name: str) -> int:
    text = setting(environ, name) or "0"
    if not (text.isdecimal() or (text == "-1" and name == "NUM_GPU")):
        raise InvalidOption(f"{name} {text!r} is no whole number")
    return int(text)
