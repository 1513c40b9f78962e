"""Descriptors: media type, digest and size of one blob, with whatever else a manifest says of it.

Implements image-spec v1.1.1, descriptor.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

from .digest import Digest
from .errors import InvalidDigest, InvalidManifest

_NO_ANNOTATIONS: Mapping[str, str] = MappingProxyType({})
_EMPTY: Mapping[str, Any] = MappingProxyType({})
_KNOWN = ("mediaType", "digest", "size", "annotations", "artifactType")
# A descriptor may not promise more than this many bytes (8 TiB): larger numbers are attacks on
# whoever allocates or reserves by them.
MAX_SIZE = 8 << 40


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One blob as a manifest names it. `size` is in bytes.

    Attributes:
        extra: members that we do not interpret (platform, urls, data, …), as parsed. `urls` is
            never fetched (`docs/design.md`, "Six places where a registry chooses a URL").
    """

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=lambda: _NO_ANNOTATIONS)
    artifact_type: str | None = None
    extra: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read a parsed JSON object.

        Raises:
            InvalidManifest: where a required member is absent or any member has a wrong type.
        """
        if not isinstance(value, dict):
            raise InvalidManifest("a descriptor is not a JSON object")
        media_type, size = value.get("mediaType", ""), value.get("size")
        if not isinstance(media_type, str):
            raise InvalidManifest("a descriptor's mediaType is not a string")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_SIZE:
            raise InvalidManifest(f"a descriptor's size is {str(size)[:40]}")
        try:
            digest = Digest.parse(str(value.get("digest")))
        except InvalidDigest as error:
            raise InvalidManifest(error.message) from error
        artifact_type = value.get("artifactType")
        if artifact_type is not None and not isinstance(artifact_type, str):
            raise InvalidManifest("a descriptor's artifactType is not a string")
        extra = {key: item for key, item in value.items() if key not in _KNOWN}
        return cls(
            media_type,
            digest,
            size,
            annotations_from_json(value.get("annotations")),
            artifact_type,
            MappingProxyType(extra),
        )

    def to_json(self) -> dict[str, Any]:
        """The JSON object, members in the order mediaType, digest, size, annotations, rest."""
        out: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
        }
        if self.annotations:
            out["annotations"] = dict(self.annotations)
        if self.artifact_type is not None:
            out["artifactType"] = self.artifact_type
        return out | dict(self.extra)


def annotations_from_json(value: object) -> Mapping[str, str]:
    """A read-only string map from a parsed `annotations` member; absent and null give no entries.

    Raises:
        InvalidManifest: where it is not a map of strings.
    """
    if value is None:
        return _NO_ANNOTATIONS
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise InvalidManifest("annotations are not a map of strings")
    return MappingProxyType(dict(value))
