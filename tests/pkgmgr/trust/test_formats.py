"""Signature formats against golden vectors.

The payload, statement and PAE hashes are what cosign's own code gives for the digest of `{}`; the
secretbox vector was computed with libsodium 1.0.20.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import InvalidKey, PannierError, SignatureError
from pannier.pkgmgr.manifest import parse_manifest
from pannier.pkgmgr.mediatypes import IN_TOTO
from pannier.pkgmgr.trust import modelsigning, secretbox, sigstore, simplesigning
from pannier.pkgmgr.trust.keys import PublicKey, SigningKey

SUBJECT = Digest.of(b"{}")
KEY = SigningKey.generate()
OTHER = SigningKey.generate()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def quick_pem(passphrase: bytes, **params: object) -> bytes:
    """A key in cosign's form with few scrypt rounds, for speed."""
    pem = KEY.to_pem(passphrase, random=os.urandom)
    body = json.loads(base64.b64decode(b"".join(pem.splitlines()[1:-1])))
    body["kdf"]["params"].update(params)
    encoded = base64.b64encode(json.dumps(body).encode())
    label = b"ENCRYPTED COSIGN PRIVATE KEY"
    return b"-----BEGIN %s-----\n%s\n-----END %s-----\n" % (label, encoded, label)


def test_simple_signing_payload_is_byte_for_byte_cosigns() -> None:
    raw = simplesigning.payload("registry.example.com/team/model", SUBJECT)
    assert len(raw) == 247
    assert sha256(raw) == "c463adab65ca2e372773cb2bc10bf5d72ff966ff3d8891603a2e5d28ccac22c7"
    claim = simplesigning.read_payload(raw)
    assert claim == simplesigning.Claim("registry.example.com/team/model", SUBJECT)


def test_statement_and_pae_are_byte_for_byte_cosigns() -> None:
    statement = sigstore.statement(SUBJECT)
    assert len(statement) == 213
    assert sha256(statement) == "9b84e3548964221a6648b03f3831a3a7df757f02d0120664e9d0affc72c2994e"
    encoded = sigstore.pae(IN_TOTO, statement)
    assert sha256(encoded) == "0222210f489656acd13ef91473aa1b8594cacdfe8cc8d0996c51f4af0ef212de"


def test_secretbox_agrees_with_libsodium() -> None:
    key, nonce = bytes(range(32)), bytes(range(24))
    box = secretbox.seal(b"pannier", key=key, nonce=nonce)
    assert box.hex() == "dafcd693a39ab0220674048ea675af5d2e9e5621aeafd0"
    assert secretbox.unseal(box, key=key, nonce=nonce) == b"pannier"


@given(st.binary(max_size=300), st.binary(min_size=32, max_size=32))
def test_secretbox_opens_what_it_sealed(plain: bytes, key: bytes) -> None:
    box = secretbox.seal(plain, key=key, nonce=bytes(24))
    assert secretbox.unseal(box, key=key, nonce=bytes(24)) == plain


def test_a_private_key_survives_cosigns_file_format() -> None:
    pem = KEY.to_pem(b"secret", random=os.urandom)
    assert pem.startswith(b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n")
    assert SigningKey.from_pem(pem, lambda: b"secret").public == KEY.public


def test_a_wrong_passphrase_is_refused() -> None:
    pem = KEY.to_pem(b"secret", random=os.urandom)
    with pytest.raises(InvalidKey, match="wrong passphrase"):
        SigningKey.from_pem(pem, lambda: b"guess")


@pytest.mark.parametrize(
    "params", [{"N": 2**30}, {"N": 3}, {"r": 10**9}, {"p": 1000}, {"N": -1}, {"N": "1"}, {"r": 0}]
)
def test_scrypt_parameters_out_of_bounds_are_refused(params: dict[str, object]) -> None:
    with pytest.raises(InvalidKey, match="out of bounds"):
        SigningKey.from_pem(quick_pem(b"", **params), lambda: b"")


def test_a_plain_pkcs8_key_is_read() -> None:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    encryption = form.BestAvailableEncryption(b"x")
    pem = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, encryption)
    assert SigningKey.from_pem(pem, lambda: b"x").public.pem == key.public_key().public_bytes(
        form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo
    )


