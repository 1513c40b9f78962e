"""Wrong input of every kind to every route: the status, the shape, and that the server lives on."""

import gzip
import http.client
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from support.http import connect, read_all
from support.web import WebClient

from pannier.api.encodings import decoded
from pannier.api.errors import RequestError
from pannier.api.openapi import OPERATIONS, Operation
from pannier.api.server import Server
from pannier.api.wire import MAX_BODY_BYTES

HELLO = [{"role": "user", "content": "Hi"}]
# A request of each route that is right, to be made wrong in one place at a time.
RIGHT: dict[str, dict[str, Any]] = {
    "/api/generate": {"model": "tiny", "prompt": "Hi", "stream": False},
    "/api/chat": {"model": "tiny", "messages": HELLO, "stream": False},
    "/api/embed": {"model": "tiny", "input": "Hi"},
    "/api/embeddings": {"model": "tiny", "prompt": "Hi"},
    "/api/show": {"model": "tiny"},
    "/api/create": {"model": "new", "from": "tiny", "stream": False},
    "/api/pull": {"model": "blocked.localhost/none", "stream": False},
    "/api/push": {"model": "nope", "stream": False},
    "/api/copy": {"source": "tiny", "destination": "copy"},
    "/api/delete": {"model": "nope"},
    "/v1/chat/completions": {"model": "tiny", "messages": HELLO},
    "/v1/completions": {"model": "tiny", "prompt": "Hi"},
    "/v1/responses": {"model": "tiny", "input": "Hi"},
    "/v1/embeddings": {"model": "tiny", "input": "Hi"},
    "/v1/rerank": {"model": "tiny", "query": "Hi", "documents": ["Hi"]},
    "/v1/tokenize": {"model": "tiny", "content": "Hi"},
    "/v1/detokenize": {"model": "tiny", "tokens": [72]},
    "/v1/messages": {"model": "tiny", "messages": HELLO, "max_tokens": 5},
    "/v1/messages/count_tokens": {"model": "tiny", "messages": HELLO},
}
WRONG: list[Any] = [
    None, True, 0, -1, 1.5, 1e308, 10**30, -(10**30), 10**400, -(10**400), 5e-324,
    "", "x", "\x00", "é" * 3000, "../../etc/x",
    [], [None], [[]], [1], ["x"], {}, {"x": 1}, {"type": "x"}, [{"role": None}], [{"role": "user"}],
]  # fmt: skip
ROUTES = [
    operation
    for operations in OPERATIONS.values()
    for operation in operations
    if isinstance(operation.body, type)
]
# A registry that nobody runs is no fault of the request.
UNREACHABLE = (502,)


def names(operation: Operation) -> list[str]:
    assert isinstance(operation.body, type)
    return [field.alias or name for name, field in operation.body.model_fields.items()]


def check(path: str, status: int, raw: bytes, content_type: str) -> None:
    """A success, or a refusal in the shape of the path's surface."""
    assert status < 500 or status in UNREACHABLE, raw
    if status < 400:
        return
    assert content_type.startswith("application/json"), raw
    error = json.loads(raw)["error"]
    if path.startswith("/api/"):
        assert isinstance(error, str)
    else:
        assert isinstance(error["message"], str)
        assert isinstance(error["type"], str)
    assert b"Traceback" not in raw
    assert os.fsencode(Path.cwd()) not in raw
    assert b"/tmp/" not in raw


def test_every_route_has_a_right_request() -> None:
    assert {route.path for route in ROUTES} == set(RIGHT)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_a_field_of_any_wrong_type_or_size_is_refused_or_harmless(
    client: WebClient, route: Operation
) -> None:
    for name in names(route):
        for value in WRONG:
            body = {**RIGHT[route.path], name: value}
            reply = client.open(route.path, method=route.method.upper(), json=body)
            check(route.path, reply.status_code, reply.data, reply.content_type or "")
    assert client.get("/").data == b"Ollama is running"


