"""The project's exception tree. Facts stand in fields; presentation (exit codes, HTTP) elsewhere.

::

    PannierError                     message; hint: the next thing to type
    ├─ InvalidInput                  what the user typed or wrote is wrong (exit 2)
    │  ├─ InvalidReference           a model name outside the grammar
    │  ├─ InvalidDigest              a digest outside the grammar
    │  ├─ InvalidOption              a parameter, flag or setting with a bad value
    │  ├─ ModelfileError             a Modelfile, with its line
    │  ├─ InvalidGGUF                a file that is no GGUF, or a GGUF outside the safe bounds
    │  ├─ InvalidKey                 a signing key, or its passphrase, that cannot be used
    │  ├─ InvalidPolicy              a trust policy that cannot be read: it then allows nothing
    │  └─ InvalidLock                a lock file that cannot be read
    ├─ NotFound                      (exit 3)
    │  ├─ ModelNotFound              a name that the place asked does not hold
    │  └─ BlobNotFound               a digest that the place asked does not hold
    ├─ IntegrityError                bytes are not what their name says (exit 4)
    │  ├─ DigestMismatch
    │  ├─ SizeMismatch
    │  ├─ CorruptStore
    │  ├─ InvalidBundle              a bundle outside the format, or damaged
    │  │  ├─ TruncatedBundle         a bundle whose end is missing
    │  │  └─ IncompleteBundle        a bundle that lacks what its models need
    │  ├─ SignatureError             a signature that does not prove what it should
    │  ├─ Untrusted                  the trust policy says no
    │  └─ LockMismatch               a model is not what the lock file says
    ├─ ManifestError                 (exit 4)
    │  ├─ InvalidManifest            not a manifest, or one beyond the limits
    │  └─ UnknownDialect             a manifest that describes no model that we can read
    ├─ TransferError                 (exit 5)
    │  ├─ NetworkError               nobody answered, or the connection broke
    │  └─ RegistryError              the registry answered, and said no
    │     ├─ Unauthorized            401, or credentials refused
    │     ├─ Denied                  403
    │     └─ RateLimited             429
    ├─ StoreBusy                     another process holds the lock too long
    ├─ NoSpace                       the disk, or a quota, is full
    ├─ Cancelled                     the caller asked for the end (exit 130)
    └─ EngineError                   in pannier.runtime.errors
"""

from __future__ import annotations

from pathlib import Path


class PannierError(Exception):
    """Base of every error that pannier raises on purpose; ``str()`` is the one-line message.

    Attributes:
        hint: the next command to type, or None where there is no useful one.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidInput(PannierError):
    """The user's input is wrong; nothing was tried."""


class InvalidReference(InvalidInput):
    """A model name outside the grammar of `pannier.pkgmgr.reference`."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(
            f"invalid model name {text!r}: {reason}",
            hint="names look like [HOST[:PORT]/]PATH[:TAG][@sha256:DIGEST]",
        )
        self.text = text
        self.reason = reason


class InvalidDigest(InvalidInput):
    """Text that is no digest of a supported algorithm."""

    def __init__(self, text: str) -> None:
        super().__init__(f"invalid digest {text[:160]!r}: expected sha256:<64 lower-case hex>")
        self.text = text


class InvalidOption(InvalidInput):
    """An option, parameter or setting has an unknown name or a bad value."""


class ModelfileError(InvalidInput):
    """A Modelfile cannot be used. `line` counts from 1; None where no single line is at fault."""

    def __init__(
        self,
        reason: str,
        *,
        line: int | None = None,
        path: Path | None = None,
        hint: str | None = None,
    ) -> None:
        where = ":".join(str(part) for part in (path or "Modelfile", line) if part is not None)
        super().__init__(f"{where}: {reason}", hint=hint)
        self.reason = reason
        self.line = line
        self.path = path


class InvalidGGUF(InvalidInput):
    """A file is no GGUF, or breaks one of the bounds that are checked before C sees it."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} is not a usable GGUF file: {reason}")
        self.name = name
        self.reason = reason


class NotGGUF(InvalidGGUF):
    """A file is in another format altogether."""


class InvalidKey(InvalidInput):
    """A key file, or the passphrase given for it, cannot be used."""


class InvalidPolicy(InvalidInput):
    """A trust policy is malformed. Nothing is allowed on the word of a policy that is not read."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"trust policy {path}: {reason}")
        self.reason = reason


class InvalidLock(InvalidInput):
    """A lock file is malformed."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"lock file {path}: {reason}", hint="write it anew with `pannier lock`")
        self.reason = reason


class NotFound(PannierError):
    """Something named is not there."""


class ModelNotFound(NotFound):
    """No model of that name in the store or registry that was asked."""

    def __init__(
        self, reference: str, *, place: str | None = None, hint: str | None = None
    ) -> None:
        where = f" in {place}" if place else ""
        super().__init__(f"model {reference!r} not found{where}", hint=hint)
        self.reference = reference
        self.place = place


class BlobNotFound(NotFound):
    """No blob of that digest in the place that was asked."""

    def __init__(self, digest: str, *, place: str | None = None) -> None:
        where = f" in {place}" if place else ""
        super().__init__(f"blob {digest} not found{where}")
        self.digest = digest
        self.place = place


class IntegrityError(PannierError):
    """Bytes are not what their name says they are."""


