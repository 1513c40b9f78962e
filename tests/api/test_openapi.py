"""The OpenAPI document: complete, valid, and kept by the server under generated requests."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from flask import Flask
from support.scripted import ScriptedRuntime
from support.web import WebClient

from pannier.api.admission import Admission
from pannier.api.app import create_app
from pannier.api.openapi import OPERATIONS, document
from pannier.api.service import Service
from pannier.pkgmgr.settings import Settings
from pannier.pkgmgr.store.store import Store


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
        max_examples=8,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    def probe(case: schemathesis.Case[Any]) -> None:
        status = case.call().status_code
        assert status < 500 or status in DECLARED

    with suppress(hypothesis.errors.Unsatisfiable):  # an operation that takes nothing to get wrong
        probe()
