"""Signing a model, and looking at what signatures it has. Offline, in this process.

A signature is written in both of cosign's forms: the `.sig` tag, which every verifier since 1.0
and the policy engines read, and the sigstore bundle as a referrer, which cosign ≥ 3 writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from .. import attachments, mediatypes
from ..attachments import Attachment
from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import NotFound, SignatureError
from ..manifest import Manifest, parse_manifest
from ..reference import Reference
from ..store.store import Store
from ..transfer.content import Source
from ..transfer.verify import read_small
from . import sigstore, simplesigning
from .keys import PublicKey, SigningKey
from .policy import Evidence

# cosign looks at up to 1,000; nobody signs a model that often, and each costs a verification.
MAX_SIGNATURES = 64


@dataclass(frozen=True, slots=True)
class Signed:
    """What `sign` wrote: the digests of the two signature manifests."""

    model: Digest
    tag_form: Digest
    bundle_form: Digest


def sign(
    store: Store,
    reference: Reference,
    key: SigningKey,
    *,
    identity: str | None = None,
    now: Callable[[], float],
) -> Signed:
    """Sign a stored model and store both signatures beside it.

    Args:
        store: where the model is.
        reference: its name.
        key: who signs.
        identity: the `host/repository` that the signature is for; None for the model's own.
        now: the time in seconds since 1970.

    Raises:
        ModelNotFound: where the store has no such model.
    """
    entry = store.find(reference)
    digest, name = entry.descriptor.digest, entry.reference
    claim = identity or f"{name.host}/{name.repository}"
    tagged, blobs = _tag_form(store, digest, simplesigning.payload(claim, digest), key)
    attachments.add(store, name, tagged, blobs)
    created = datetime.fromtimestamp(int(now()), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    bundle, blobs = _bundle_form(entry.descriptor, key, created)
    attachments.add(store, name, bundle, blobs)
    return Signed(digest, tagged.manifest.descriptor.digest, bundle.manifest.descriptor.digest)


def evidence(
    found: Iterable[Attachment],
    digest: Digest,
    keys: Iterable[PublicKey],
    *,
    read: Callable[[Descriptor], bytes],
) -> tuple[Evidence, ...]:
    """The signatures over a manifest that one of the keys made; all others count for nothing.

    Args:
        found: what hangs on the manifest.
        digest: of the manifest.
        keys: those that may count.
        read: gives a small blob, verified.
    """
    known = tuple(keys)
    claims = (item for attachment in found for item in _claims(attachment, read))
    good = []
    for claim in islice(claims, MAX_SIGNATURES):
        for key in known:
            with suppress(SignatureError):
                good.append(claim(key, digest))
    return tuple(dict.fromkeys(good))


def reader(source: Source) -> Callable[[Descriptor], bytes]:
    """A reader of signature blobs in any place, bounded and verified."""

    def read(descriptor: Descriptor) -> bytes:
        if descriptor.size > sigstore.MAX_BUNDLE:
            raise SignatureError(f"a signature of {descriptor.size} bytes is too long")
        return read_small(source, descriptor)

    return read


_Claim = Callable[[PublicKey, Digest], Evidence]


def _claims(attachment: Attachment, read: Callable[[Descriptor], bytes]) -> list[_Claim]:
    """What can be checked of an attachment; malformed signatures are left out."""
    manifest = attachment.manifest
    out: list[_Claim] = []
    for layer in simplesigning.signature_layers(manifest)[:MAX_SIGNATURES]:
        with suppress(SignatureError, NotFound):
            out.append(_simple_claim(read(layer), simplesigning.signature_of(layer)))
    if attachment.kind == mediatypes.SIGSTORE_BUNDLE and len(manifest.layers) == 1:
        with suppress(SignatureError, NotFound):
            out.append(_bundle_claim(read(manifest.layers[0])))
    return out


def _simple_claim(payload: bytes, signature: bytes) -> _Claim:
    def check(key: PublicKey, digest: Digest) -> Evidence:
        key.verify(signature, payload)
        claim = simplesigning.read_payload(payload)
        if claim.digest != digest:
            raise SignatureError(f"a signature is about {claim.digest}, not {digest}")
        return Evidence(key, claim.identity)

    return check


def _bundle_claim(raw: bytes) -> _Claim:
    envelope = sigstore.read_bundle(raw)

    def check(key: PublicKey, digest: Digest) -> Evidence:
        envelope.check(key)
        statement = sigstore.read_statement(envelope)
        if statement["predicateType"] != sigstore.SIGN_PREDICATE:
            raise SignatureError("an attestation is not a signature")
        if digest not in sigstore.subjects(statement):
            raise SignatureError(f"a signature is not about {digest}")
        return Evidence(key, None)

    return check


def _tag_form(
    store: Store, digest: Digest, payload: bytes, key: SigningKey
) -> tuple[Attachment, Mapping[Digest, bytes]]:
    """The `.sig` image with one more layer: earlier signatures by other keys stay."""
    tag = simplesigning.tag_of(digest)
    layers: list[Descriptor] = []
    blobs: dict[Digest, bytes] = {}
    for attachment in attachments.in_store(store, digest):
        if attachment.tag == tag:
            for layer in simplesigning.signature_layers(attachment.manifest):
                content = store.read(layer, max_size=simplesigning.MAX_PAYLOAD)
                if not _made_by(key.public, layer, content):
                    layers.append(layer)
                    blobs[layer.digest] = content
    layers.append(simplesigning.layer(payload, key))
    blobs[Digest.of(payload)] = payload
    raw, config = simplesigning.image(tuple(layers))
    blobs[Digest.of(config)] = config
    return Attachment(parse_manifest(raw), tag), blobs


def _made_by(key: PublicKey, layer: Descriptor, payload: bytes) -> bool:
    try:
        key.verify(simplesigning.signature_of(layer), payload)
    except SignatureError:
        return False
    return True


def _bundle_form(
    model: Descriptor, key: SigningKey, created: str
) -> tuple[Attachment, Mapping[Digest, bytes]]:
    bundle = sigstore.sign(sigstore.statement(model.digest), key)
    layer = Descriptor(mediatypes.SIGSTORE_BUNDLE, Digest.of(bundle), len(bundle))
    manifest = attachments.make_referrer(
        model,
        artifact_type=mediatypes.SIGSTORE_BUNDLE,
        layers=[layer],
        annotations={
            mediatypes.CREATED: created,
            mediatypes.SIGSTORE_CONTENT: "dsse-envelope",
            mediatypes.SIGSTORE_PREDICATE: sigstore.SIGN_PREDICATE,
        },
    )
    return Attachment(manifest), {layer.digest: bundle}


def model_files(manifest: Manifest) -> Mapping[str, Digest]:
    """File name → digest of a model's layers, as OpenSSF model signatures name them.

    Raises:
        SignatureError: where two layers have one file name.
    """
    files: dict[str, Digest] = {}
    for layer in manifest.layers:
        notes = layer.annotations
        name = notes.get(mediatypes.CNCF_FILEPATH) or notes.get(mediatypes.TITLE)
        path = name or layer.digest.hex
        if files.setdefault(path, layer.digest) != layer.digest:
            raise SignatureError(f"two layers are called {path!r}")
    return files
