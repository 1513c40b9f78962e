"""NaCl's secretbox (XSalsa20-Poly1305), which cosign wraps its private keys in.

After "Extending the Salsa20 nonce" (Bernstein 2011) and NaCl's `crypto_secretbox`. For the few
hundred bytes of a key file only: Salsa20 is plain Python here and not constant in time.
"""

from __future__ import annotations

import struct

from ..errors import InvalidKey

KEY_SIZE = 32
NONCE_SIZE = 24
_TAG_SIZE = 16
_SIGMA = struct.unpack("<4I", b"expand 32-byte k")
_MASK = 0xFFFFFFFF
# Quarter-round index groups: columns, then rows (Salsa20 specification, sections 3 to 5).
_ROUND = (
    (0, 4, 8, 12),
    (5, 9, 13, 1),
    (10, 14, 2, 6),
    (15, 3, 7, 11),
    (0, 1, 2, 3),
    (5, 6, 7, 4),
    (10, 11, 8, 9),
    (15, 12, 13, 14),
)


def seal(plain: bytes, *, key: bytes, nonce: bytes) -> bytes:
    """Encrypt and authenticate; the result is 16 bytes longer than `plain`."""
    stream = _xsalsa20(key, nonce, 32 + len(plain))
    cipher = _xor(plain, stream[32:])
    return _tag(stream[:32], cipher) + cipher


def unseal(box: bytes, *, key: bytes, nonce: bytes) -> bytes:
    """The bytes that `seal` was given.

    Raises:
        InvalidKey: where the key is another one or the box was changed.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.poly1305 import Poly1305

    tag, cipher = box[:_TAG_SIZE], box[_TAG_SIZE:]
    if len(tag) != _TAG_SIZE or len(key) != KEY_SIZE or len(nonce) != NONCE_SIZE:
        raise InvalidKey("the encrypted private key is malformed")
    stream = _xsalsa20(key, nonce, 32 + len(cipher))
    try:
        Poly1305.verify_tag(stream[:32], cipher, tag)
    except InvalidSignature as error:
        raise InvalidKey("wrong passphrase for the private key, or a damaged key file") from error
    return _xor(cipher, stream[32:])


def _tag(key: bytes, cipher: bytes) -> bytes:
    from cryptography.hazmat.primitives.poly1305 import Poly1305

    return Poly1305.generate_tag(key, cipher)


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def _xsalsa20(key: bytes, nonce: bytes, size: int) -> bytes:
    """`size` bytes of key stream."""
    state = _rounds(_words(key, nonce[:16]))
    subkey = struct.pack("<8I", *(state[i] for i in (0, 5, 10, 15, 6, 7, 8, 9)))
    out = bytearray()
    for counter in range(-(-size // 64)):
        words = _words(subkey, nonce[16:] + struct.pack("<Q", counter))
        mixed = _rounds(words)
        out += struct.pack("<16I", *((a + b) & _MASK for a, b in zip(words, mixed, strict=True)))
    return bytes(out[:size])


def _words(key: bytes, middle: bytes) -> list[int]:
    k, m = struct.unpack("<8I", key), struct.unpack("<4I", middle)
    return [_SIGMA[0], *k[:4], _SIGMA[1], *m, _SIGMA[2], *k[4:], _SIGMA[3]]


def _rounds(words: list[int]) -> list[int]:
    x = list(words)
    for _ in range(10):
        for a, b, c, d in _ROUND:
            x[b] ^= _rotated(x[a] + x[d], 7)
            x[c] ^= _rotated(x[b] + x[a], 9)
            x[d] ^= _rotated(x[c] + x[b], 13)
            x[a] ^= _rotated(x[d] + x[c], 18)
    return x


def _rotated(value: int, bits: int) -> int:
    value &= _MASK
    return (value << bits | value >> (32 - bits)) & _MASK
