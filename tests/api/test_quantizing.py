"""`quantize` in /api/create, with the real library in its child process."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.web import WebClient

from pannier.pkgmgr.gguf import read_header
from pannier.pkgmgr.store.store import Store

pytestmark = pytest.mark.engine


def create(client: WebClient, **body: Any) -> list[dict[str, Any]]:
    reply = client.post("/api/create", json=body)
    assert reply.status_code == 200
    return [json.loads(line) for line in reply.text.splitlines()]


@pytest.mark.parametrize("field", ["quantize", "quantization"])
def test_a_model_is_made_smaller_while_it_is_created(
    client: WebClient, store: Store, field: str
) -> None:
    fields: dict[str, Any] = {"model": "small", "from": "team/guide:v1", field: "q8_0"}
    said = create(client, **fields)
    assert said[-1] == {"status": "success"}
    steps = [line for line in said if line["status"] == "quantizing F32 model to Q8_0"]
    assert steps[-1]["completed"] == steps[-1]["total"] > 0
    shown = client.post("/api/show", json={"model": "small"}).json
    assert shown["details"]["quantization_level"] == "Q8_0"
    assert shown["system"] == "You are a llama."
    assert quantizations(store) == {"F32", "Q8_0"}
    assert list((store.root / "ingest").iterdir()) == []


def test_what_is_quantized_already_is_refused(client: WebClient) -> None:
    create(client, model="small", **{"from": "tiny"}, quantize="q8_0")
    body = {"model": "again", "from": "small", "quantize": "q4_0", "stream": False}
    reply = client.post("/api/create", json=body)
    assert reply.status_code == 400
    error = "quantization is only supported for F16, BF16 and F32 models"
    assert reply.json == {"error": error}
    assert create(client, **(body | {"stream": True}))[-1] == {"error": error}
    assert client.post("/api/show", json={"model": "again"}).status_code == 404


def test_weights_of_the_type_stay_as_they_are(client: WebClient, store: Store) -> None:
    said = create(client, model="same", **{"from": "tiny"}, quantize="f32")
    assert not [line for line in said if line["status"].startswith("quantizing")]
    assert quantizations(store) == {"F32"}


def quantizations(store: Store) -> set[str]:
    """The types of all GGUF files in a store."""
    found = set[str]()
    for path in sorted(Path(store.root / "blobs" / "sha256").iterdir()):
        with path.open("rb") as stream:
            if stream.read(4) != b"GGUF":
                continue
            stream.seek(0)
            found.add(read_header(stream, size=path.stat().st_size, name=path.name).quantization)
    return found
