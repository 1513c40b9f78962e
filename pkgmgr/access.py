"""Who may use a node's registry: keys.json, with Ollama's public keys and keys of our own.

The registry asks for keys as soon as the file exists. A key of ours is ``pnr_<id>_<secret>``; the
file holds only its SHA-256, which is enough for 256 random bits. Ollama's are the OpenSSH ed25519
keys that every Ollama installation signs its token requests with (``~/.ollama/id_ed25519.pub``).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import struct
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import strictjson
from .errors import CorruptStore, InvalidOption, NotFound
from .store.files import replace_file
from .store.lock import flocked

FILE_NAME = "keys.json"
PREFIX = "pnr_"
PULL = "models:pull"
PUSH = "models:push"
_MAX_FILE = 4 << 20
_MAX_PUBLIC_FILE = 16 << 10
_SSH_TYPE = b"ssh-ed25519"


@dataclass(frozen=True, slots=True)
class Key:
    """Somebody who may pull, or pull and push.

    Attributes:
        id: short, not secret.
        kind: `ollama` for a public key of Ollama's, `secret` for a key of ours.
        proof: Ollama's public key, base64 of 32 bytes; or the hex SHA-256 of our key.
    """

    id: str
    name: str
    kind: str
    proof: str
    scopes: tuple[str, ...]


class Keyring:
    """The key file of one PANNIER_HOME. Thread-safe; changes of the file are seen at once."""

    def __init__(self, home: Path) -> None:
        self.path = home / FILE_NAME
        self._seen: tuple[object, dict[str, Key]] = (None, {})

    @property
    def is_required(self) -> bool:
        """Whether the registry asks for keys."""
        return self.path.exists()

    def keys(self) -> Mapping[str, Key]:
        """Every key by its id.

        Raises:
            CorruptStore: where the file is damaged; nobody is let in then.
        """
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return {}
        mark = (status.st_ino, status.st_mtime_ns, status.st_size)
        if self._seen[0] != mark:
            self._seen = mark, _parse(self.path)
        return self._seen[1]

    def by_secret(self, text: str) -> Key | None:
        """The key that a secret belongs to; the comparison takes the same time for all."""
        proof = hashlib.sha256(text.encode()).hexdigest()
        key = self.keys().get(text.removeprefix(PREFIX).partition("_")[0])
        known = key.proof if key is not None and key.kind == "secret" else "0" * 64
        return key if hmac.compare_digest(proof, known) else None

    def by_public(self, public: str) -> Key | None:
        """The key of an Ollama installation."""
        key = self.keys().get(_id_of(public))
        return key if key is not None and key.kind == "ollama" and key.proof == public else None

    def add_ollama(self, line: str, *, name: str | None, scopes: tuple[str, ...]) -> Key:
        """Allow an Ollama installation by its OpenSSH public key.

        Raises:
            InvalidOption: where the text is no ed25519 public key.
        """
        public, comment = _read_public(line)
        key = Key(_id_of(public), name or comment or "ollama", "ollama", public, scopes)
        self._change(lambda keys: keys | {key.id: key})
        return key

    def add_secret(self, *, name: str, scopes: tuple[str, ...]) -> tuple[Key, str]:
        """Make a key of our own; the text is told this once."""
        key_id = secrets.token_hex(4)
        text = f"{PREFIX}{key_id}_{secrets.token_urlsafe(32)}"
        proof = hashlib.sha256(text.encode()).hexdigest()
        key = Key(key_id, name, "secret", proof, scopes)
        self._change(lambda keys: keys | {key.id: key})
        return key, text

    def remove(self, key_id: str) -> Key:
        """Forget a key. The file stays, so the registry stays closed.

        Raises:
            NotFound: where there is none of that id.
        """
        key = self.keys().get(key_id)
        if key is None:
            raise NotFound(f"no key {key_id!r}", hint="pannier key list")
        self._change(lambda keys: {item: keys[item] for item in keys if item != key_id})
        return key

    def _change(self, change: Callable[[dict[str, Key]], dict[str, Key]]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with flocked(self.path.with_name(".keys.lock")):
            keys = change(dict(self.keys()))
            value = {"version": 1, "keys": [asdict(key) for key in keys.values()]}
            replace_file(self.path, json.dumps(value, indent=1).encode(), mode=0o600)


def decode_public(blob: bytes) -> bytes | None:
    """The 32 bytes of an ed25519 key from its SSH wire form (RFC 8709 §4); None for others."""
    expected = struct.pack(">I", len(_SSH_TYPE)) + _SSH_TYPE + struct.pack(">I", 32)
    return blob[len(expected) :] if blob[:-32] == expected and len(blob) > 32 else None


def _read_public(line: str) -> tuple[str, str]:
    """Base64 of the key and the comment of an id_ed25519.pub."""
    kind, _, rest = line.strip().partition(" ")
    encoded, _, comment = rest.strip().partition(" ")
    try:
        public = decode_public(base64.b64decode(encoded, validate=True))
    except binascii.Error:
        public = None
    if kind != _SSH_TYPE.decode() or public is None or len(line) > _MAX_PUBLIC_FILE:
        raise InvalidOption(
            "not an ed25519 public key in OpenSSH's form",
            hint="Ollama keeps its own in ~/.ollama/id_ed25519.pub",
        )
    return base64.b64encode(public).decode(), comment.strip()


def _id_of(public: str) -> str:
    return hashlib.sha256(public.encode()).hexdigest()[:8]


def _parse(path: Path) -> dict[str, Key]:
    try:
        value = strictjson.loads(path.read_bytes(), max_size=_MAX_FILE)
        if value.keys() != {"version", "keys"} or value["version"] != 1:
            raise ValueError("unknown version or members")
        keys = [_key(item) for item in value["keys"]]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorruptStore(path, f"no list of keys ({error})") from error
    return {key.id: key for key in keys}


def _key(item: Any) -> Key:
    texts = ("id", "name", "kind", "proof")
    if set(item) != {*texts, "scopes"} or not all(isinstance(item[name], str) for name in texts):
        raise ValueError("a key has unknown or missing members")
    if not set(item["scopes"]) <= {PULL, PUSH}:
        raise ValueError("a key has an unknown scope")
    return Key(**item | {"scopes": tuple(item["scopes"])})
