"""Any stored model as an Ollama manifest, for clients that accept nothing else.

Real Ollama asks for Docker's manifest type only. What it gets for a model in another dialect is
derived by a pure function of the stored manifest, so its digest is the same on every node, and it
is the one that `pannier push --as ollama` would write. The weights are the stored ones.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict

from pannier.pkgmgr.descriptor import Descriptor
from pannier.pkgmgr.dialects import read_spec
from pannier.pkgmgr.dialects.base import MAX_SMALL_BLOB, Composition
from pannier.pkgmgr.dialects.convert import convert, writable
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import PannierError, UnknownDialect
from pannier.pkgmgr.manifest import Index, Manifest, parse_manifest
from pannier.pkgmgr.mediatypes import DOCKER_MANIFEST
from pannier.pkgmgr.modelspec import Role
from pannier.pkgmgr.store.store import Store
from pannier.pkgmgr.transfer.verify import VerifyingReader
from pannier.pkgmgr.unpack import unpack

from .errors import Code, Problem, translate
from .source import Source

# Derived manifests that are remembered, and the most bytes that one may cost.
_MAX_MADE = 128
_MAX_MADE_SIZE = 256 << 10


class Presenter:
    """Derives, and finds again what it derived. Thread-safe."""

    def __init__(self, store: Store, source: Source) -> None:
        self._store = store
        self._source = source
        self._ollama = writable("ollama")
        self._made: OrderedDict[Digest, Composition] = OrderedDict()
        self._lock = threading.Lock()

    def present(self, name: str, content: Manifest | Index) -> tuple[Descriptor, bytes]:
        """The Ollama manifest of a model; its small blobs are in the store then.

        Raises:
            Problem: MANIFEST_UNKNOWN, with status 406 and the reason for what is a model.
        """
        manifest = self._model_of(name, content)
        try:
            made = self._derive(name, manifest)
        except UnknownDialect as error:
            raise Problem(Code.MANIFEST_UNKNOWN, error.message) from error
        for descriptor, data in (*made.blobs, (manifest.descriptor, manifest.raw)):
            self._store.push(descriptor, io.BytesIO(data))
        self._store.push(made.descriptor, io.BytesIO(made.manifest))
        return made.descriptor, made.manifest

    def find(self, name: str, digest: Digest) -> tuple[Descriptor, bytes] | None:
        """A manifest that was derived from one of a repository; None for any other digest."""
        if not self._store.path(digest).exists():
            return None
        for tag in self._source.tags(name):
            try:
                _, content = self._source.manifest(name, tag)
                made = self._derive(name, self._model_of(name, content))
            except (PannierError, Problem):
                continue
            if made.descriptor.digest == digest:
                return made.descriptor, made.manifest
        return None

    def _model_of(self, name: str, content: Manifest | Index) -> Manifest:
        """The manifest, or the first model of an index, which Ollama cannot follow."""
        if isinstance(content, Manifest):
            return content
        for child in content.manifests:
            _, found = self._source.manifest(name, str(child.digest))
            if isinstance(found, Manifest):
                return found
        raise Problem(Code.MANIFEST_UNKNOWN, "the index names no manifest")

    def _derive(self, name: str, manifest: Manifest) -> Composition:
        digest = manifest.descriptor.digest
        with self._lock:
            made = self._made.get(digest)
            if made is not None:
                self._made.move_to_end(digest)
                return made
        made = self._convert(name, manifest)
        if sum(descriptor.size for descriptor, _ in made.blobs) > _MAX_MADE_SIZE:
            return made
        with self._lock:
            self._made[digest] = made
            while len(self._made) > _MAX_MADE:
                self._made.popitem(last=False)
        return made

    def _convert(self, name: str, manifest: Manifest) -> Composition:
        def open_blob(descriptor: Descriptor) -> bytes:
            return self._read(name, descriptor)

        spec = read_spec(manifest, open_blob)
        if any(part.is_packed for part in spec.parts):
            for part in spec.parts:
                self._source.bring(name, part.descriptor)
            spec = unpack(self._store, spec)
        if len(spec.select(Role.WEIGHTS)) != 1:
            text = "Ollama cannot run a model whose weights are several files"
            raise Problem(Code.MANIFEST_UNKNOWN, text, 406)
        try:
            made = convert(manifest, spec, self._ollama, open_blob)
        except UnknownDialect:
            raise
        except PannierError as error:
            problem = translate(error)
            raise Problem(problem.code, problem.message, 406) from error
        assert parse_manifest(made.manifest).descriptor.media_type == DOCKER_MANIFEST
        return made

    def _read(self, name: str, descriptor: Descriptor) -> bytes:
        if descriptor.size > MAX_SMALL_BLOB:
            raise UnknownDialect(f"layer {descriptor.digest} is too long to be read whole")
        with self._source.open(name, descriptor) as content:
            return VerifyingReader(content, descriptor).read()
