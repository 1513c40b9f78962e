"""The two clients answer alike: over a socket, and in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from flask import Flask
from support.http import running

from pannier.api.address import parse_address
from pannier.api.client import Client, HTTPClient, LocalClient, error_of
from pannier.pkgmgr.errors import InvalidInput, NetworkError, NotFound, PannierError


@pytest.fixture(params=["socket", "in-process"])
def asker(request: pytest.FixtureRequest, app: Flask) -> Iterator[Client]:
    if request.param == "in-process":
        yield LocalClient(app)
        return
    with running(app) as server:
        yield HTTPClient(parse_address(server.url))


def test_a_request_has_one_object_as_its_answer(asker: Client) -> None:
    assert "version" in asker.request("GET", "/api/version")
    assert asker.request("POST", "/api/show", {"model": "tiny"})["capabilities"]


def test_a_stream_has_lines(asker: Client) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}
    with closing(asker.stream("/api/chat", body)) as chunks:
        *pieces, last = list(chunks)
    assert all("message" in piece for piece in pieces)
    assert last["done"] is True


def test_what_is_not_there_is_not_found(asker: Client) -> None:
    with pytest.raises(NotFound):
        asker.request("POST", "/api/show", {"model": "nothing"})
    with pytest.raises(NotFound):
        next(asker.stream("/api/chat", {"model": "nothing", "messages": []}))


def test_the_application_in_this_process_gives_hints(app: Flask) -> None:
    with pytest.raises(NotFound) as caught:
        LocalClient(app).request("POST", "/api/show", {"model": "tini"})
    assert "did you mean 'tiny:latest'" in str(caught.value.hint)


def test_a_bad_request_is_bad_input(asker: Client) -> None:
    with pytest.raises(InvalidInput):
        asker.request("POST", "/api/generate", {"model": 7})


def test_nobody_there_is_a_network_error_with_a_hint() -> None:
    client = HTTPClient(parse_address("127.0.0.1:1"))
    with pytest.raises(NetworkError) as caught:
        client.request("GET", "/api/version")
    assert "pannier serve" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("status", "raw", "kind", "message"),
    [
        (404, b'{"error": "gone"}', NotFound, "gone"),
        (400, b'{"error": "odd"}', InvalidInput, "odd"),
        (500, b"<html>", PannierError, "the server answered 500 Internal Server Error"),
        (599, b"", PannierError, "the server answered 599 "),
    ],
)
def test_statuses_become_errors(
    status: int, raw: bytes, kind: type[PannierError], message: str
) -> None:
    error = error_of(status, raw)
    assert type(error) is kind
    assert error.message == message
