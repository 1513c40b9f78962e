"""A store with two tiny models, a scripted runtime, and the application over both."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.gguf import tiny_llama
from support.http import running
from support.scripted import ScriptedRuntime
from support.web import WebClient

from pannier.api.app import create_app
from pannier.api.server import Server
from pannier.api.service import Service
from pannier.pkgmgr.modelfile.build import create
from pannier.pkgmgr.modelfile.syntax import parse
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.settings import RegistrySettings, Settings
from pannier.pkgmgr.store.store import Store

MODELFILE = """FROM {path}
SYSTEM You are a llama.
PARAMETER temperature 0.5
PARAMETER stop "<end>"
LICENSE MIT
MESSAGE user What carries?
MESSAGE assistant A llama.
"""


@pytest.fixture(scope="session")
def template_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that tests copy; making it takes longer than a test."""
    home = tmp_path_factory.mktemp("home")
    store = Store.open(home)
    path = tiny_llama(home / "tiny.gguf")
    add(store, "tiny", f"FROM {path}\n")
    add(store, "team/guide:v1", MODELFILE.format(path=path))
    return home


def add(store: Store, name: str, modelfile: str) -> None:
    create(store, parse(modelfile), Reference.parse(name), base_dir=Path("/"))


@pytest.fixture
def store(template_home: Path, tmp_path: Path) -> Store:
    import shutil

    shutil.copytree(template_home, tmp_path / "home")
    return Store.open(tmp_path / "home")


@pytest.fixture
def runtime() -> ScriptedRuntime:
    return ScriptedRuntime()


@pytest.fixture
def service(store: Store, runtime: ScriptedRuntime) -> Service:
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environ = {"PANNIER_HOME": str(store.root), **proxies}  # nobody leaves this machine
    blocked = {"blocked.localhost": RegistrySettings(blocked=True)}
    return Service(store, replace(Settings.load(environ), registries=blocked), runtime)


class ReadingClient(FlaskClient):
    """Reads each answer to its end and closes it, as clients over a socket do."""

    def open(self, *args: Any, **options: Any) -> Any:
        return super().open(*args, **{"buffered": True, **options})


@pytest.fixture
def app(service: Service) -> Flask:
    app = create_app(service)
    app.test_client_class = ReadingClient
    return app


@pytest.fixture
def client(app: Flask) -> WebClient:
    return cast(WebClient, app.test_client())  # FlaskClient says JSON may be None


@pytest.fixture
def server(app: Flask) -> Iterator[Server]:
    with running(app) as server:
        yield server
