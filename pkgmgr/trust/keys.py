"""Signing keys: ECDSA on P-256 over SHA-256, the one choice that every OCI verifier reads.

Private keys are read as PKCS#8 or SEC 1 PEM, or in cosign's encrypted form: PEM around JSON with
scrypt (RFC 7914) and NaCl's secretbox around PKCS#8 (cosign, pkg/cosign/keys.go). They are written
in cosign's form, and never without a passphrase unless an empty one is asked for.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from .. import strictjson
from ..errors import InvalidKey, SignatureError
from . import secretbox

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

MAX_KEY_FILE = 64 << 10
# cosign 2 writes "SIGSTORE", cosign 1 wrote "COSIGN".
_LABELS = ("ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY")
# What cosign uses today; files say their own. The memory is 128 × N × r bytes = 64 MiB.
_SCRYPT = {"N": 65536, "r": 8, "p": 1}
_MAX_SCRYPT_MEMORY = 512 << 20
_MAX_SCRYPT_PARALLEL = 4

Passphrase = Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key as its PKIX DER bytes. Two keys are equal where their bytes are."""

    der: bytes

    @classmethod
    def from_pem(cls, pem: bytes, *, name: str = "public key") -> Self:
        """Read a PEM `PUBLIC KEY`.

        Raises:
            InvalidKey: for anything else, and for any curve but P-256.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization as form

        try:
            key = form.load_pem_public_key(pem[:MAX_KEY_FILE])
        except (ValueError, UnsupportedAlgorithm) as error:
            raise InvalidKey(f"{name} is not a PEM public key") from error
        _require_p256(key, name)
        der = key.public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo)
        return cls(der)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the key, lower-case hex: how people and locks name it."""
        return hashlib.sha256(self.der).hexdigest()

    @property
    def hint(self) -> str:
        """What a sigstore bundle's `publicKey.hint` holds (sigstore, cosign ≥ 3)."""
        return base64.b64encode(hashlib.sha256(self.der).digest()).decode("ascii")

    @property
    def pem(self) -> bytes:
        """The key as PEM."""
        body = base64.encodebytes(self.der).replace(b"\n", b"")
        lines = [body[i : i + 64] for i in range(0, len(body), 64)]
        return b"\n".join((b"-----BEGIN PUBLIC KEY-----", *lines, b"-----END PUBLIC KEY-----", b""))

    def verify(self, signature: bytes, message: bytes) -> None:
        """Check an ASN.1 DER signature.

        Raises:
            SignatureError: where it is not this key's over exactly these bytes.
        """
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives import serialization as form
        from cryptography.hazmat.primitives.asymmetric import ec

        key = form.load_der_public_key(self.der)
        assert isinstance(key, ec.EllipticCurvePublicKey)
        try:
            key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature as error:
            raise SignatureError(f"signature is not by key {self.fingerprint[:12]}") from error