RAW = {
    "empty": b"",
    "blank": b" \n ",
    "half": b'{"model": "tiny", "mess',
    "an array": b"[]",
    "a text": b'"tiny"',
    "not UTF-8": b'{"model": "\xff\xfe"}',
    "half a surrogate": b'{"model": "\\ud800"}',
    "not a number": b'{"model": NaN}',
    "infinity": b'{"options": {"temperature": 1e999}}',
    "deep": b'{"options":' * 50_000,
    "deep and closed": b'{"format":' * 5000 + b"1" + b"}" * 5000,
    "two documents": b"{}{}",
    "a form": b"model=tiny",
    "zero bytes": bytes(1000),
    "beyond all numbers": b'{"model": "tiny", "x": [{"y": -' + b"9" * 400 + b"}]}",
}


@pytest.mark.parametrize("kind", RAW)
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_a_body_that_is_no_request_is_refused(
    client: WebClient, route: Operation, kind: str
) -> None:
    reply = client.open(route.path, method=route.method.upper(), data=RAW[kind])
    check(route.path, reply.status_code, reply.data, reply.content_type or "")
    assert reply.status_code in (400, 404)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_the_content_type_and_unknown_fields_do_not_matter(
    client: WebClient, route: Operation
) -> None:
    body = json.dumps({**RIGHT[route.path], "unheard_of": {"a": [1]}})
    method = route.method.upper()
    plain = client.open(route.path, method=method, data=body, content_type="text/plain")
    usual = client.open(route.path, method=method, json=RIGHT[route.path])
    assert plain.status_code == usual.status_code


CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "GZIP": gzip.compress,
    "identity": bytes,
}


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("path", ["/api/show", "/v1/tokenize", "/v1/messages/count_tokens"])
def test_compressed_bodies_are_read(client: WebClient, path: str, coding: str) -> None:
    data = CODINGS[coding](json.dumps(RIGHT[path]).encode())
    headers = {"Content-Encoding": coding}
    assert client.post(path, data=data, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("coding", "data", "status"),
    [
        ("br", b"{}", 415),
        ("gzip, gzip", gzip.compress(gzip.compress(b"{}")), 415),
        ("gzip", b'{"model": "tiny"}', 400),
        ("gzip", gzip.compress(b'{"model": "tiny"}')[:-9], 400),
        ("gzip", gzip.compress(b"{}") + gzip.compress(b"{}"), 400),
        ("deflate", b"\xff\xff", 400),
        ("zstd", b"{}", 400),
        ("gzip", b"", 400),
    ],
)
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages"])
def test_a_body_compressed_wrongly_is_refused(
    client: WebClient, path: str, coding: str, data: bytes, status: int
) -> None:
    reply = client.post(path, data=data, headers={"Content-Encoding": coding})
    check(path, reply.status_code, reply.data, reply.content_type or "")
    assert reply.status_code == status


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_a_body_that_grows_without_end_is_refused(coding: str) -> None:
    bomb = CODINGS[coding](bytes(1 << 20))
    with pytest.raises(RequestError) as caught:
        decoded(bomb, coding, limit=1 << 16)
    assert caught.value.status == 413


@pytest.mark.parametrize("path", [*RIGHT, f"/api/blobs/sha256:{'0' * 64}"])
def test_a_body_cut_short_leaves_the_server_alive(server: Server, path: str) -> None:
    with connect(server) as client:
        method = "DELETE" if path == "/api/delete" else "POST"
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
        client.sendall(head.encode() + b'{"model": "tiny"')
    connection = http.client.HTTPConnection(server.netloc, timeout=10)
    connection.request("GET", "/", headers={"Host": "localhost"})
    assert connection.getresponse().read() == b"Ollama is running"
    connection.close()


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("chunks", [b"zz\r\n", b"5\r\nhelloXX0\r\n\r\n", b"-1\r\n"])
def test_a_malformed_chunk_is_refused_at_once(server: Server, path: str, chunks: bytes) -> None:
    with connect(server) as client:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.sendall(head.encode() + chunks)  # and the client stays
        reply = read_all(client)
    assert reply.startswith(b"HTTP/1.1 400 ")
    check(path, 400, reply.partition(b"\r\n\r\n")[2], "application/json")


def test_a_body_beyond_the_limit_is_refused_unread(server: Server) -> None:
    with connect(server) as client:
        size = MAX_BODY_BYTES + 1
        head = f"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n"
        client.sendall(head.encode())
        reply = read_all(client)
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert b'{"error":"request body too large"}' in reply
