"""The runtime's part of the exception tree (`pannier.pkgmgr.errors` draws the rest).

::

    EngineError
    ├─ EngineMissing     llama-cpp-python is not installed, or does not start here
    ├─ LoadError         the model cannot be loaded
    │  ├─ CrashedInLoading  its process died of it
    │  ├─ OutOfMemory    it does not fit; needed and free in bytes
    │  └─ Quarantined    it crashed the engine too often
    ├─ RunnerDied        the model's process ended in mid-work, with its signal
    ├─ ContextOverflow   the prompt is longer than the context; both in tokens
    ├─ QueueFull         too many requests wait; retry_after_s
    ├─ DeadlinePassed    the request's own deadline has passed
    ├─ InvalidImage      an image is none, is broken, or exceeds a bound
    ├─ TemplateError     a prompt template is wrong, or ran over its limits
    └─ UnsupportedRequest the model cannot do what was asked (no chat, no images, …)
"""

from __future__ import annotations

from pannier.pkgmgr.errors import PannierError


class EngineError(PannierError):
    """Something in loading or running a model went wrong."""


class EngineMissing(EngineError):
    """The native library is absent or unusable on this machine."""


class LoadError(EngineError):
    """A model cannot be loaded."""


class CrashedInLoading(LoadError):
    """The process that was to load a model died of it."""


class OutOfMemory(LoadError):
    """A model does not fit. `needed` and `free` are bytes."""

    def __init__(self, message: str, *, needed: int, free: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.needed = needed
        self.free = free


class Quarantined(LoadError):
    """A model crashed the engine so often that it is not tried again for a while."""


class RunnerDied(EngineError):
    """The process that runs a model ended while a request was in it.

    Attributes:
        signal: its name (`SIGKILL`, `SIGABRT`, …), None where it exited by itself.
    """

    def __init__(self, message: str, *, signal: str | None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.signal = signal


class ContextOverflow(EngineError):
    """A prompt does not fit. `wanted` and `limit` are tokens."""

    def __init__(self, wanted: int, limit: int) -> None:
        super().__init__(
            f"the prompt has {wanted} tokens, the context holds {limit}",
            hint="set a larger num_ctx, or send a shorter prompt",
        )
        self.wanted = wanted
        self.limit = limit


class QueueFull(EngineError):
    """Too many requests wait for this model already. `retry_after_s` is an estimate."""

    def __init__(self, waiting: int, *, retry_after_s: float) -> None:
        super().__init__(
            f"{waiting} requests are waiting for this model already",
            hint=f"try again in {retry_after_s:.0f} seconds",
        )
        self.waiting = waiting
        self.retry_after_s = retry_after_s


class DeadlinePassed(EngineError):
    """A request was not answered within the time that it set itself."""


class InvalidImage(EngineError):
    """What was given for an image is none, is broken, or exceeds a bound."""

    def __init__(self, message: str) -> None:
        super().__init__(message, hint="send a PNG, JPEG, WebP, GIF or BMP image")


class TemplateError(EngineError):
    """A prompt template cannot be parsed or rendered."""

    def __init__(
        self,
        reason: str,
        *,
        line: int | None = None,
        column: int | None = None,
    ) -> None:
        where = f" at line {line}" if line is not None else ""
        where += f", column {column}" if column is not None else ""
        super().__init__(f"prompt template{where}: {reason}")
        self.reason = reason
        self.line = line
        self.column = column


class UnsupportedRequest(EngineError):
    """This model cannot do what was asked of it."""