class DigestMismatch(IntegrityError):
    """The content of a blob hashes to something else than its name."""

    def __init__(self, expected: str, actual: str, *, place: str | None = None) -> None:
        where = f" from {place}" if place else ""
        super().__init__(f"digest mismatch{where}: expected {expected}, got {actual}")
        self.expected = expected
        self.actual = actual


class SizeMismatch(IntegrityError):
    """The content of a blob is shorter or longer than its descriptor says (both in bytes)."""

    def __init__(
        self, digest: str, expected: int, actual: int, *, place: str | None = None
    ) -> None:
        where = f" from {place}" if place else ""
        super().__init__(f"size mismatch of {digest}{where}: expected {expected}, got {actual}")
        self.digest = digest
        self.expected = expected
        self.actual = actual


class CorruptStore(IntegrityError):
    """A file of the local store is damaged."""

    def __init__(self, path: Path, reason: str, *, hint: str | None = None) -> None:
        super().__init__(f"store file {path} is damaged: {reason}", hint=hint)
        self.path = path


class InvalidBundle(IntegrityError):
    """A bundle is not an OCI archive as pannier reads them, or its bytes are damaged."""

    def __init__(self, place: str, reason: str, *, hint: str | None = None) -> None:
        super().__init__(f"bundle {place}: {reason}", hint=hint)
        self.place = place
        self.reason = reason


class TruncatedBundle(InvalidBundle):
    """A bundle ends before its end mark."""


class IncompleteBundle(InvalidBundle):
    """A bundle lacks content of its models, and the store does not hold it either.

    Attributes:
        lacking: one line per model with what it lacks.
    """

    def __init__(self, place: str, lacking: tuple[str, ...], *, hint: str) -> None:
        super().__init__(place, "incomplete: " + "; ".join(lacking), hint=hint)
        self.lacking = lacking


class SignatureError(IntegrityError):
    """A signature is malformed, made by another key, or about something else."""


class Untrusted(IntegrityError):
    """The trust policy refuses a model. `reasons` has one entry per unmet condition."""

    def __init__(self, reference: str, reasons: tuple[str, ...]) -> None:
        super().__init__(
            f"trust policy refuses {reference}: " + "; ".join(reasons),
            hint=f"see `pannier verify-signature {reference}` and your policy.toml",
        )
        self.reference = reference
        self.reasons = reasons


class LockMismatch(IntegrityError):
    """What is there is not what the lock file pins."""

    def __init__(self, name: str, expected: str, actual: str) -> None:
        super().__init__(
            f"{name} is {actual}, but the lock file pins {expected}",
            hint="`pannier sync` fetches what is pinned; `pannier update` pins what came since",
        )
        self.name = name
        self.expected = expected
        self.actual = actual


class ManifestError(PannierError):
    """A manifest cannot be used."""


class InvalidManifest(ManifestError):
    """Bytes that are no manifest or index, or one beyond the limits of `pkgmgr.manifest`."""

    def __init__(self, reason: str, *, digest: str | None = None) -> None:
        super().__init__(f"invalid manifest{f' {digest}' if digest else ''}: {reason}")
        self.reason = reason
        self.digest = digest


class UnknownDialect(ManifestError):
    """A valid manifest that describes no model that any dialect can read."""

    def __init__(self, reason: str, *, digest: str | None = None) -> None:
        super().__init__(f"no model in manifest{f' {digest}' if digest else ''}: {reason}")
        self.reason = reason
        self.digest = digest


class TransferError(PannierError):
    """Moving bytes between two places went wrong.

    Attributes:
        place: who failed, as people name it: a registry host with repository, a directory.
        temporary: trying again later may help.
    """

    temporary = False

    def __init__(self, message: str, *, place: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.place = place


class NetworkError(TransferError):
    """Nobody answered, the connection broke, or TLS failed."""

    temporary = True


class RegistryError(TransferError):
    """The registry answered with an error (distribution-spec v1.1.1, section "Error Codes").

    Attributes:
        status: the HTTP status.
        codes: the spec's error codes in the body (`BLOB_UNKNOWN`, `DENIED`, …), possibly none.
        retry_after_s: seconds to wait as the registry asked, None where it did not say.
    """

    retry_after_s: float | None = None

    def __init__(
        self,
        message: str,
        *,
        status: int,
        codes: tuple[str, ...] = (),
        place: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, place=place, hint=hint)
        self.status = status
        self.codes = codes
        self.temporary = status in (408, 425, 429, 500, 502, 503, 504)


class Unauthorized(RegistryError):
    """The registry wants credentials, or refused those it was given."""


class Denied(RegistryError):
    """The registry knows who asks and refuses."""


class RateLimited(RegistryError):
    """The registry asks to slow down."""


class StoreBusy(PannierError):
    """Another process held the store's lock for longer than the caller would wait."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"store lock {path} is held by another process",
            hint="wait for the other pannier command to finish, then try again",
        )
        self.path = path


class NoSpace(PannierError):
    """The disk or a quota is full. `needed` and `free` are bytes, None where unknown."""

    def __init__(self, path: Path, *, needed: int | None = None, free: int | None = None) -> None:
        facts = f": {needed} bytes needed, {free} free" if needed is not None else ""
        super().__init__(
            f"no space left for {path}{facts}",
            hint="remove models with `pannier rm`, or set PANNIER_HOME to a larger disk",
        )
        self.needed = needed
        self.free = free


class Cancelled(PannierError):
    """The caller asked for the end of an operation."""

    def __init__(self, message: str = "cancelled", *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
