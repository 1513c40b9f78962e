"""Sigstore bundles v0.3 with a DSSE envelope, as cosign ≥ 3 attaches them to an image.

Implements DSSE v1.0.2 (protocol.md, "SIGNATURE DEFINITION"), in-toto Statement v1 and the part of
sigstore's bundle v0.3 that a key-pair signature needs: no certificate, no transparency log.
Pure: it builds and reads bytes.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .. import strictjson
from ..digest import Digest
from ..errors import InvalidDigest, SignatureError
from ..mediatypes import IN_TOTO, SIGSTORE_BUNDLE
from .keys import PublicKey, SigningKey

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
SIGN_PREDICATE = "https://sigstore.dev/cosign/sign/v1"
MAX_BUNDLE = 4 << 20


@dataclass(frozen=True, slots=True)
class Envelope:
    """A DSSE envelope: the payload exactly as it was signed, and its one signature."""

    payload_type: str
    payload: bytes
    signature: bytes

    def check(self, key: PublicKey) -> None:
        """Check the signature.

        Raises:
            SignatureError: where it is not by this key over this payload.
        """
        key.verify(self.signature, pae(self.payload_type, self.payload))


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: the bytes that are signed."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def statement(
    digest: Digest, *, predicate_type: str = SIGN_PREDICATE, predicate: object = None
) -> bytes:
    """An in-toto statement about one manifest."""
    return _compact(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"digest": {digest.algorithm: digest.hex}}],
            "predicateType": predicate_type,
            "predicate": {} if predicate is None else predicate,
        }
    )


def sign(payload: bytes, key: SigningKey, *, hint: str | None = None) -> bytes:
    """A bundle around an in-toto statement."""
    signature = key.sign(pae(IN_TOTO, payload))
    return _compact(
        {
            "mediaType": SIGSTORE_BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": hint or key.public.hint}},
            "dsseEnvelope": {
                "payload": _b64(payload),
                "payloadType": IN_TOTO,
                "signatures": [{"sig": _b64(signature)}],
            },
        }
    )


def read_bundle(raw: bytes) -> Envelope:
    """The envelope of a bundle; its signature is not yet checked.

    Raises:
        SignatureError: where it is malformed, of another version, or has not exactly one signature.
    """
    try:
        document = strictjson.loads(raw, max_size=MAX_BUNDLE)
        kind = document["mediaType"]
        envelope = document["dsseEnvelope"]
        signatures = envelope["signatures"]
        if kind != SIGSTORE_BUNDLE or len(signatures) != 1:
            raise SignatureError(f"not a sigstore bundle v0.3 with one signature: {str(kind)[:60]}")
        return Envelope(
            str(envelope["payloadType"]),
            base64.b64decode(envelope["payload"], validate=True),
            base64.b64decode(signatures[0]["sig"], validate=True),
        )
    except (ValueError, TypeError, KeyError, AttributeError, binascii.Error) as error:
        raise SignatureError("a sigstore bundle is malformed") from error


def read_statement(envelope: Envelope) -> Mapping[str, Any]:
    """The in-toto statement in an envelope.

    Raises:
        SignatureError: where it is none, or has no subject.
    """
    try:
        document = strictjson.loads(envelope.payload, max_size=MAX_BUNDLE)
        good = envelope.payload_type == IN_TOTO and document["_type"] == STATEMENT_TYPE
        if not good or not isinstance(document["subject"], list) or not document["subject"]:
            raise SignatureError("a sigstore bundle holds no in-toto statement")
        if not isinstance(document["predicateType"], str):
            raise SignatureError("an in-toto statement has no predicate type")
    except (ValueError, TypeError, KeyError) as error:
        raise SignatureError("an in-toto statement is malformed") from error
    return dict(document)


def subjects(document: Mapping[str, Any]) -> tuple[Digest, ...]:
    """The digests that a statement is about, those of algorithms that we know.

    Raises:
        SignatureError: where a subject is malformed.
    """
    found = []
    for item in document["subject"]:
        try:
            for algorithm, value in item["digest"].items():
                if algorithm in ("sha256", "sha512"):
                    found.append(Digest.parse(f"{algorithm}:{value}"))
        except (TypeError, KeyError, AttributeError, InvalidDigest) as error:
            raise SignatureError("an in-toto subject is malformed") from error
    return tuple(found)


def _compact(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
