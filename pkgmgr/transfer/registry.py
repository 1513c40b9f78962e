"""A repository of a registry as a target: the oras client with everything it leaves open closed.

Implements distribution-spec v1.1.1. Subclasses `oras.provider.Registry`, so that what is written
against oras works with it, and replaces every method that does not verify, bound or protect.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from .. import mediatypes
from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import (
    BlobNotFound,
    DigestMismatch,
    ModelNotFound,
    NetworkError,
    RegistryError,
)
from ..manifest import MAX_MANIFEST_SIZE
from ..manifest import parse as parse_manifest
from ..reference import Reference
from .answers import (
    content_digest,
    expect_length,
    expect_range,
    is_range,
    media_type_of,
    require_manifest_size,
    skip_to,
)
from .content import Reader
from .download import Opened
from .listing import pages
from .neterrors import printable
from .orasface import OrasMethods
from .origin import Origin
from .referrers import list_referrers
from .reply import Reply
from .retry import RetryPolicy, Stop
from .upload import Job, Uploads
from .verify import VerifyingReader
from .wire import Wire

_MANIFESTS = mediatypes.MANIFEST_TYPES | mediatypes.INDEX_TYPES


class RegistryRepository(OrasMethods):
    """One repository. Thread-safe; close it, or use it as a context manager."""

    def __init__(self, reference: Reference, wire: Wire, *, uploads: Uploads) -> None:
        """Bind a wire to a repository; `pannier.pkgmgr.transfer.open` makes both."""
        origin = wire.origin
        super().__init__(hostname=origin.netloc, insecure=origin.scheme == "http")
        self.session.close()
        self.session: Any = wire.tools.session
        self.auth = wire.tools.auth
        self.reference = reference
        self.wire = wire
        self._uploads = uploads
        self._name = _api_name(reference)
        self._base = f"{origin}/v2/{self._name}"
        self._manifests: dict[Digest, tuple[str, bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self.session.close()

    @property
    def retry(self) -> RetryPolicy:
        """What to do about exchanges that fail for a time."""
        return self.wire.tools.retry

    @property
    def stop(self) -> Stop:
        """The wish to end, which every exchange looks at."""
        return self.wire.tools.stop

    @property
    def jobs(self) -> int:
        """How many blobs may move at the same time."""
        return self.wire.tools.jobs

    def interrupt(self) -> None:
        """Make every exchange end with `Cancelled` now; the repository is of no use afterwards."""
        self.stop.set()
        self.wire.tools.guard.cut()

    @property
    def place(self) -> str:
        """What messages call this repository."""
        return f"{self.reference.host}/{self.reference.repository}"

    # Source

    def resolve(self, reference: Reference) -> Descriptor:
        """The manifest that a tag or digest stands for now.

        Raises:
            ModelNotFound: where the repository has none.
            DigestMismatch: where the registry answers with another digest than was asked for.
        """
        try:
            found = self._head(reference)
            if found is None:
                found = self._get(reference)
        except RegistryError as error:
            if error.status == 404:
                raise ModelNotFound(
                    reference.familiar, place=self.place, hint=f"pannier tags {self.place}"
                ) from error
            raise
        if reference.digest is not None and found.digest != reference.digest:
            raise DigestMismatch(str(reference.digest), str(found.digest), place=self.place)
        return found

    def exists(self, descriptor: Descriptor) -> bool:
        """Whether the registry says that it has the blob or manifest."""
        url = self.url_of(descriptor)
        with self.wire.ask(
            "HEAD",
            url,
            scopes=self.scopes("GET"),
            ok=(200, 404),
            headers=_accept(descriptor),
            what=f"look for {descriptor.digest} in {self.place}",
        ) as reply:
            length = reply.headers.get("Content-Length", "")
            wrong = length.isdigit() and int(length) not in (descriptor.size, 0)
            return reply.status == 200 and not wrong

    @contextmanager
    def fetch(self, descriptor: Descriptor, *, offset: int = 0) -> Iterator[Reader]:
        """Open a blob or manifest; the bytes are as the registry sends them.

        Raises:
            BlobNotFound: where the registry does not have it.
        """
        kept = self._manifests.get(descriptor.digest)
        if kept is not None:
            yield io.BytesIO(kept[1][offset:])
            return
        headers = _accept(descriptor)
        if offset > 0:
            headers |= {"Range": f"bytes={offset}-"}
        with self._open(descriptor, headers, ok=(200, 206) if offset else (200,)) as reply:
            if reply.status == 206:
                expect_range(reply, offset, descriptor.size, descriptor.size, self.place)
            else:
                expect_length(reply, descriptor, self.place)
                skip_to(reply, offset, descriptor)
            yield reply

    @contextmanager
    def fetch_range(self, descriptor: Descriptor, start: int, stop: int) -> Iterator[Opened]:
        """Open bytes `start` to `stop` of a blob, or all of it where the registry has no ranges.

        Raises:
            BlobNotFound: where the registry does not have it.
        """
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        with self._open(descriptor, headers, ok=(200, 206, 416)) as reply:
            if reply.status == 200:
                expect_length(reply, descriptor, self.place)
                yield Opened(reply, whole=True)
                return
            if is_range(reply, start, stop, descriptor.size):
                yield Opened(reply, whole=False)
                return
        with self.fetch(descriptor) as content:
            yield Opened(content, whole=True)

    # Target

    def push(self, descriptor: Descriptor, content: Reader) -> None:
        """Upload one blob or manifest; the registry's answer is checked against the digest.

        Raises:
            IntegrityError: where `content` is not what the descriptor says.
            RegistryError: where the registry refuses.
        """
        if descriptor.media_type in _MANIFESTS:
            require_manifest_size(descriptor)
            raw = VerifyingReader(content, descriptor).read()
            self._put_manifest(str(descriptor.digest), descriptor, raw)
            self._manifests[descriptor.digest] = descriptor.media_type, raw
        elif not self.exists(descriptor):
            self._uploads.send(self._job(descriptor), content)

    def resend(self, descriptor: Descriptor, content: Reader) -> None:
        """Upload a blob although the registry says that it has it."""
        self._uploads.resend(self._job(descriptor), content)

    def mount(self, descriptor: Descriptor, source: str) -> bool:
        """Ask the registry to take a blob over from another of its repositories."""
        if source == self._name:
            return False
        scopes = self.scopes("PUT") | {f"repository:{source}:pull"}
        return self._uploads.mount(self._job(descriptor), source, scopes)

    def tag(self, descriptor: Descriptor, reference: Reference) -> None:
        """Give a manifest a tag; a reference with a digest alone needs none.

        Raises:
            BlobNotFound: where the repository does not have the manifest.
        """
        if reference.tag is None:
            return
        kept = self._manifests.get(descriptor.digest)
        if kept is None:
            with self.fetch(descriptor) as content:
                raw = VerifyingReader(content, descriptor, place=self.place).read()
            kept = descriptor.media_type, raw
        self._put_manifest(reference.tag, descriptor, kept[1])

    # Listing

    def list_tags(self) -> tuple[str, ...]:
        """Every tag, in the registry's order.

        Raises:
            ModelNotFound: where there is no such repository.
        """
        try:
            url = f"{self._base}/tags/list?n=1000"
            return tuple(pages(self.wire, url, "tags", self.scopes("GET")))
        except RegistryError as error:
            if error.status == 404:
                raise ModelNotFound(self.place) from error
            raise

    def iterate_repositories(self) -> Iterator[str]:
        """Every repository of the registry, where it lists them (`_catalog`), page by page."""
        url = f"{self.wire.origin}/v2/_catalog?n=1000"
        return pages(self.wire, url, "repositories", frozenset({"registry:catalog:*"}))

    def list_repositories(self) -> tuple[str, ...]:
        """Every repository of the registry at once."""
        return tuple(self.iterate_repositories())

    def referrers(self, digest: Digest) -> tuple[Descriptor, ...] | None:
        """Manifests whose subject is `digest`; None where the registry lacks the API for it."""
        return list_referrers(self.wire, f"{self._base}/referrers/{digest}", self.scopes("GET"))

    def ping(self) -> None:
        """Ask for nothing but an answer, with login.

        Raises:
            Unauthorized: where the credential is wrong.
        """
        with self.wire.ask(
            "GET",
            f"{self.wire.origin}/v2/",
            scopes=frozenset(),
            ok=(200, 404),
            what=f"log in to {self.wire.origin.netloc}",
        ):
            return

    # Details

    @property
    def origin(self) -> Origin:
        """Scheme, host and port of the registry's API."""
        return self.wire.origin

    @property
    def api_name(self) -> str:
        """The repository's name as the registry's API calls it."""
        return self._name

    def _job(self, descriptor: Descriptor) -> Job:
        return Job(self.wire, self._base, self.scopes("PUT"), descriptor, self.place)

    def scopes(self, method: str) -> frozenset[str]:
        """What a request with this method needs."""
        actions = "pull" if method in ("GET", "HEAD") else "pull,push"
        return frozenset({f"repository:{self._name}:{actions}"})

    def url_of(self, descriptor: Descriptor) -> str:
        """Where the repository has a blob or manifest."""
        kind = "manifests" if descriptor.media_type in _MANIFESTS else "blobs"
        return f"{self._base}/{kind}/{descriptor.digest}"

    @contextmanager
    def _open(
        self, descriptor: Descriptor, headers: Mapping[str, str], *, ok: tuple[int, ...]
    ) -> Iterator[Reply]:
        try:
            with self.wire.ask(
                "GET",
                self.url_of(descriptor),
                scopes=self.scopes("GET"),
                ok=ok,
                headers=headers,
                what=f"fetch {descriptor.digest} from {self.place}",
            ) as reply:
                encoding = reply.headers.get("Content-Encoding", "identity")
                if encoding.lower() not in ("identity", ""):
                    raise NetworkError(
                        f"{self.place} sends {printable(encoding)[:40]} where plain bytes were "
                        "asked for; a proxy in between may compress",
                        place=self.place,
                    )
                yield reply
        except RegistryError as error:
            if error.status == 404:
                raise BlobNotFound(str(descriptor.digest), place=self.place) from error
            raise

    def _head(self, reference: Reference) -> Descriptor | None:
        """What a HEAD tells, None where it does not tell enough."""
        with self.wire.ask(
            "HEAD",
            f"{self._base}/manifests/{reference.manifest_name}",
            scopes=self.scopes("GET"),
            ok=(200, 400, 405, 501),
            headers={"Accept": mediatypes.ACCEPT_MANIFEST},
            what=f"find {reference.familiar} in {self.place}",
        ) as reply:
            if reply.status != 200:
                return None
            digest = content_digest(reply)
            length = reply.headers.get("Content-Length", "")
            media_type = media_type_of(reply)
        if digest is None or not length.isdigit() or media_type not in _MANIFESTS:
            return None
        found = Descriptor(media_type, digest, int(length[:20]))
        require_manifest_size(found)
        return found

    def _get(self, reference: Reference) -> Descriptor:
        with self.wire.ask(
            "GET",
            f"{self._base}/manifests/{reference.manifest_name}",
            scopes=self.scopes("GET"),
            ok=(200,),
            headers={"Accept": mediatypes.ACCEPT_MANIFEST},
            what=f"find {reference.familiar} in {self.place}",
        ) as reply:
            raw = reply.body(MAX_MANIFEST_SIZE)
            said, media_type = content_digest(reply), media_type_of(reply)
        digest = Digest.of(
            raw, algorithm=reference.digest.algorithm if reference.digest else "sha256"
        )
        if said is not None and said != digest and said.algorithm == digest.algorithm:
            raise DigestMismatch(str(said), str(digest), place=self.place)
        content = parse_manifest(raw, media_type=media_type if media_type in _MANIFESTS else None)
        kind = content.descriptor.media_type
        self._manifests[digest] = kind, raw
        return Descriptor(kind, digest, len(raw))

    def _put_manifest(self, name: str, descriptor: Descriptor, raw: bytes) -> None:
        try:
            with self.wire.ask(
                "PUT",
                f"{self._base}/manifests/{name}",
                scopes=self.scopes("PUT"),
                ok=(200, 201, 202),
                headers={"Content-Type": descriptor.media_type},
                body=raw,
                what=f"push manifest {name} to {self.place}",
            ) as reply:
                said = content_digest(reply)
        except RegistryError as error:
            if not {"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"}.isdisjoint(error.codes):
                raise BlobNotFound(error.message, place=self.place) from error
            raise
        expected = descriptor.digest
        if said is not None and said.algorithm == expected.algorithm and said != expected:
            raise DigestMismatch(str(expected), str(said), place=self.place)


def _api_name(reference: Reference) -> str:
    """Docker Hub's official images live under `library/`."""
    if reference.host == "docker.io" and "/" not in reference.repository:
        return f"library/{reference.repository}"
    return reference.repository


def _accept(descriptor: Descriptor) -> dict[str, str]:
    return {"Accept": mediatypes.ACCEPT_MANIFEST} if descriptor.media_type in _MANIFESTS else {}
