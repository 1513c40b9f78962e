"""Model names: ``[HOST[:PORT]/]PATH[:TAG][@DIGEST]``, parsed once into a typed value.

The grammar is distribution-spec v1.1.1's for names and tags (section "Pulling manifests"), read
without regard to case as Ollama does; the first path component is a host where it holds a dot or
a colon or is ``localhost`` (the rule of Docker's reference grammar). Upper case is kept as typed:
stores compare by `Reference.key`, and registries are told to refuse what they do not allow.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from typing import Self

from .digest import Digest
from .errors import InvalidDigest, InvalidReference

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"
MAX_LENGTH = 512
_MAX_REPOSITORY = 255

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_COMPONENT = re.compile(r"[A-Za-z0-9_]+(?:(?:\.|__?|-+)[A-Za-z0-9_]+)*")
_OCI_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_HOST = re.compile(
    r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
    r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*)(?::([0-9]{1,5}))?"
)
# Names are copied from a web site whose registry is elsewhere.
_ALIASES = {"ollama.com": DEFAULT_HOST}
# Schemes that other tools put before a name. `http` is not one: plain HTTP is asked for by flag.
_SCHEMES = ("https://", "oci://", "docker://", "ollama://")


@dataclass(frozen=True, slots=True)
class Reference:
    """A full model name. ``Reference.parse(str(r)) == r``, and `familiar` parses back too.

    Attributes:
        host: lower case, with port where given.
        repository: path below the host, any depth.
        tag: None only where a digest alone names the manifest.
        digest: where set, it decides; the tag is then only a remark.
    """

    host: str
    repository: str
    tag: str | None
    digest: Digest | None = None

    @classmethod
    def parse(
        cls,
        text: str,
        *,
        default_host: str = DEFAULT_HOST,
        default_namespace: str = DEFAULT_NAMESPACE,
    ) -> Self:
        """Read a name as users type it, filling in the defaults.

        Args:
            text: the name.
            default_host: for names without a host.
            default_namespace: for one-component names on the default host; may be empty.

        Raises:
            InvalidReference: with the part that is wrong.
        """
        rest = _without_scheme(text)
        if not rest or len(rest) > MAX_LENGTH or not rest.isascii():
            raise InvalidReference(text[:MAX_LENGTH], "empty, too long, or not ASCII")
        rest, digest = _split_digest(text, rest)
        rest, tag = _split_tag(text, rest)
        host, repository = _split_host(text, rest, default_host, default_namespace)
        if tag is None and digest is None:
            tag = DEFAULT_TAG
        return cls(host, repository, tag, digest)

    @property
    def key(self) -> str:
        """What two names must share to be the same local model: `name`, case folded."""
        return self.name.lower()

    @property
    def name(self) -> str:
        """What `index.json` calls the model: with its tag, or with its digest if it has no tag."""
        return f"{self.host}/{self.repository}" + (
            f":{self.tag}" if self.tag else f"@{self.digest}"
        )

    @property
    def familiar(self) -> str:
        """The shortest form that people know: without default host and namespace, with tag."""
        short = f"{self.host}/{self.repository}"
        if self.host == DEFAULT_HOST:
            first, slash, last = self.repository.rpartition("/")
            if first == DEFAULT_NAMESPACE:
                short = last
            elif slash and not _is_host(self.repository.split("/")[0]):
                short = self.repository
        return short + self._suffix()

    @property
    def manifest_name(self) -> str:
        """What a registry is asked for: the digest where there is one, else the tag."""
        return str(self.digest) if self.digest else (self.tag or DEFAULT_TAG)

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this machine, where plain HTTP is the custom."""
        name = self.host.rpartition(":")[0] if _has_port(self.host) else self.host
        if name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(name.strip("[]")).is_loopback
        except ValueError:
            return False

    def with_tag(self, tag: str | None) -> Self:
        """The same repository under another tag, without digest."""
        return replace(self, tag=tag, digest=None)

    def with_digest(self, digest: Digest | None) -> Self:
        """The same name pinned to a digest."""
        return replace(self, digest=digest)

    def require_registry_name(self) -> None:
        """Check that a registry can hold this name.

        Raises:
            InvalidReference: where a path component has upper case or what else only Ollama
                allows (distribution-spec v1.1.1, "Pulling manifests").
        """
        for component in self.repository.split("/"):
            if not _OCI_COMPONENT.fullmatch(component):
                raise InvalidReference(
                    str(self), f"registries allow only lower-case names, not {component!r}"
                )

    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return tag + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}{self._suffix()}"


def is_tag(text: str) -> bool:
    """Whether a text is a tag by the distribution-spec's grammar."""
    return text.isascii() and _TAG.fullmatch(text) is not None


def _without_scheme(text: str) -> str:
    for scheme in _SCHEMES:
        if text.startswith(scheme):
            return text[len(scheme) :]
    if "://" in text:
        raise InvalidReference(text, "unknown scheme; for plain HTTP use --plain-http")
    return text


def _split_digest(text: str, rest: str) -> tuple[str, Digest | None]:
    rest, at, value = rest.partition("@")
    if not at:
        return rest, None
    try:
        return rest, Digest.parse(value)
    except InvalidDigest as error:
        raise InvalidReference(text, "what follows '@' is not a digest") from error


def _split_tag(text: str, rest: str) -> tuple[str, str | None]:
    head, slash, last = rest.rpartition("/")
    name, colon, tag = last.partition(":")
    if not colon:
        return rest, None
    if not _TAG.fullmatch(tag):
        raise InvalidReference(text, f"invalid tag {tag!r}")
    return head + slash + name, tag


def _split_host(text: str, rest: str, default_host: str, default_namespace: str) -> tuple[str, str]:
    first, slash, path = rest.partition("/")
    if slash and _is_host(first):
        host = _ALIASES.get(first.lower(), first.lower())
    else:
        host, path = default_host, rest
        if not slash and default_namespace:
            path = f"{default_namespace}/{rest}"
    match = _HOST.fullmatch(host)
    if match is None or (match[1] and not 0 < int(match[1]) < 65536):
        raise InvalidReference(text, f"invalid host {host!r}")
    if not path or len(path) > _MAX_REPOSITORY:
        raise InvalidReference(text, "the path is empty or too long")
    for component in path.split("/"):
        if not _COMPONENT.fullmatch(component):
            raise InvalidReference(text, f"invalid path component {component!r}")
    return host, path


def _is_host(first: str) -> bool:
    return "." in first or ":" in first or first.lower() == "localhost"


def _has_port(host: str) -> bool:
    return ":" in host and not host.endswith("]")
