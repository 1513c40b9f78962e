"""What the registry says when it says no: the spec's error codes, one table, one shape of body.

Implements distribution-spec v1.1.1, "Error Codes".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pannier.pkgmgr import errors as pannier


class Code(StrEnum):
    """The error codes of the spec (code-1 to code-14), and none besides."""

    BLOB_UNKNOWN = "BLOB_UNKNOWN"
    BLOB_UPLOAD_INVALID = "BLOB_UPLOAD_INVALID"
    BLOB_UPLOAD_UNKNOWN = "BLOB_UPLOAD_UNKNOWN"
    DIGEST_INVALID = "DIGEST_INVALID"
    MANIFEST_BLOB_UNKNOWN = "MANIFEST_BLOB_UNKNOWN"
    MANIFEST_INVALID = "MANIFEST_INVALID"
    MANIFEST_UNKNOWN = "MANIFEST_UNKNOWN"
    NAME_INVALID = "NAME_INVALID"
    NAME_UNKNOWN = "NAME_UNKNOWN"
    SIZE_INVALID = "SIZE_INVALID"
    UNAUTHORIZED = "UNAUTHORIZED"
    DENIED = "DENIED"
    UNSUPPORTED = "UNSUPPORTED"
    TOOMANYREQUESTS = "TOOMANYREQUESTS"


_STATUS = {
    Code.BLOB_UNKNOWN: 404,
    Code.BLOB_UPLOAD_INVALID: 400,
    Code.BLOB_UPLOAD_UNKNOWN: 404,
    Code.DIGEST_INVALID: 400,
    Code.MANIFEST_BLOB_UNKNOWN: 400,
    Code.MANIFEST_INVALID: 400,
    Code.MANIFEST_UNKNOWN: 404,
    Code.NAME_INVALID: 400,
    Code.NAME_UNKNOWN: 404,
    Code.SIZE_INVALID: 400,
    Code.UNAUTHORIZED: 401,
    Code.DENIED: 403,
    Code.UNSUPPORTED: 405,
    Code.TOOMANYREQUESTS: 429,
}


@dataclass(slots=True)
class Problem(Exception):
    """A refusal as the client will see it.

    Attributes:
        status: the HTTP status; None for the one that the code usually has.
        headers: further headers of the answer (`Range`, `Allow`, `WWW-Authenticate`, …).
    """

    code: Code
    message: str
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        Exception.__init__(self, self.message)

    @property
    def http_status(self) -> int:
        """The HTTP status of the answer."""
        return self.status or _STATUS[self.code]

    @property
    def body(self) -> dict[str, list[dict[str, str]]]:
        """The JSON body."""
        return {"errors": [{"code": self.code.value, "message": self.message}]}


# Errors from below, most special first: the spec's code, a status where it is not the code's usual
# one, and a text where the error's own names files of this machine.
_Row = tuple[type[pannier.PannierError], Code, int | None, str | None]
_TRANSLATIONS: tuple[_Row, ...] = (
    (pannier.InvalidDigest, Code.DIGEST_INVALID, None, None),
    (pannier.InvalidReference, Code.NAME_INVALID, None, None),
    (pannier.InvalidInput, Code.MANIFEST_INVALID, None, None),
    (pannier.ModelNotFound, Code.MANIFEST_UNKNOWN, None, None),
    (pannier.BlobNotFound, Code.BLOB_UNKNOWN, None, None),
    (pannier.NotFound, Code.MANIFEST_UNKNOWN, None, None),
    (pannier.CorruptStore, Code.BLOB_UNKNOWN, 500, "the stored content is damaged"),
    (pannier.DigestMismatch, Code.DIGEST_INVALID, None, None),
    (pannier.SizeMismatch, Code.SIZE_INVALID, None, None),
    (pannier.IntegrityError, Code.DIGEST_INVALID, None, None),
    (pannier.ManifestError, Code.MANIFEST_INVALID, None, None),
    # What an upstream says to us is no verdict on whoever asks us: 502, never 401.
    (pannier.Unauthorized, Code.DENIED, 502, "the upstream registry refused our credentials"),
    (pannier.Denied, Code.DENIED, 502, "the upstream registry refused access"),
    (pannier.RateLimited, Code.TOOMANYREQUESTS, None, None),
    (pannier.TransferError, Code.UNSUPPORTED, 502, None),
    (pannier.StoreBusy, Code.TOOMANYREQUESTS, 503, "the store is busy"),
    # 507 Insufficient Storage (RFC 4918 §11.5): nobody takes it for a reason to try again at once.
    (pannier.NoSpace, Code.DENIED, 507, "the disk is full"),
    (pannier.PannierError, Code.UNSUPPORTED, 500, "the store cannot do this"),
)


def translate(error: pannier.PannierError) -> Problem:
    """Any of the project's errors as a refusal of the registry."""
    for kind, code, status, message in _TRANSLATIONS:
        if isinstance(error, kind):
            return Problem(code, message or error.message, status)
    raise AssertionError("the table ends with the base of all errors")
