"""A registry that does as a test tells it: right by default, wrong where a hook says so.

An in-process HTTP/1.1 server over a dictionary of blobs. A test gives `Script` hooks, each called
with the handler before the normal answer; a hook that returns True has answered itself. Everything
that was received is recorded, so that a test can look for secrets.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from support.artifacts import Artifact

from pannier.pkgmgr import mediatypes

Hook = Callable[["Handler"], bool]


@dataclass
class Seen:
    """One request as it came in."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class Script:
    """What the registry holds, and how it misbehaves. `hook` sees every request first."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    hook: Hook | None = None
    ranges: bool = True
    seen: list[Seen] = field(default_factory=list)
    sent: int = 0
    numbers: Iterator[int] = field(default_factory=itertools.count)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, artifact: Artifact, *tags: str) -> None:
        """Hold an artifact under tags."""
        for descriptor, data in artifact.blobs:
            self.blobs[str(descriptor.digest)] = data
        digest = str(artifact.descriptor.digest)
        self.manifests[digest] = artifact.descriptor.media_type, artifact.raw
        self.tags.update(dict.fromkeys(tags, digest))

    def requests(self, method: str, part: str = "") -> list[Seen]:
        """The requests with this method whose path holds `part`."""
        return [item for item in self.seen if item.method == method and part in item.path]


class Handler(BaseHTTPRequestHandler):
    """One request. Hooks use `answer`, `wfile` and the rest of BaseHTTPRequestHandler."""

    protocol_version = "HTTP/1.1"
    # Header and body are two writes; without this the second waits 40 ms for an acknowledgement.
    disable_nagle_algorithm = True
    server: Server

    @property
    def script(self) -> Script:
        return self.server.script

    @property
    def origin(self) -> str:
        return self.server.origin

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> bool:
        """A whole answer with a Content-Length."""
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.send(body)
        return True

    def send(self, data: bytes) -> None:
        """Body bytes, counted."""
        for start in range(0, len(data), 65536):
            piece = data[start : start + 65536]
            self.wfile.write(piece)
            with self.script.lock:
                self.script.sent += len(piece)

    def raw(self, data: bytes) -> bool:
        """Bytes as they are, and the end of the connection."""
        self.wfile.write(data)
        self.close_connection = True
        return True

    def begin_range(self, total: int) -> tuple[int, int]:
        """The head of an answer to the range that is asked for; gives its bounds."""
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        start, stop = int(first), int(last) + 1
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{total}")
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        return start, stop

    def reset(self) -> bool:
        """End the connection with a RST."""
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()
        self.close_connection = True
        return True

    def body(self) -> bytes:
        """What the client sends."""
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def handle(self) -> None:
        try:
            super().handle()
        except (OSError, ValueError):
            self.close_connection = True

    def finish(self) -> None:
        try:
            super().finish()
        except (OSError, ValueError):
            return

    def dispatch(self) -> None:
        headers = {key.lower(): value for key, value in self.headers.items()}
        with self.script.lock:
            self.script.seen.append(Seen(self.command, self.path, headers))
        if self.script.hook is not None and self.script.hook(self):
            return
        path = urlsplit(self.path).path
        for pattern, name in _ROUTES:
            if match := re.fullmatch(pattern, path):
                getattr(self, name)(*match.groups())
                return
        self.answer(404, b"404 page not found")

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = dispatch  # noqa: N815

    def base(self) -> None:
        self.answer(200, b"{}")

    def tags(self, name: str) -> None:
        self.answer(200, json.dumps({"name": name, "tags": sorted(self.script.tags)}).encode())

    def catalog(self) -> None:
        self.answer(200, json.dumps({"repositories": ["team/demo"]}).encode())

    def manifest(self, name: str, reference: str) -> None:
        if self.command == "PUT":
            self.put_manifest(reference)
            return
        digest = self.script.tags.get(reference, reference)
        if digest not in self.script.manifests:
            self.answer(404, error_body("MANIFEST_UNKNOWN"))
            return
        media_type, raw = self.script.manifests[digest]
        self.answer(200, raw, {"Content-Type": media_type, "Docker-Content-Digest": digest})

    def put_manifest(self, reference: str) -> None:
        raw = self.body()
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        self.script.manifests[digest] = self.headers.get("Content-Type", ""), raw
        if not reference.startswith("sha256:"):
            self.script.tags[reference] = digest
        self.answer(201, b"", {"Docker-Content-Digest": digest, "Location": self.path})

    def blob(self, name: str, digest: str) -> None:
        data = self.script.blobs.get(digest)
        if data is None:
            self.answer(404, error_body("BLOB_UNKNOWN"))
            return
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match and self.script.ranges:
            start, stop = int(match[1]), min(int(match[2] or len(data)) + 1, len(data))
            said = {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}
            self.answer(206, data[start:stop], said)
        else:
            self.answer(200, data, {"Docker-Content-Digest": digest})

    def start_upload(self, name: str) -> None:
        self.body()
        session = f"u{next(self.script.numbers)}"
        self.script.uploads[session] = bytearray()
        location = f"/v2/{name}/blobs/uploads/{session}?_state=a%2Fb&empty="
        self.answer(202, b"", {"Location": location, "Range": "0-0"})

    def upload(self, name: str, session: str) -> None:
        data, held = self.body(), self.script.uploads.get(session)
        if held is None:
            self.answer(404, error_body("BLOB_UPLOAD_UNKNOWN"))
            return
        held += data
        location = f"/v2/{name}/blobs/uploads/{session}?_state=a%2Fb&empty="
        said = {"Location": location, "Range": f"0-{max(len(held) - 1, 0)}"}
        if self.command == "GET":
            self.answer(204, b"", said)
        elif self.command == "PATCH":
            self.answer(202, b"", said)
        elif self.command == "PUT":
            self.end_upload(session, bytes(held))
        else:
            del self.script.uploads[session]
            self.answer(204)

    def end_upload(self, session: str, data: bytes) -> None:
        digest = parse_qs(urlsplit(self.path).query)["digest"][0]
        if digest != f"sha256:{hashlib.sha256(data).hexdigest()}":
            self.answer(400, error_body("DIGEST_INVALID"))
            return
        self.script.blobs[digest] = data
        del self.script.uploads[session]
        self.answer(201, b"", {"Docker-Content-Digest": digest, "Location": "/"})


_NAME = r"([a-z0-9/._-]+)"
_ROUTES = (
    (r"/v2/", "base"),
    (r"/v2/_catalog", "catalog"),
    (rf"/v2/{_NAME}/tags/list", "tags"),
    (rf"/v2/{_NAME}/manifests/([^/]+)", "manifest"),
    (rf"/v2/{_NAME}/blobs/uploads/", "start_upload"),
    (rf"/v2/{_NAME}/blobs/uploads/([^/]+)", "upload"),
    (rf"/v2/{_NAME}/blobs/([^/]+)", "blob"),
)


class Server(ThreadingHTTPServer):
    """The server of one script; its threads end with the connections."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = script
        self.origin = f"{'https' if tls else 'http'}://127.0.0.1:{self.server_port}"
        if tls is not None:
            self.socket = tls.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that break off are what tests are about."""


@contextmanager
def scripted(
    *artifacts: Artifact, hook: Hook | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[Server]:
    """A scripted registry that holds the artifacts, the first one tagged `1`."""
    script = Script(hook=hook)
    for number, artifact in enumerate(artifacts, 1):
        script.add(artifact, str(number))
    with Server(script, tls) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def error_body(code: str, message: str = "as scripted") -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


MANIFEST_TYPE = mediatypes.OCI_MANIFEST
