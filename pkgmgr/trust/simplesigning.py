"""cosign's first signature form: "simple signing" payloads in an image tagged `sha256-<hex>.sig`.

Implements what `cosign sign` and `cosign verify --key` have written and read since 1.0: payload
bytes as Go's encoding/json writes them, one layer per signature, the signature in an annotation.
Pure: it builds and reads bytes.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass

from .. import strictjson
from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import InvalidDigest, SignatureError
from ..manifest import Manifest
from ..mediatypes import COSIGN_PAYLOAD, COSIGN_SIGNATURE, OCI_CONFIG, OCI_MANIFEST
from .keys import SigningKey

MAX_PAYLOAD = 64 << 10
_TYPE = "cosign container image signature"
_MAX_SIGNATURE = 4096
_NO_TIME = "0001-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Claim:
    """What a payload claims: that `digest` is called `identity` (host and repository)."""

    identity: str
    digest: Digest


def tag_of(digest: Digest) -> str:
    """The tag in the model's own repository that holds its signatures."""
    return f"{digest.algorithm}-{digest.hex}.sig"


def payload(identity: str, digest: Digest) -> bytes:
    """The bytes to sign, as cosign writes them: Go's field order, compact, no newline."""
    document = {
        "critical": {
            "identity": {"docker-reference": identity},
            "image": {"docker-manifest-digest": str(digest)},
            "type": _TYPE,
        },
        "optional": None,
    }
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def read_payload(raw: bytes) -> Claim:
    """What a payload claims, whoever wrote it.

    Raises:
        SignatureError: where it is malformed or of another type.
    """
    try:
        critical = strictjson.loads(raw, max_size=MAX_PAYLOAD)["critical"]
        identity = critical["identity"]["docker-reference"]
        digest = Digest.parse(str(critical["image"]["docker-manifest-digest"]))
        kind = critical["type"]
    except (ValueError, TypeError, KeyError, AttributeError, InvalidDigest) as error:
        raise SignatureError("a signature's payload is malformed") from error
    if kind != _TYPE or not isinstance(identity, str):
        raise SignatureError(f"a signature's payload is of type {str(kind)[:60]!r}")
    return Claim(identity, digest)


def layer(raw: bytes, key: SigningKey) -> Descriptor:
    """The layer that holds a payload and, in its annotation, the signature over it."""
    signature = base64.b64encode(key.sign(raw)).decode("ascii")
    return Descriptor(COSIGN_PAYLOAD, Digest.of(raw), len(raw), {COSIGN_SIGNATURE: signature})


def signature_of(descriptor: Descriptor) -> bytes:
    """The DER signature that a layer's annotation holds.

    Raises:
        SignatureError: where there is none.
    """
    text = descriptor.annotations.get(COSIGN_SIGNATURE, "")
    if not text or len(text) > _MAX_SIGNATURE:
        raise SignatureError("a signature layer holds no signature")
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise SignatureError("a signature is not base64") from error


def signature_layers(manifest: Manifest) -> tuple[Descriptor, ...]:
    """The layers that are simple-signing payloads, in order."""
    return tuple(item for item in manifest.layers if item.media_type == COSIGN_PAYLOAD)


def image(layers: tuple[Descriptor, ...]) -> tuple[bytes, bytes]:
    """Manifest and config bytes of a signature image with these layers."""
    config = _compact(
        {
            "architecture": "",
            "created": _NO_TIME,
            "history": [{"created": _NO_TIME} for _ in layers],
            "os": "",
            "rootfs": {"type": "layers", "diff_ids": [str(item.digest) for item in layers]},
            "config": {},
        }
    )
    manifest = _compact(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": Descriptor(OCI_CONFIG, Digest.of(config), len(config)).to_json(),
            "layers": [item.to_json() for item in layers],
        }
    )
    return manifest, config


def _compact(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode("ascii")
