"""What real Ollama does when it pulls and pushes, with the same requests and as little tolerance.

Written after the behaviour of Ollama 0.12's `server/images.go`, `download.go`, `upload.go` and
`auth.go`: names of exactly two components, Docker's type as the only one accepted, a `Location`
demanded of blob answers, ranges fetched from there without credentials and without a look at the
status, absolute upload locations, its own form of Content-Range, an `etag` beside the digest, and
ed25519-signed token requests. Sizes of parts can be smaller than Ollama's 100 MB.
"""

import base64
import hashlib
import http.client
import json
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
USER_AGENT = "ollama/0.12.6 (amd64 linux) Go/go1.24.1"
MAX_PARTS = 16


class OllamaError(Exception):
    """What `ollama` would print."""


class Key:
    """The id_ed25519 of one Ollama installation."""

    def __init__(self) -> None:
        self._private = Ed25519PrivateKey.generate()

    @property
    def public_line(self) -> str:
        """The content of id_ed25519.pub."""
        public = self._private.public_key()
        return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() + "\n"

    def authorization(self, method: str, url: str) -> str:
        empty = base64.b64encode(hashlib.sha256(b"").hexdigest().encode()).decode()
        signature = self._private.sign(f"{method},{url},{empty}".encode())
        return f"{self.public_line.split()[1]}:{base64.b64encode(signature).decode()}"


class Answer:
    """One response; the body is read only by whoever wants it."""

    def __init__(self, connection: http.client.HTTPConnection, url: str) -> None:
        self._connection = connection
        self._response = connection.getresponse()
        self.url = url
        self.status = self._response.status
        self.headers = self._response.headers

    def read(self, size: int | None = None) -> bytes:
        return self._response.read(size)

    def close(self) -> None:
        self._response.close()
        self._connection.close()


