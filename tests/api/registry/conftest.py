from collections.abc import Iterator
from pathlib import Path

import pytest
from support.node import Client, serving

from pannier.pkgmgr.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "node")


@pytest.fixture
def client(store: Store) -> Iterator[Client]:
    with serving(store) as client:
        yield client
