"""OpenSSF model-signing v1: one detached file that signs a model's files by name and digest.

Implements the `model.sig` form of model-transparency 1.x: a sigstore bundle whose statement names
every file. A manifest knows each file's SHA-256 already, so no weight is read. Pure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ..digest import Digest
from ..errors import InvalidDigest, SignatureError
from .keys import PublicKey, SigningKey
from .sigstore import STATEMENT_TYPE, Envelope, read_statement
from .sigstore import sign as sign_bundle

PREDICATE_TYPE = "https://model_signing/signature/v1.0"
_MAX_FILES = 100_000


def sign(name: str, files: Mapping[str, Digest], key: SigningKey) -> bytes:
    """The content of a `model.sig` over these files.

    Args:
        name: of the model, for people.
        files: file name → SHA-256 digest.
        key: who signs.
    """
    ordered = sorted(files.items())
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": _root(ordered)}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [],
            },
            "resources": [
                {"name": path, "algorithm": "sha256", "digest": digest.hex}
                for path, digest in ordered
            ],
        },
    }
    payload = json.dumps(statement, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    # The hint is over the PEM text here, unlike cosign's (model_signing, sign_ec_key).
    return sign_bundle(payload, key, hint=hashlib.sha256(key.public.pem).hexdigest())


def check(envelope: Envelope, key: PublicKey) -> Mapping[str, Digest]:
    """The files that a `model.sig` vouches for, its signature checked.

    Raises:
        SignatureError: where the signature, the statement or its root digest is wrong.
    """
    envelope.check(key)
    document = read_statement(envelope)
    try:
        resources = document["predicate"]["resources"]
        files = {str(item["name"]): _digest(item) for item in resources}
        claimed = document["subject"][0]["digest"]["sha256"]
        ordered = sorted(files.items())
        good = len(files) == len(resources) <= _MAX_FILES and len(document["subject"]) == 1
    except (TypeError, KeyError, AttributeError, InvalidDigest) as error:
        raise SignatureError("a model signature's statement is malformed") from error
    if document["predicateType"] != PREDICATE_TYPE or not good:
        raise SignatureError("not an OpenSSF model signature v1.0")
    if claimed != _root(ordered):
        raise SignatureError("a model signature's root is not the digest of its files")
    return files


def _digest(item: Mapping[str, Any]) -> Digest:
    return Digest.parse(f"{item['algorithm']}:{item['digest']}")


def _root(ordered: list[tuple[str, Digest]]) -> str:
    if any(item.algorithm != "sha256" for _, item in ordered):
        raise SignatureError("model signatures are over SHA-256 digests only")
    return hashlib.sha256(b"".join(bytes.fromhex(item.hex) for _, item in ordered)).hexdigest()