class SigningKey:
    """A private key in memory. It is never printed and never leaves but encrypted."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    @classmethod
    def generate(cls) -> Self:
        """A new key."""
        from cryptography.hazmat.primitives.asymmetric import ec

        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_pem(cls, pem: bytes, passphrase: Passphrase, *, name: str = "private key") -> Self:
        """Read a private key; `passphrase` is called only where the file is encrypted.

        Raises:
            InvalidKey: for a malformed file, a wrong passphrase, or any curve but P-256.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization as form

        if len(pem) > MAX_KEY_FILE:
            raise InvalidKey(f"{name} is too long for a key file")
        boxed = _cosign_body(pem)
        try:
            if boxed is not None:
                key = form.load_der_private_key(_open_cosign(boxed, passphrase()), None)
            else:
                secret = passphrase() if b"ENCRYPTED" in pem else None
                key = form.load_pem_private_key(pem, secret)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise InvalidKey(f"{name}: not a private key, or a wrong passphrase") from error
        _require_p256(key, name)
        return cls(key)  # type: ignore[arg-type]  # _require_p256 has looked

    @property
    def public(self) -> PublicKey:
        """The public half."""
        from cryptography.hazmat.primitives import serialization as form

        public = self._key.public_key()
        return PublicKey(
            public.public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo)
        )

    def sign(self, message: bytes) -> bytes:
        """An ASN.1 DER signature over SHA-256 of the message."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        return self._key.sign(message, ec.ECDSA(hashes.SHA256()))

    def to_pem(self, passphrase: bytes, *, random: Callable[[int], bytes]) -> bytes:
        """The key in cosign's encrypted form.

        Args:
            passphrase: may be empty, as cosign allows; the file is then as good as open.
            random: gives that many unpredictable bytes (`os.urandom`).
        """
        from cryptography.hazmat.primitives import serialization as form

        plain = self._key.private_bytes(
            form.Encoding.DER, form.PrivateFormat.PKCS8, form.NoEncryption()
        )
        salt, nonce = random(32), random(secretbox.NONCE_SIZE)
        box = secretbox.seal(plain, key=_scrypt(passphrase, salt, **_SCRYPT), nonce=nonce)
        document = {
            "kdf": {"name": "scrypt", "params": _SCRYPT, "salt": _b64(salt)},
            "cipher": {"name": "nacl/secretbox", "nonce": _b64(nonce)},
            "ciphertext": _b64(box),
        }
        body = _b64(json.dumps(document, separators=(",", ":")).encode("ascii"))
        lines = [body[i : i + 64] for i in range(0, len(body), 64)]
        label = _LABELS[0]
        text = "\n".join((f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""))
        return text.encode("ascii")


def _cosign_body(pem: bytes) -> bytes | None:
    for label in _LABELS:
        head, tail = f"-----BEGIN {label}-----", f"-----END {label}-----"
        start, end = pem.find(head.encode("ascii")), pem.find(tail.encode("ascii"))
        if 0 <= start < end:
            return pem[start + len(head) : end]
    return None


def _open_cosign(body: bytes, passphrase: bytes) -> bytes:
    try:
        raw = base64.b64decode(b"".join(body.split()), validate=True)
        document = strictjson.loads(raw, max_size=MAX_KEY_FILE)
        kdf, cipher = document["kdf"], document["cipher"]
        if (kdf["name"], cipher["name"]) != ("scrypt", "nacl/secretbox"):
            raise InvalidKey(f"cannot open a key sealed with {str(kdf['name'])[:20]}")
        salt, nonce, box = (
            base64.b64decode(text, validate=True)
            for text in (kdf["salt"], cipher["nonce"], document["ciphertext"])
        )
        numbers = {name: kdf["params"][name] for name in ("N", "r", "p")}
    except (ValueError, TypeError, KeyError, binascii.Error) as error:
        raise InvalidKey("the encrypted private key is malformed") from error
    return secretbox.unseal(box, key=_scrypt(passphrase, salt, **numbers), nonce=nonce)


def _scrypt(passphrase: bytes, salt: bytes, *, N: Any, r: Any, p: Any) -> bytes:  # noqa: N803
    whole = all(isinstance(item, int) and item > 0 for item in (N, r, p))
    if not whole or 128 * N * r > _MAX_SCRYPT_MEMORY or p > _MAX_SCRYPT_PARALLEL or N & (N - 1):
        raise InvalidKey("the key file asks for scrypt parameters out of bounds")
    try:
        return hashlib.scrypt(
            passphrase, salt=salt, n=N, r=r, p=p, maxmem=128 * N * r + (4 << 20), dklen=32
        )
    except ValueError as error:
        raise InvalidKey("the key file asks for scrypt parameters out of bounds") from error


def _require_p256(key: object, name: str) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec

    kinds = (ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey)
    if not isinstance(key, kinds) or not isinstance(key.curve, ec.SECP256R1):
        raise InvalidKey(f"{name} is not an ECDSA key on the curve P-256")


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
