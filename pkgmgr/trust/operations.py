"""What the commands of trust do: keys, signatures, attachments, bills of material."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .. import attachments, mediatypes
from ..attachments import Attachment
from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import InvalidKey, InvalidOption, NotFound, SignatureError
from ..manifest import Manifest
from ..reference import Reference
from ..store.store import Store
from . import gate, modelsigning, sbom, signing, sigstore
from .keys import MAX_KEY_FILE, Passphrase, PublicKey, SigningKey
from .policy import Verdict

# RFC 6838 §4.2, as image-spec v1.1.1 (manifest.md, artifactType) asks for.
_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_MEDIA_TYPE = re.compile(f"{_NAME}/{_NAME}")


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """A new key pair on disk."""

    private: Path
    public: Path
    fingerprint: str


def generate_key(prefix: Path, passphrase: bytes) -> KeyFiles:
    """Make a key pair: `prefix`.key, encrypted and for its owner only, and `prefix`.pub.

    Raises:
        InvalidOption: where one of the files is there already.
    """
    key = SigningKey.generate()
    private, public = prefix.with_name(prefix.name + ".key"), prefix.with_name(prefix.name + ".pub")
    for path, data, mode in (
        (private, key.to_pem(passphrase, random=os.urandom), 0o600),
        (public, key.public.pem, 0o644),
    ):
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        except FileExistsError as error:
            raise InvalidOption(f"{path} is there already and is not overwritten") from error
        with os.fdopen(fd, "wb") as file:
            file.write(data)
    return KeyFiles(private, public, key.public.fingerprint)


def read_signing_key(path: Path, passphrase: Passphrase) -> SigningKey:
    """Read a private key file.

    Raises:
        InvalidKey: where it cannot be used.
    """
    return SigningKey.from_pem(_key_bytes(path), passphrase, name=str(path))


def read_public_key(path: Path) -> PublicKey:
    """Read a public key file.

    Raises:
        InvalidKey: where it cannot be used.
    """
    return PublicKey.from_pem(_key_bytes(path), name=str(path))


def check_signatures(
    store: Store, reference: Reference, keys: Sequence[PublicKey]
) -> tuple[PublicKey, ...]:
    """Check that every one of these keys signed a stored model.

    Raises:
        SignatureError: naming the first that did not.
        ModelNotFound: where the store has no such model.
    """
    digest = store.find(reference).descriptor.digest
    found = attachments.in_store(store, digest)
    evidence = signing.evidence(found, digest, keys, read=signing.reader(store))
    signed = {item.key for item in evidence}
    for key in keys:
        if key not in signed:
            raise SignatureError(
                f"{reference.familiar} ({digest}) is not signed by key {key.fingerprint[:12]}",
                hint=f"`pannier referrers {reference.familiar}` lists what hangs on it",
            )
    return tuple(keys)


def check_policy(store: Store, reference: Reference) -> Verdict | None:
    """The policy's verdict on a stored model, None where there is no policy.

    Raises:
        ModelNotFound, InvalidPolicy: as things are.
    """
    policy = gate.load_policy(store)
    return gate.judge_store(store, policy, reference) if policy is not None else None


def model_signature(store: Store, reference: Reference, key: SigningKey) -> bytes:
    """An OpenSSF model signature of a stored model's files; no weight is read.

    Raises:
        ModelNotFound, SignatureError: as things are.
    """
    content = _manifest(store, reference)
    return modelsigning.sign(reference.familiar, signing.model_files(content), key)


def check_model_signature(
    store: Store, reference: Reference, raw: bytes, keys: Sequence[PublicKey]
) -> None:
    """Check that an OpenSSF model signature by one of the keys is about exactly this model.

    Raises:
        SignatureError: where it is not.
    """
    envelope = sigstore.read_bundle(raw)
    wanted = set(signing.model_files(_manifest(store, reference)).values())
    last = SignatureError("no key was given")
    for key in keys:
        try:
            files = modelsigning.check(envelope, key)
        except SignatureError as error:
            last = error
            continue
        if set(files.values()) != wanted:
            raise SignatureError(f"the signature is about other files than {reference.familiar}")
        return
    raise last


def attach(
    store: Store,
    reference: Reference,
    content: bytes,
    *,
    media_type: str,
    now: Callable[[], float],
) -> Digest:
    """Hang a document on a stored model as a referrer; gives the referrer's digest.

    Raises:
        ModelNotFound: where the store has no such model.
        InvalidOption: where the document is too large, or `media_type` is none.
    """
    if not _MEDIA_TYPE.fullmatch(media_type):
        raise InvalidOption(
            f"{media_type[:80]!r} is no media type",
            hint="for instance application/vnd.in-toto+json",
        )
    if len(content) > attachments.MAX_ATTACHMENT_SIZE:
        raise InvalidOption(
            f"an attachment of {len(content)} bytes is over {attachments.MAX_ATTACHMENT_SIZE}"
        )
    entry = store.find(reference)
    layer = Descriptor(media_type, Digest.of(content), len(content))
    manifest = attachments.make_referrer(
        entry.descriptor,
        artifact_type=media_type,
        layers=[layer],
        annotations={mediatypes.CREATED: timestamp(now)},
    )
    attachments.add(store, entry.reference, Attachment(manifest), {layer.digest: content})
    return manifest.descriptor.digest


def make_sbom(
    store: Store, reference: Reference, form: sbom.Form, *, now: Callable[[], float], version: str
) -> bytes:
    """A bill of material of a stored model.

    Raises:
        ModelNotFound, ManifestError: as things are.
    """
    from .describe import describe

    facts = describe(store, reference)
    return sbom.render(facts, form, created=timestamp(now), tool_version=version)


def timestamp(now: Callable[[], float]) -> str:
    """RFC 3339 in UTC, to the second."""
    return datetime.fromtimestamp(int(now()), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _manifest(store: Store, reference: Reference) -> Manifest:
    content = store.manifest(store.find(reference).descriptor.digest)
    if not isinstance(content, Manifest):
        raise SignatureError(f"{reference.familiar} is an index; sign its models one by one")
    return content


def _key_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_KEY_FILE + 1)
    except FileNotFoundError as error:
        raise NotFound(
            f"there is no key file {path}", hint="pannier key generate PREFIX makes a pair"
        ) from error
    except OSError as error:
        raise InvalidKey(f"cannot read {path}: {error.strerror}") from error
