"""What an exception is on the wire: one table of statuses, and texts that give nothing away.

Facts come from the exception; each surface puts them into its own shape (`pannier.api.ollama`,
`pannier.api.openai`). A message that leaves the server holds no path of this machine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pannier.pkgmgr import errors as pkgmgr
from pannier.pkgmgr.errors import PannierError
from pannier.runtime import errors as runtime

from .gateway import ClientGone

# 499 is what nginx calls a client that went away; nobody is left to read it.
CLIENT_GONE = 499

STATUSES: Mapping[type[BaseException], int] = {
    ClientGone: CLIENT_GONE,
    PannierError: 500,
    pkgmgr.InvalidInput: 400,
    pkgmgr.NotFound: 404,
    pkgmgr.IntegrityError: 500,
    pkgmgr.Untrusted: 403,
    pkgmgr.ManifestError: 500,
    pkgmgr.TransferError: 502,
    pkgmgr.NetworkError: 502,
    pkgmgr.RegistryError: 502,
    pkgmgr.Unauthorized: 401,
    pkgmgr.Denied: 403,
    pkgmgr.RateLimited: 429,
    pkgmgr.StoreBusy: 503,
    pkgmgr.NoSpace: 507,
    pkgmgr.Cancelled: CLIENT_GONE,
    runtime.EngineError: 500,
    runtime.EngineMissing: 503,
    runtime.LoadError: 500,
    runtime.OutOfMemory: 503,
    runtime.Quarantined: 409,
    runtime.RunnerDied: 500,
    runtime.ContextOverflow: 400,
    runtime.InvalidImage: 400,
    runtime.QueueFull: 503,
    runtime.DeadlinePassed: 504,
    runtime.TemplateError: 400,
    runtime.UnsupportedRequest: 400,
}

# Texts that replace a message which names files of this machine.
_TEXTS: Mapping[type[PannierError], str] = {
    pkgmgr.CorruptStore: "the server's model store is damaged",
    pkgmgr.StoreBusy: "the server's model store is busy, try again",
    pkgmgr.NoSpace: "the server has no space left",
    runtime.ContextOverflow: (
        "the prompt is longer than the context length currently available to the model"
        " ({wanted} tokens, {limit} fit); set a larger num_ctx, or send a shorter prompt"
    ),
    runtime.QueueFull: "server busy, please try again.  maximum pending requests exceeded",
    runtime.DeadlinePassed: "the request's deadline has passed",
}
# What stands behind `#` is a place in a schema.
_PATH = re.compile(r"(?<![\w.:/#-])/(?:[^\s/:'\"]+/)+[^\s:'\"]*")


class RequestError(PannierError):
    """A request that cannot be answered, with the status and the text of its surface's original.

    Attributes:
        param: the name of the request's field at fault, None where it is no single one.
    """

    def __init__(self, status: int, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception as any surface may show it. `retry_after_s`: whole seconds, None for no hint."""

    status: int
    message: str
    param: str | None = None
    retry_after_s: int | None = None


def failure_of(error: BaseException) -> Failure:
    """The status and the public text of an exception; unknown ones are 500 and say nothing."""
    if isinstance(error, RequestError):
        return Failure(error.status, error.message, error.param)
    status = next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), 500)
    if not isinstance(error, PannierError):
        return Failure(status, "internal server error")
    return Failure(status, _text(error), retry_after_s=_retry_after(error))


def _text(error: PannierError) -> str:
    if isinstance(error, pkgmgr.ModelNotFound):
        return f"model '{error.reference}' not found"
    for kind in type(error).__mro__:
        if kind in _TEXTS:
            return _TEXTS[kind].format_map(vars(error))
    return without_paths(error.message)


def without_paths(text: str) -> str:
    """A message with every absolute path of more than one component left out.

    >>> without_paths("cannot load /home/me/.pannier/blobs/ab: no tensors in ghcr.io/a/b")
    'cannot load a file: no tensors in ghcr.io/a/b'
    """
    return _PATH.sub("a file", text)


def _retry_after(error: PannierError) -> int | None:
    if isinstance(error, pkgmgr.StoreBusy):
        return 1
    seconds: float | None = getattr(error, "retry_after_s", None)
    return None if seconds is None else max(1, round(seconds))
