"""The catalogue after changes and restarts: only what is new is read."""

from pathlib import Path

import pytest
from support.web import WebClient

from pannier.api.library import Library
from pannier.api.service import Service
from pannier.pkgmgr import operations
from pannier.pkgmgr.modelfile.build import create
from pannier.pkgmgr.modelfile.syntax import parse
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.store.store import Store


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Digests of the manifests that were read."""
    found: list[str] = []
    original = Library._read_spec

    def read(self: Library, digest: object) -> object:
        found.append(str(digest))
        return original(self, digest)  # type: ignore[arg-type]

    monkeypatch.setattr(Library, "_read_spec", read)
    return found


def add(store: Store, name: str, template_home: Path) -> None:
    text = f"FROM {template_home / 'tiny.gguf'}\nSYSTEM I am {name}.\n"
    create(store, parse(text), Reference.parse(name), base_dir=Path("/"))


def names(client: WebClient) -> list[str]:
    return [model["name"] for model in client.get("/api/tags").json["models"]]


def test_a_new_name_makes_nothing_else_be_read_again(
    client: WebClient, service: Service, template_home: Path, reads: list[str]
) -> None:
    assert names(client) == ["team/guide:v1", "tiny:latest"]
    before = service.library.cards()
    reads.clear()
    add(service.store, "new", template_home)
    assert names(client) == ["new:latest", "team/guide:v1", "tiny:latest"]
    assert len(reads) == 1
    after = service.library.cards()
    assert [any(card is old for old in before) for card in after] == [False, True, True]


def test_a_name_that_moves_and_one_that_goes_are_seen(client: WebClient, service: Service) -> None:
    tags = {model["name"]: model["digest"] for model in client.get("/api/tags").json["models"]}
    guide = service.store.resolve(Reference.parse("team/guide:v1"))
    service.store.tag(guide, Reference.parse("tiny"))
    moved = client.get("/api/tags").json["models"]
    assert moved[0]["name"] == "tiny:latest"
    assert moved[0]["digest"] == tags["team/guide:v1"]
    service.store.untag(Reference.parse("team/guide:v1"))
    assert names(client) == ["tiny:latest"]


def test_the_next_start_reads_no_manifest(service: Service, reads: list[str]) -> None:
    service.library.warm()
    assert len(reads) == 2
    again = Library(Store.open(service.store.root), service.settings)
    assert again.cards() == service.library.cards()
    assert len(reads) == 2


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"\xff", b'{"pannier": "0.1.0", "models": {"x": 1}}',
             b'{"pannier": "0.1.0", "models": [1]}', b'{"pannier": "other", "models": {}}']
)  # fmt: skip
def test_a_damaged_cache_is_not_used(service: Service, text: bytes) -> None:
    (service.store.root / "catalogue.json").write_bytes(text)
    assert len(service.library.cards()) == 2


def test_what_is_no_model_is_left_out_also_after_a_restart(
    service: Service,
) -> None:
    store = service.store
    cards = service.library.cards()
    digest = cards[0].digest
    store.path(digest).write_bytes(b"{}")
    damaged = Library(Store.open(store.root), service.settings)
    assert [card.digest for card in damaged.cards()] == [cards[1].digest]
    damaged.warm()
    again = Library(Store.open(store.root), service.settings)
    assert [card.digest for card in again.cards()] == [cards[1].digest]


def test_the_cache_forgets_what_was_deleted(service: Service) -> None:
    service.library.warm()
    guide = service.library.cards()[0].digest
    operations.remove(service.store, [Reference.parse("team/guide:v1")])
    Library(service.store, service.settings).warm()
    assert str(guide) not in (service.store.root / "catalogue.json").read_text()
