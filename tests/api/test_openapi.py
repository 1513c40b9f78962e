"""The OpenAPI document: complete, valid, and kept by the server under generated requests."""

import copy
import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from flask import Flask
from jsonschema import Draft202012Validator
from support.scripted import ScriptedRuntime, words
from support.web import WebClient

from pannier.api.admission import Admission
from pannier.api.app import create_app
from pannier.api.openapi import OPERATIONS, document
from pannier.api.service import Service
from pannier.pkgmgr.settings import Settings
from pannier.pkgmgr.store.store import Store
from pannier.runtime.request import Delta, TokenLogprob

from .test_bad_input import HELLO, RIGHT


def test_the_document_lists_exactly_the_routes_that_exist(app: Flask) -> None:
    routes = {
        (method.lower(), re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
        if method not in ("OPTIONS", "HEAD")
    }
    routes.discard(("get", "/api/blobs/{digest}"))  # it answers HEAD alone
    listed = {(op.method, op.path) for ops in OPERATIONS.values() for op in ops}
    assert listed - {("head", "/api/blobs/{digest}")} == routes


def test_the_document_is_served_to_programs_and_people(client: WebClient) -> None:
    served = client.get("/openapi.json").json
    assert served == document()
    assert served["openapi"] == "3.1.0"
    page = client.get("/docs")
    assert page.content_type.startswith("text/html")
    assert "/v1/chat/completions" in page.text
    assert "<script" not in page.text


def test_every_reference_leads_somewhere() -> None:
    described = document()
    names = set(re.findall(r"#/components/schemas/([^'\"]+)", repr(described)))
    assert names <= set(described["components"]["schemas"])


def check_declared(method: str, path: str, status: int, kind: str, body: bytes) -> None:
    """Hold an answer against what the document says of it."""
    responses = DOCUMENT["paths"][path][method]["responses"]
    if status == 405:  # another method's: the tool tries some
        return
    assert str(status) in responses, (method, path, status, body[:200])
    content = responses[str(status)].get("content", {})
    media_type = kind.partition(";")[0]
    if not body or not content:
        return
    assert media_type in content or (status == 404 and media_type == "text/plain"), media_type
    schema = content.get(media_type, {}).get("schema")
    if schema is None:
        return
    check = Draft202012Validator({**schema, "components": STRICT["components"]})
    for value in values_of(media_type, body):
        check.validate(value)


def values_of(media_type: str, body: bytes) -> list[Any]:
    """The JSON values that a body holds."""
    if media_type == "application/json":
        return [json.loads(body)]
    if media_type == "application/x-ndjson":
        return [json.loads(line) for line in body.splitlines()]
    data = [line[6:] for line in body.splitlines() if line.startswith(b"data: ")]
    return [json.loads(item) for item in data if item != b"[DONE]"]


DOCUMENT = document()
# Events have fields that depend on their type; all else has no field that is not described.
OPEN = ("ResponseEvent", "MessageEvent")


def strict(described: dict[str, Any]) -> dict[str, Any]:
    """The document with replies that may hold nothing else than what is described."""
    described = copy.deepcopy(described)
    for name, schema in described["components"]["schemas"].items():
        if schema.get("type") == "object" and name not in OPEN:
            schema["additionalProperties"] = False
    return described


STRICT = strict(DOCUMENT)
ANSWERS: list[tuple[str, str, dict[str, Any]]] = [
    *(("delete" if path == "/api/delete" else "post", path, body) for path, body in RIGHT.items()),
    ("get", "/api/version", {}),
    ("get", "/api/status", {}),
    ("get", "/api/tags", {}),
    ("get", "/api/ps", {}),
    ("get", "/v1/models", {}),
    ("get", "/openapi.json", {}),
    ("get", "/docs", {}),
    ("get", "/", {}),
    ("post", "/api/chat", {"model": "tiny", "messages": HELLO, "logprobs": True}),
    ("post", "/api/chat", {"model": "tiny", "messages": HELLO, "_debug_render_only": True}),
    ("post", "/api/chat", {"model": "tiny"}),
    ("post", "/api/generate", {"model": "tiny", "prompt": "Hi"}),
    ("post", "/api/generate", {"model": "tiny", "prompt": "Hi", "_debug_render_only": True}),
    ("post", "/api/show", {"model": "team/guide:v1", "verbose": True}),
    ("post", "/api/show", {"model": "nope"}),
    ("post", "/api/create", {"model": "new", "from": "tiny"}),
    ("post", "/api/pull", {"model": "blocked.localhost/none"}),
    ("post", "/v1/chat/completions", {"model": "tiny", "messages": HELLO, "logprobs": True}),
    ("post", "/v1/chat/completions",
     {"model": "tiny", "messages": HELLO, "stream": True,
      "stream_options": {"include_usage": True}}),
    ("post", "/v1/completions", {"model": "tiny", "prompt": "Hi", "stream": True, "logprobs": 1}),
    ("post", "/v1/embeddings", {"model": "tiny", "input": "Hi", "encoding_format": "base64"}),
    ("post", "/v1/responses", {"model": "tiny", "input": "Hi", "stream": True}),
    ("post", "/v1/messages",
     {"model": "tiny", "messages": HELLO, "max_tokens": 5, "stream": True}),
    ("post", "/v1/messages", {"model": "nope", "messages": HELLO, "max_tokens": 5}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body"), ANSWERS)
def test_answers_are_what_the_document_says(
    client: WebClient, runtime: ScriptedRuntime, method: str, path: str, body: dict[str, Any]
) -> None:
    tokens = (TokenLogprob(b"Hi", -0.5, (TokenLogprob(b"Hi", -0.5),)),)
    call = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
    runtime.steps = [Delta("Hi", 1, logprobs=tokens), Delta(call, 5), *words()]
    client.post("/api/generate", json={"model": "tiny"})
    reply = client.open(path, method=method.upper(), json=body or None)
    check_declared(method, path, reply.status_code, reply.content_type, reply.data)


@pytest.fixture(scope="module")
def described(template_home: Path) -> Any:
    """The document as the tool reads it, of an application that every example shares."""
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    settings = Settings.load({"PANNIER_HOME": str(template_home), **proxies})
    service = Service(Store.open(template_home), settings, ScriptedRuntime())
    app = create_app(service, admission=Admission(1 << 30))  # the tool closes no answer
    return schemathesis.openapi.from_wsgi("/openapi.json", app)


# A registry that cannot be reached, and a server that is busy: no faults of this one.
DECLARED = (502, 503)
OPERATION_NAMES = [(op.method, op.path) for ops in OPERATIONS.values() for op in ops]


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
@pytest.mark.parametrize(("method", "path"), OPERATION_NAMES)
def test_generated_requests_never_break_the_server(
    described: Any, method: str, path: str, mode: schemathesis.GenerationMode
) -> None:
    operation = described[path][method]

    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    @hypothesis.settings(
        max_examples=15,
        phases=[hypothesis.Phase.generate],  # the first failure says enough
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    def probe(case: schemathesis.Case[Any]) -> None:
        reply = case.call()
        assert reply.status_code < 500 or reply.status_code in DECLARED
        kind = reply.headers.get("content-type", [""])[0]
        check_declared(method, path, reply.status_code, kind, reply.content)

    with suppress(hypothesis.errors.Unsatisfiable):  # an operation that takes nothing to get wrong
        probe()
