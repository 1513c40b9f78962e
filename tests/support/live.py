"""A real server: engine, SmolLM2 and HTTP, for clients that nobody here wrote."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pannier.api.app import create_app
from pannier.api.server import Server
from pannier.api.service import Service
from pannier.pkgmgr.modelfile.build import create
from pannier.pkgmgr.modelfile.syntax import parse
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.settings import Settings
from pannier.pkgmgr.store.store import Store
from pannier.runtime.supervisor import Supervisor

from .http import running
from .models import smollm2


@dataclass(frozen=True)
class Live:
    """A running server with a model called `smollm2`, and the parts it is made of."""

    server: Server
    service: Service
    runtime: Supervisor

    @property
    def url(self) -> str:
        return self.server.url


@contextmanager
def live_server(home: Path) -> Iterator[Live]:
    """Serve SmolLM2 from a fresh store while the block runs."""
    store = Store.open(home)
    settings = Settings.load({"PANNIER_HOME": str(home)})
    modelfile = parse(f"FROM {smollm2()}\nPARAMETER num_ctx 2048\nPARAMETER temperature 0\n")
    create(store, modelfile, Reference.parse("smollm2"), base_dir=home)
    with Supervisor() as runtime:
        service = Service(store, settings, runtime)
        with running(create_app(service)) as server:
            yield Live(server, service, runtime)
