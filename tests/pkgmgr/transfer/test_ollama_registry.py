"""A registry with the ways of Ollama's own: no HEAD of manifests, text/plain, no digest header."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support import peers

from pannier.pkgmgr import operations
from pannier.pkgmgr.errors import ModelNotFound, RegistryError
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.settings import Settings
from pannier.pkgmgr.store.store import Store
from pannier.pkgmgr.transfer import wire

ARTIFACT = peers.ollama()


@dataclass
class Quirky:
    host: str
    agents: list[str] = field(default_factory=list)
    status: int = 200


@pytest.fixture
def registry() -> Iterator[Quirky]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.agents.append(self.headers.get("User-Agent", ""))
            name = self.path.rpartition("/")[2]
            if self.path == "/v2/library/golden/manifests/8b":
                self._reply(state.status, ARTIFACT.manifest if state.status == 200 else b"too old")
            else:
                found = [data for d, data in ARTIFACT.blobs.items() if str(d) == name]
                self._reply(200 if found else 404, found[0] if found else b"404 page not found")

        def do_HEAD(self) -> None:
            is_blob = "/blobs/" in self.path
            self.send_response(200 if is_blob else 405)
            self.end_headers()

        def _reply(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = Quirky(f"127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path, {"HOME": str(tmp_path)})


def test_its_models_are_pulled_byte_for_byte(
    registry: Quirky, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(wire._AGENTS, "127.0.0.1", "ollama/0.33.0 (amd64 linux) pannier")
    store = Store.open(tmp_path / "store")
    reference = Reference.parse(f"{registry.host}/library/golden:8b")
    operations.pull(store, reference, settings=settings)
    found = store.find(reference).descriptor
    assert found.digest == ARTIFACT.descriptor.digest
    assert operations.read_model(store, reference).spec.dialect == "ollama"
    assert {agent.partition("/")[0] for agent in registry.agents} == {"ollama"}


def test_what_it_refuses_is_told(registry: Quirky, settings: Settings, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    absent, new = (Reference.parse(f"{registry.host}/library/{n}:8b") for n in ("none", "golden"))
    with pytest.raises(ModelNotFound):
        operations.pull(store, absent, settings=settings)
    registry.status = 412
    with pytest.raises(RegistryError) as caught:
        operations.pull(store, new, settings=settings)
    assert caught.value.status == 412
    assert store.entries() == ()
