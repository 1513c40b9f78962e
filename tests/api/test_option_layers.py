"""Which of several options counts: the request's, the model's, the setting's, the default."""

from __future__ import annotations

from typing import Any

import pytest
from support.scripted import ScriptedRuntime
from support.web import WebClient

from pannier.pkgmgr.store.store import Store
from pannier.runtime.request import LoadOptions

from .conftest import add

SETTINGS = LoadOptions(num_ctx=4096, cache_type="q8_0", split_mode="row", main_gpu=1)
MODEL = "num_ctx 2048", "split_mode none", "tensor_split 3,1", "mirostat 2"


@pytest.fixture
def runtime() -> ScriptedRuntime:
    return ScriptedRuntime(defaults=SETTINGS)


@pytest.fixture
def client(client: WebClient, store: Store) -> WebClient:
    parameters = "".join(f"PARAMETER {line}\n" for line in MODEL)
    add(store, "tuned", f"FROM tiny\n{parameters}")
    return client


def asked(client: WebClient, runtime: ScriptedRuntime, model: str, **options: Any) -> LoadOptions:
    body = {"model": model, "prompt": "Hi", "stream": False, "options": options}
    assert client.post("/api/generate", json=body).status_code == 200
    return runtime.options[-1] or runtime.defaults


def test_settings_hold_where_nobody_says(client: WebClient, runtime: ScriptedRuntime) -> None:
    assert asked(client, runtime, "tiny") == SETTINGS


def test_a_model_goes_before_the_settings(client: WebClient, runtime: ScriptedRuntime) -> None:
    assert asked(client, runtime, "tuned") == LoadOptions(
        num_ctx=2048, cache_type="q8_0", split_mode="none", tensor_split=(3.0, 1.0), main_gpu=1
    )
    assert runtime.requests[-1].sampling.mirostat == 2


def test_a_request_goes_before_the_model(client: WebClient, runtime: ScriptedRuntime) -> None:
    options = {"num_ctx": 512, "split_mode": "layer", "tensor_split": [1, 1], "mirostat": 0}
    assert asked(client, runtime, "tuned", **options) == LoadOptions(
        num_ctx=512, cache_type="q8_0", split_mode="layer", tensor_split=(1.0, 1.0), main_gpu=1
    )
    assert runtime.requests[-1].sampling.mirostat == 0


def test_a_deterministic_request_is_one_to_the_engine(
    client: WebClient, runtime: ScriptedRuntime
) -> None:
    asked(client, runtime, "tiny", deterministic=True)
    assert runtime.requests[-1].deterministic


def test_an_adapter_that_the_model_has_not_is_refused(client: WebClient) -> None:
    body = {"model": "tiny", "prompt": "Hi", "options": {"lora": [{"id": 0}]}}
    reply = client.post("/api/generate", json=body)
    assert reply.status_code == 400
    assert "names adapter 0; tiny:latest has 0" in reply.json["error"]
