"""oras' own methods over a repository that verifies: code written against oras works unchanged.

`oras.provider.Registry` reads blobs into memory, keeps no exact manifest bytes and verifies
nothing; each method of its that does so is replaced here.
"""

from __future__ import annotations

import json as encoder
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import oras.container
import oras.provider

from .. import strictjson
from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import DigestMismatch
from ..manifest import MAX_MANIFEST_SIZE
from ..manifest import parse as parse_manifest
from ..reference import Reference
from .answers import require_manifest_size
from .content import Reader
from .verify import VerifyingReader
from .wire import Wire

_CHUNK = 1 << 20


class OrasMethods(oras.provider.Registry):  # type: ignore[misc]  # oras is untyped
    """The part of a repository that speaks oras; `RegistryRepository` is the rest."""

    reference: Reference
    wire: Wire

    @abstractmethod
    def resolve(self, reference: Reference) -> Descriptor:
        """As `Source.resolve`."""

    @abstractmethod
    def fetch(self, descriptor: Descriptor, *, offset: int = 0) -> AbstractContextManager[Reader]:
        """As `Source.fetch`."""

    @abstractmethod
    def push(self, descriptor: Descriptor, content: Reader) -> None:
        """As `Target.push`, not as oras' method of this name."""

    @abstractmethod
    def url_of(self, descriptor: Descriptor) -> str:
        """Where the repository has a blob or manifest."""

    @abstractmethod
    def scopes(self, method: str) -> frozenset[str]:
        """What a request with this method needs."""

    def get_container(self, name: Any) -> Any:
        """A name as oras' container object, bound to this registry."""
        if isinstance(name, oras.container.Container):
            return name
        return oras.container.Container(name, registry=self.wire.origin.netloc)

    def do_request(
        self,
        url: str,
        method: str = "GET",
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        stream: bool = False,
    ) -> Any:
        """One request of the oras API, with this class's login and redirect rules."""
        if json is not None:
            data = encoder.dumps(json).encode()
        scopes = self.scopes(method)
        every = tuple(range(200, 600))
        reply = self.wire.once(method, url, scopes=scopes, ok=every, headers=headers, body=data)
        return reply.response

    def get_manifest(self, container: Any = None, allowed_media_type: Any = None) -> dict[str, Any]:
        """The manifest as a parsed object, verified. Its exact bytes: `fetch`."""
        reference = self.reference
        if container is not None:
            named = self.get_container(container)
            digest = Digest.parse(named.digest) if named.digest else None
            reference = Reference(reference.host, reference.repository, named.tag, digest)
        descriptor = self.resolve(reference)
        require_manifest_size(descriptor)
        with self.fetch(descriptor) as content:
            raw = VerifyingReader(content, descriptor).read()
        value: dict[str, Any] = strictjson.loads(raw, max_size=MAX_MANIFEST_SIZE)
        return value

    def upload_manifest(self, manifest: dict[str, Any], container: Any) -> Any:
        """Put a manifest that is given as an object under the container's name."""
        raw = encoder.dumps(manifest).encode()
        content = parse_manifest(raw)
        name = self.get_container(container).tag or content.descriptor.digest
        return self.do_request(
            self.url_of(content.descriptor).rpartition("/")[0] + f"/{name}",
            "PUT",
            data=raw,
            headers={"Content-Type": content.descriptor.media_type},
        )

    def download_blob(self, container: Any, digest: str, outfile: str) -> str:
        """Download a blob to a file that appears only when it was verified."""
        expected = Digest.parse(digest)
        partial = Path(f"{outfile}.partial")
        state = expected.hasher()
        with self.fetch(Descriptor("", expected, 0)) as content:
            try:
                with partial.open("wb") as file:
                    while data := content.read(_CHUNK):
                        state.update(data)
                        file.write(data)
                if state.hexdigest() != expected.hex:
                    raise DigestMismatch(digest, f"{expected.algorithm}:{state.hexdigest()}")
                partial.replace(outfile)
            finally:
                partial.unlink(missing_ok=True)
        return outfile

    def put_upload(self, blob: str, container: Any, layer: Mapping[str, Any]) -> Any:
        """Upload a file as a blob, streamed; the answer is that of a HEAD on it."""
        descriptor = Descriptor.from_json(dict(layer))
        with open(blob, "rb") as file:
            self.push(descriptor, file)
        return self.do_request(self.url_of(descriptor), "HEAD")

    def chunked_upload(
        self, blob: str, container: Any, layer: Mapping[str, Any], chunk_size: int = 0
    ) -> Any:
        """As `put_upload`; what the registry likes decides how the bytes travel."""
        return self.put_upload(blob, container, layer)
