"""Repository names on the wire and model names in the store: one pure mapping, both ways.

A registry has repositories without hosts; the store has full names. Repositories of the *home*
host (the default registry, or the upstream of a bridge) are served under their path, those of any
other host under ``host/path``, with a port written as ``host_port`` because the grammar of
distribution-spec v1.1.1 ("Pulling manifests", `<name>`) has no colon.

====================================  =========================
model name in the store               repository here
====================================  =========================
registry.ollama.ai/library/smol       smol (also library/smol)
registry.ollama.ai/team/smol          team/smol
registry.corp/team/smol               registry.corp/team/smol
registry.corp:5000/team/smol          registry.corp_5000/team/smol
====================================  =========================
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import InvalidReference
from pannier.pkgmgr.reference import DEFAULT_HOST, DEFAULT_NAMESPACE, Reference

# distribution-spec v1.1.1, "Pulling manifests". 255 is what clients may expect for host and name.
_NAME = re.compile(
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_MAX_NAME = 255
_HOST_WITH_PORT = re.compile(r"((?:[a-z0-9-]+\.)+[a-z0-9-]+|localhost)_([0-9]{1,5})")
_OLLAMA_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")


@dataclass(frozen=True, slots=True)
class Home:
    """The host, and the path below it, whose models are served without naming them.

    Attributes:
        host: as `Reference.host` has it.
        prefix: path components before every repository name, without slashes at the ends.
        namespace: what a name of one component stands in; empty where it stands alone.
    """

    host: str = DEFAULT_HOST
    prefix: str = ""
    namespace: str = DEFAULT_NAMESPACE

    def reference(
        self, name: str, *, tag: str | None = None, digest: Digest | None = None
    ) -> Reference:
        """The model name of a repository and a tag or digest.

        Raises:
            InvalidReference: where the name is no name of a repository.
        """
        if len(name) > _MAX_NAME or not _NAME.fullmatch(name):
            raise InvalidReference(name[:_MAX_NAME], "not a repository name")
        if tag is not None and not _TAG.fullmatch(tag):
            raise InvalidReference(f"{name}:{tag[:128]}", "not a tag")
        host, path = self._split(name)
        return Reference(host, path, tag, digest)

    def repository(self, reference: Reference) -> str | None:
        """The repository that serves a model name; None where none can, such as an IPv6 host."""
        path = reference.repository.lower()
        if reference.host == self.host and path.startswith(self._start):
            name = path.removeprefix(self._start)
            first, _, rest = name.partition("/")
            if rest and first == self.namespace and not self.prefix:
                name = rest
        else:
            name = f"{reference.host.replace(':', '_')}/{path}"
        valid = len(name) <= _MAX_NAME and _NAME.fullmatch(name)
        return name if valid and self._split(name) == (reference.host, path) else None

    @property
    def _start(self) -> str:
        return f"{self.prefix}/" if self.prefix else ""

    def _split(self, name: str) -> tuple[str, str]:
        first, slash, rest = name.partition("/")
        if slash and not self.prefix and (host := _host(first)) is not None:
            return host, rest
        if not slash and self.namespace and not self.prefix:
            return self.host, f"{self.namespace}/{name}"
        return self.host, self._start + name


def fold_ollama_name(name: str) -> str:
    """Lower a name as Ollama compares names; what is no Ollama name is given back as it is."""
    return name.lower() if _OLLAMA_NAME.fullmatch(name) else name


def _host(component: str) -> str | None:
    if match := _HOST_WITH_PORT.fullmatch(component):
        return f"{match[1]}:{match[2]}"
    return component if "." in component or component == "localhost" else None
