"""What the environment says of the server: ours as PANNIER_…, else Ollama's as OLLAMA_…."""

from __future__ import annotations

from collections.abc import Mapping

from pannier.pkgmgr.errors import InvalidOption
from pannier.runtime.request import LoadOptions
from pannier.runtime.supervisor import Supervisor

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


def open_runtime(environ: Mapping[str, str]) -> Supervisor:
    """The runtime by KEEP_ALIVE, CONTEXT_LENGTH and NUM_PARALLEL.

    Raises:
        InvalidOption: where one of them is wrong.
    """
    defaults = LoadOptions(
        num_ctx=_count(environ, "CONTEXT_LENGTH"), num_parallel=_count(environ, "NUM_PARALLEL")
    )
    keep_alive_s = _keep_alive_s(environ)
    if keep_alive_s is None:
        return Supervisor(defaults=defaults)
    return Supervisor(keep_alive_s=keep_alive_s, defaults=defaults)


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