def test_other_curves_are_refused() -> None:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    pem = (
        ec.generate_private_key(ec.SECP384R1())
        .public_key()
        .public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(InvalidKey, match="P-256"):
        PublicKey.from_pem(pem)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_key_or_an_error(raw: bytes) -> None:
    with pytest.raises(InvalidKey):
        PublicKey.from_pem(raw)
    label = b"ENCRYPTED SIGSTORE PRIVATE KEY"
    boxed = b"-----BEGIN %s-----\n%s\n-----END %s-----" % (label, base64.b64encode(raw), label)
    for pem in (raw, boxed):
        with pytest.raises(InvalidKey):
            SigningKey.from_pem(pem, lambda: b"")


def test_a_signature_counts_for_its_key_and_bytes_only() -> None:
    signature = KEY.sign(b"message")
    KEY.public.verify(signature, b"message")
    for key, message in ((OTHER.public, b"message"), (KEY.public, b"messagf")):
        with pytest.raises(SignatureError):
            key.verify(signature, message)


def test_a_signature_image_is_what_cosign_reads() -> None:
    payload = simplesigning.payload("a.example/b", SUBJECT)
    layer = simplesigning.layer(payload, KEY)
    raw, config = simplesigning.image((layer,))
    manifest = parse_manifest(raw)
    assert manifest.config.media_type == "application/vnd.oci.image.config.v1+json"
    assert json.loads(config)["rootfs"]["diff_ids"] == [str(layer.digest)]
    (found,) = simplesigning.signature_layers(manifest)
    KEY.public.verify(simplesigning.signature_of(found), payload)


def test_a_bundle_is_read_back_and_checked() -> None:
    envelope = sigstore.read_bundle(sigstore.sign(sigstore.statement(SUBJECT), KEY))
    envelope.check(KEY.public)
    assert sigstore.subjects(sigstore.read_statement(envelope)) == (SUBJECT,)
    with pytest.raises(SignatureError):
        envelope.check(OTHER.public)


def _bundle(change: Callable[[dict[str, object]], object]) -> bytes:
    document = json.loads(sigstore.sign(sigstore.statement(SUBJECT), KEY))
    change(document)
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("dsseEnvelope"),
        lambda d: d.update(mediaType="application/vnd.dev.sigstore.bundle.v9+json"),
        lambda d: d["dsseEnvelope"].update(signatures=[]),
        lambda d: d["dsseEnvelope"].update(signatures=d["dsseEnvelope"]["signatures"] * 2),
        lambda d: d["dsseEnvelope"].update(signatures=[{"sig": "%%%"}]),
        lambda d: d["dsseEnvelope"].update(signatures=[{"sig": 5}]),
        lambda d: d["dsseEnvelope"].update(payload=None),
        lambda d: d.update(dsseEnvelope=[]),
    ],
)
def test_malformed_bundles_are_refused(change: Callable[[dict[str, object]], object]) -> None:
    with pytest.raises(SignatureError):
        sigstore.read_bundle(_bundle(change))


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_as_payload_bundle_and_statement(raw: bytes) -> None:
    for read in (
        simplesigning.read_payload,
        sigstore.read_bundle,
        lambda data: sigstore.read_statement(sigstore.Envelope(IN_TOTO, data, b"")),
    ):
        with pytest.raises(PannierError):
            read(raw)


def test_a_model_signature_vouches_for_its_files() -> None:
    files = {"m.gguf": Digest.of(b"weights"), "LICENSE": Digest.of(b"licence")}
    envelope = sigstore.read_bundle(modelsigning.sign("m", files, KEY))
    assert modelsigning.check(envelope, KEY.public) == files
    with pytest.raises(SignatureError):
        modelsigning.check(envelope, OTHER.public)


def test_a_model_signature_with_a_wrong_root_is_refused() -> None:
    envelope = sigstore.read_bundle(modelsigning.sign("m", {"a": Digest.of(b"1")}, KEY))
    document = json.loads(envelope.payload)
    document["predicate"]["resources"][0]["digest"] = Digest.of(b"2").hex
    forged = sigstore.read_bundle(sigstore.sign(json.dumps(document).encode(), KEY))
    with pytest.raises(SignatureError, match="root"):
        modelsigning.check(forged, KEY.public)