class Ollama:
    """One installation: its models directory, its key, and the registry at `netloc`."""

    def __init__(
        self, folder: Path, netloc: str, *, part_size: int = 100_000_000, key: Key | None = None
    ) -> None:
        self.blobs = folder / "blobs"
        self._manifests = folder / "manifests"
        self.blobs.mkdir(parents=True)
        self.netloc = netloc
        self.key = key or Key()
        self.requests: list[str] = []
        self._part_size = part_size
        self._token = ""

    # ollama pull

    def pull(self, name: str) -> bytes:
        """Pull `namespace/model:tag`; returns the manifest as it is stored."""
        repository, tag = _split(name)
        url = f"http://{self.netloc}/v2/{repository}/manifests/{tag}"
        answer = self._authorised("GET", url, {"Accept": DOCKER_MANIFEST})
        raw = answer.read()
        answer.close()
        manifest = json.loads(raw)
        for layer in [*manifest["layers"], manifest["config"]]:
            if layer.get("digest"):
                self._download(repository, layer["digest"])
        for layer in [*manifest["layers"], manifest["config"]]:
            self._verify(layer["digest"])
        path = self.manifest_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
        return raw

    def _download(self, repository: str, digest: str) -> None:
        path = self.blob_path(digest)
        if path.exists():
            return
        url = f"http://{self.netloc}/v2/{repository}/blobs/{digest}"
        head = self._authorised("HEAD", url, {})
        total = int(head.headers.get("Content-Length") or 0)
        head.close()
        direct = self._direct_url(url)
        size = min(max(total // MAX_PARTS, self._part_size), 10 * self._part_size)
        spans = [(at, min(at + size, total)) for at in range(0, total, size)]
        with ThreadPoolExecutor(MAX_PARTS) as pool:
            parts = list(pool.map(lambda span: self._part(direct, *span), spans))
        path.write_bytes(b"".join(parts))

    def _direct_url(self, url: str) -> str:
        """A GET whose body is abandoned; only its Location counts."""
        answer = self._authorised("GET", url, {}, ok=(200, 307))
        location = answer.headers.get("Location")
        answer.close()
        if location is None:
            raise OllamaError("http: no Location header in response")
        return urljoin(url, location)

    def _part(self, url: str, start: int, stop: int) -> bytes:
        """One range: Go's default client, no credentials, no look at the status."""
        headers = {"Range": f"bytes={start}-{stop - 1}", "User-Agent": "Go-http-client/1.1"}
        answer = self._send("GET", url, headers)
        data = answer.read(stop - start)
        answer.close()
        if len(data) != stop - start:
            raise OllamaError("max retries exceeded: EOF")
        return data

    def _verify(self, digest: str) -> None:
        path = self.blob_path(digest)
        actual = "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
        if actual != digest:
            path.unlink()
            raise OllamaError(
                f"digest mismatch, file must be downloaded again: want {digest}, got {actual}"
            )

    # ollama push

    def push(self, name: str, *, destination: str | None = None) -> None:
        """Push a local model."""
        manifest = json.loads(self.manifest_path(name).read_bytes())
        repository, tag = _split(destination or name)
        for layer in [*manifest["layers"], manifest["config"]]:
            self._upload(repository, layer)
        url = f"http://{self.netloc}/v2/{repository}/manifests/{tag}"
        raw = json.dumps(manifest, separators=(",", ":")).encode()
        self._authorised("PUT", url, {"Content-Type": DOCKER_MANIFEST}, raw).close()

    def _upload(self, repository: str, layer: dict[str, Any]) -> None:
        digest = layer["digest"]
        base = f"http://{self.netloc}/v2/{repository}/blobs"
        try:
            self._authorised("HEAD", f"{base}/{digest}", {}).close()
            return
        except FileNotFoundError:
            pass
        query = ""
        if layer.get("from"):
            query = "?" + urlencode({"from": f"library/{layer['from']}", "mount": digest})
        answer = self._authorised("POST", f"{base}/uploads/{query}", {}, b"")
        location = answer.headers.get("Docker-Upload-Location") or answer.headers.get("Location")
        mounted = answer.status == 201
        answer.close()
        if not mounted:
            self._upload_parts(_absolute(location), digest)

    def _upload_parts(self, url: str, digest: str) -> None:
        data = self.blob_path(digest).read_bytes()
        size = min(max(len(data) // MAX_PARTS, self._part_size), 10 * self._part_size)
        sums = []
        for at in range(0, len(data), size):
            part = data[at : at + size]
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Length": str(len(part)),
                "Content-Range": f"{at}-{at + len(part) - 1}",
                "X-Redirect-Uploads": "1",
            }
            answer = self._authorised("PATCH", url, headers, part)
            found = answer.headers.get("Docker-Upload-Location") or answer.headers.get("Location")
            answer.close()
            url = _absolute(found)
            sums.append(hashlib.md5(part).digest())
        etag = f"{hashlib.md5(b''.join(sums)).hexdigest()}-{len(sums)}"
        query = urlencode({"digest": digest, "etag": etag})
        headers = {"Content-Type": "application/octet-stream", "Content-Length": "0"}
        self._authorised("PUT", f"{url}{'&' if '?' in url else '?'}{query}", headers, b"").close()

    # its HTTP

    def _authorised(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        ok: tuple[int, ...] = (),
    ) -> Answer:
        """makeRequestWithRetry: one token flow, 404 is "file does not exist"."""
        for _ in range(2):
            own = {"User-Agent": USER_AGENT, **headers}
            if self._token:
                own["Authorization"] = f"Bearer {self._token}"
            answer = self._send(method, url, own, body)
            if answer.status == 401:
                challenge = answer.headers.get("Www-Authenticate", "")
                answer.close()
                self._token = self._fetch_token(challenge)
            elif answer.status == 404:
                answer.close()
                raise FileNotFoundError("file does not exist")
            elif answer.status >= 400 or (ok and answer.status not in ok):
                text = answer.read().decode()
                answer.close()
                raise OllamaError(f"{answer.status}: {text}")
            else:
                return answer
        raise OllamaError("unauthorized")

    def _fetch_token(self, challenge: str) -> str:
        values = {name: _find(challenge, name) for name in ("realm", "service", "scope")}
        realm = urlsplit(values["realm"])
        if realm.netloc != self.netloc:
            raise OllamaError(f"unexpected realm host {realm.netloc!r}")
        query = [("service", values["service"])]
        query += [("scope", scope) for scope in values["scope"].split(" ")]
        query += [("ts", str(int(time.time()))), ("nonce", _nonce())]
        url = f"{values['realm']}?{urlencode(sorted(query, key=lambda item: item[0]))}"
        answer = self._send("GET", url, {"Authorization": self.key.authorization("GET", url)})
        body = answer.read()
        answer.close()
        if answer.status >= 400:
            raise OllamaError(f"{answer.status}: {body.decode()}")
        return str(json.loads(body)["token"])

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Answer:
        parts = urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        self.requests.append(f"{method} {target}")
        connection = http.client.HTTPConnection(parts.netloc, timeout=30)
        connection.request(method, target, body, dict(headers))
        return Answer(connection, url)

    # its files

    def blob_path(self, digest: str) -> Path:
        return self.blobs / digest.replace(":", "-")

    def manifest_path(self, name: str) -> Path:
        repository, tag = _split(name)
        return self._manifests / self.netloc / repository / tag

    def create(self, name: str, layers: Mapping[str, bytes], config: Mapping[str, Any]) -> None:
        """A local model from layers by the last word of their media types."""
        described = [
            {"mediaType": f"application/vnd.ollama.image.{kind}", **self._keep(data)}
            for kind, data in layers.items()
        ]
        described[0]["from"] = "model.gguf"
        raw = json.dumps(dict(config), separators=(",", ":")).encode()
        value = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                **self._keep(raw),
            },
            "layers": described,
        }
        path = self.manifest_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value, separators=(",", ":")) + "\n")

    def _keep(self, data: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blob_path(digest).write_bytes(data)
        return {"digest": digest, "size": len(data)}


def _split(name: str) -> tuple[str, str]:
    repository, _, tag = name.partition(":")
    assert repository.count("/") == 1, "Ollama knows exactly two components"
    return repository, tag or "latest"


def _absolute(location: str | None) -> str:
    if location is None or urlsplit(location).scheme not in ("http", "https"):
        raise OllamaError('unsupported protocol scheme ""')
    return location


def _find(challenge: str, name: str) -> str:
    """The naive search of auth.go: values must be quoted."""
    start = challenge.index(f'{name}="') + len(name) + 2
    return challenge[start : challenge.index('"', start)]


def _nonce() -> str:
    return base64.urlsafe_b64encode(os.urandom(16)).rstrip(b"=").decode()
