"""What the environment says of the server: ours as PANNIER_…, else Ollama's as OLLAMA_…."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pannier.pkgmgr.errors import InvalidOption
from pannier.runtime.request import CACHE_TYPES, LoadOptions
from pannier.runtime.supervisor import Supervisor

from .admission import MAX_REQUESTS

_PREFIXES = ("PANNIER_", "OLLAMA_")


def setting(environ: Mapping[str, str], name: str) -> str | None:
    """A setting's text; None where neither variable is there or has a text."""
    for prefix in _PREFIXES:
        if text := environ.get(prefix + name, "").strip().strip("\"'"):
            return text
    return None


def origins(environ: Mapping[str, str]) -> tuple[str, ...]:
    """ORIGINS: what browsers may come from, beside this machine's own pages."""
    text = setting(environ, "ORIGINS") or ""
    return tuple(item.strip() for item in text.split(",") if item.strip())


def max_queue(environ: Mapping[str, str]) -> int:
    """MAX_QUEUE: how many requests may be in work at a time.

    Raises:
        InvalidOption: where it is no number.
    """
    return _count(environ, "MAX_QUEUE") or MAX_REQUESTS


def open_runtime(environ: Mapping[str, str], *, states: Path | None = None) -> Supervisor:
    """The runtime by KEEP_ALIVE, CONTEXT_LENGTH, NUM_PARALLEL, KV_CACHE_TYPE, MAX_LOADED_MODELS.

    `states` is where beginnings of prompts are kept between starts.

    Raises:
        InvalidOption: where one of them is wrong.
    """
    defaults = LoadOptions(
        num_ctx=_count(environ, "CONTEXT_LENGTH"),
        num_parallel=_count(environ, "NUM_PARALLEL"),
        cache_type=_cache_type(environ),
    )
    max_models = _count(environ, "MAX_LOADED_MODELS")
    keep_alive_s = _keep_alive_s(environ)
    if keep_alive_s is None:
        return Supervisor(defaults=defaults, max_models=max_models, states=states)
    return Supervisor(
        keep_alive_s=keep_alive_s, defaults=defaults, max_models=max_models, states=states
    )


def _cache_type(environ: Mapping[str, str]) -> str:
    text = setting(environ, "KV_CACHE_TYPE") or "f16"
    if text not in CACHE_TYPES:
        raise InvalidOption(
            f"KV_CACHE_TYPE {text!r} is unknown", hint=f"use one of {', '.join(CACHE_TYPES)}"
        )
    return text


def _keep_alive_s(environ: Mapping[str, str]) -> float | None:
    from .errors import RequestError
    from .ollama.convert import keep_alive_s

    text = setting(environ, "KEEP_ALIVE")
    if text is None:
        return None
    try:
        # A bare number is seconds here, as in Ollama.
        return keep_alive_s(int(text) if text.lstrip("-").isdecimal() else text)
    except RequestError as error:
        raise InvalidOption(
            f"KEEP_ALIVE {text!r} is no duration", hint="write 5m, 300, or -1 for ever"
        ) from error


def _count(environ: Mapping[str, str], name: str) -> int:
    text = setting(environ, name) or "0"
    if not text.isdecimal():
        raise InvalidOption(f"{name} {text!r} is no whole number")
    return int(text)
