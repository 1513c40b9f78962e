"""Sending blobs to a registry: mount, one streamed PUT, or chunks.

Implements distribution-spec v1.1.1, "Pushing blobs". The Location that a registry gives is opaque:
its query is kept as it is, and no secret goes with it to another origin.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from .. import mediatypes
from ..descriptor import Descriptor
from ..errors import DigestMismatch, NetworkError, RegistryError, SizeMismatch
from .auth import Scopes
from .content import Reader
from .origin import follow
from .wire import Reply, Wire


class Uploads:
    """How blobs are sent to registries. Thread-safe."""

    def send(
        self,
        wire: Wire,
        base: str,
        scopes: Scopes,
        descriptor: Descriptor,
        content: Reader,
        place: str,
    ) -> None:
        """Upload one blob.

        Raises:
            IntegrityError: where `content` is not what the descriptor says.
            RegistryError: where the registry refuses.
        """
        what = f"push layer {descriptor.digest} to {place}"
        with wire.ask(
            "POST",
            f"{base}/blobs/uploads/",
            scopes=scopes,
            ok=(201, 202),
            headers={"Content-Length": "0"},
            body=b"",
            what=what,
        ) as reply:
            location = location_of(reply, place)
        body = SizedBody(content, descriptor, wire)
        reply = wire.once(
            "PUT",
            with_digest(location, descriptor),
            scopes=scopes,
            ok=(200, 201, 202, 204),
            headers={"Content-Type": mediatypes.OCTET_STREAM},
            body=body,
            what=what,
        )
        reply.close()
        body.check()

    def mount(self, wire: Wire, base: str, name: str, source: str, descriptor: Descriptor) -> bool:
        """Ask for a blob of another repository of the same registry; whether it was given."""
        scopes = frozenset({f"repository:{name}:pull,push", f"repository:{source}:pull"})
        url = f"{base}/blobs/uploads/?mount={descriptor.digest}&from={quote(source)}"
        try:
            with wire.ask(
                "POST",
                url,
                scopes=scopes,
                ok=(201, 202),
                headers={"Content-Length": "0"},
                body=b"",
                what=f"mount {descriptor.digest}",
            ) as reply:
                return reply.status == 201
        except RegistryError:
            return False


class SizedBody:
    """A request body of a known length that is hashed as it leaves."""

    def __init__(self, content: Reader, descriptor: Descriptor, wire: Wire) -> None:
        self._content = content
        self._descriptor = descriptor
        self._tools = wire.tools
        self._hash = descriptor.digest.hasher()
        self._sent = 0

    def __len__(self) -> int:
        return self._descriptor.size

    def read(self, size: int = -1, /) -> bytes:
        """The next piece of the body.

        Raises:
            SizeMismatch: where the content ends early.
            Cancelled: where the end was asked for.
        """
        self._tools.stop.check()
        left = self._descriptor.size - self._sent
        data = self._content.read(left if size < 0 else min(size, left)) if left else b""
        self._sent += len(data)
        self._hash.update(data)
        if not data and left:
            raise SizeMismatch(str(self._descriptor.digest), self._descriptor.size, self._sent)
        if self._tools.limit is not None and data:
            self._tools.limit.spend(len(data), self._tools.stop)
        return data

    def check(self) -> None:
        """Check that what was sent was the blob.

        Raises:
            DigestMismatch: where it was something else, which the registry should have noticed.
        """
        digest = self._descriptor.digest
        if self._sent == self._descriptor.size and self._hash.hexdigest() != digest.hex:
            raise DigestMismatch(str(digest), f"{digest.algorithm}:{self._hash.hexdigest()}")

    def rewind(self) -> bool:
        """Go back to the beginning, where nothing has left yet or the content can seek."""
        if self._sent == 0:
            return True
        seek: Any = getattr(self._content, "seek", None)
        if seek is None:
            return False
        seek(0)
        self._sent, self._hash = 0, self._descriptor.digest.hasher()
        return True


def location_of(reply: Reply, place: str) -> str:
    """Where an upload goes on, as an absolute URL with its query untouched.

    Raises:
        NetworkError: where the registry does not say, or says what may not be followed.
    """
    location = reply.headers.get("Location")
    if not location:
        raise NetworkError(f"{place} gave no place to upload to", place=place)
    return follow(reply.url, location)


def with_digest(location: str, descriptor: Descriptor) -> str:
    """A location with the `digest` parameter that ends an upload."""
    return f"{location}{'&' if '?' in location else '?'}digest={descriptor.digest}"
