"""The built-in registry on a real server, and a client that sees statuses and headers."""

import hashlib
import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import flask
from support.http import running
from support.registry import PASSWORD, USER

from pannier.api.registry.options import Options
from pannier.api.registry.routes import blueprint_of
from pannier.api.registry.surface import Surface
from pannier.api.registry.upstream import parse_upstream
from pannier.pkgmgr import mediatypes
from pannier.pkgmgr.settings import RegistrySettings, Settings
from pannier.pkgmgr.store.store import Store


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def header(self, name: str) -> str:
        value = self.headers.get(name)
        assert value is not None, f"no {name} in {self.status} {dict(self.headers)}"
        return value

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json["errors"][0]["code"])


class Client:
    """Requests to one registry, as they are written in the specification."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.headers: dict[str, str] = {}
        self.seen: list[str] = []

    @property
    def netloc(self) -> str:
        return f"{self.address[0]}:{self.address[1]}"

    def ask(
        self,
        method: str,
        url: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        chunked: bool = False,
    ) -> Reply:
        url = url.removeprefix(f"http://{self.netloc}")
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        try:
            sent = self.headers | dict(headers or {})
            connection.request(method, url, body, sent, encode_chunked=chunked)
            answer = connection.getresponse()
            return Reply(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def push_blob(self, name: str, data: bytes) -> str:
        digest = digest_of(data)
        begun = self.ask("POST", f"/v2/{name}/blobs/uploads/")
        assert begun.status == 202
        done = self.ask("PUT", f"{begun.header('Location')}?digest={digest}", data)
        assert done.status == 201, done.body
        return digest

    def push_manifest(self, name: str, reference: str, value: dict[str, Any]) -> str:
        raw = json.dumps(value).encode()
        reply = self.put_manifest(name, reference, raw, value["mediaType"])
        assert reply.status == 201, reply.body
        return reply.header("Docker-Content-Digest")

    def put_manifest(self, name: str, reference: str, raw: bytes, media_type: str) -> Reply:
        url = f"/v2/{name}/manifests/{reference}"
        return self.ask("PUT", url, raw, {"Content-Type": media_type})

    def image(self, name: str, *layers: bytes, **members: Any) -> dict[str, Any]:
        """Push config and layers; returns a manifest of them that is not yet pushed."""
        described = [self._describe(name, layer, "application/x-layer") for layer in layers]
        return {
            "schemaVersion": 2,
            "mediaType": mediatypes.OCI_MANIFEST,
            "config": self._describe(name, b"{}", mediatypes.OCI_EMPTY),
            "layers": described,
        } | members

    def _describe(self, name: str, data: bytes, media_type: str) -> dict[str, Any]:
        digest = self.push_blob(name, data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}


@contextmanager
def serving(
    store: Store, options: Options | None = None, *, refused_type: str | None = None
) -> Iterator[Client]:
    """A node that is a registry and nothing else; it answers 415 to manifests of `refused_type`.

    The client's `seen` has every request that came, with its range.
    """
    app = flask.Flask("registry")
    seen: list[str] = []

    @app.before_request
    def note() -> flask.Response | None:
        seen.append(f"{flask.request.method} {flask.request.path} {flask.request.range}")
        is_refused = flask.request.method == "PUT" and flask.request.mimetype == refused_type
        return flask.Response(status=415) if is_refused and refused_type else None

    with closing(Surface(store, options or Options())) as surface:
        app.register_blueprint(blueprint_of(surface))
        with running(app) as server:
            host, port = server.bind_addr
            client = Client((host, port))
            client.seen = seen
            yield client


@contextmanager
def bridging(
    tmp_path: Path,
    upstream: str,
    *,
    cache_size: int | None = None,
    home: str = "edge",
    login: bool = False,
    flags: RegistrySettings | None = None,
    registries: Mapping[str, RegistrySettings] = MappingProxyType({}),
    max_store_size: int | None = None,
) -> Iterator[tuple[Client, Store]]:
    """A node in front of `upstream`, with a store of its own below `tmp_path`."""
    folder = tmp_path / home
    store = Store.open(folder)
    environ = {"HOME": str(folder)}
    if login:
        config = {"auths": {upstream.partition("/")[0]: {"username": USER, "password": PASSWORD}}}
        (folder / ".docker").mkdir()
        (folder / ".docker" / "config.json").write_text(json.dumps(config))
    settings = Settings(folder, environ, flags=flags or RegistrySettings(), registries=registries)
    options = Options(
        home=parse_upstream(upstream),
        upstream=settings,
        cache_size=cache_size,
        max_store_size=max_store_size,
    )
    with serving(store, options) as client:
        yield client, store
