"""The HTTP server by raw sockets and by the standard library's client."""

import http.client
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.http import connect, exchange, read_all, running

from pannier.api import connections
from pannier.api.gateway import ClientGone, FileRange
from pannier.api.server import Server, tls_context

CLOSE = b"Host: x\r\nConnection: close\r\n"


class App:
    """A WSGI application whose answer a test chooses by path."""

    def __init__(self) -> None:
        self.file: Path | None = None
        self.started = threading.Event()
        self.ended: list[str] = []
        self.done = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        return getattr(self, environ["PATH_INFO"].strip("/") or "root")(environ, start)

    def root(self, environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        start("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    def size(self, environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        total = 0
        try:
            while data := environ["wsgi.input"].read(65536):
                total += len(data)
        except ClientGone as error:
            self.ended.append(str(error))
            self.done.set()
            raise
        start("200 OK", [("Content-Type", "text/plain")])
        return [str(total).encode()]

    def sendfile(self, environ: dict[str, Any], start: Callable[..., Any]) -> FileRange:
        assert self.file
        part = environ["wsgi.file_wrapper"](self.file.open("rb"), offset=10, length=5000)
        start("200 OK", [("Content-Length", "5000")])
        return part  # type: ignore[no-any-return]  # an environ holds anything

    def silent(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterator[bytes]:
        start("200 OK", [])
        yield b"first"
        self.started.set()
        tick = threading.Event()
        while not environ["pannier.client_gone"]():
            tick.wait(0.005)
        self.ended.append("gone")
        self.done.set()

    def gated(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterator[bytes]:
        start("200 OK", [])
        yield b"first"
        self.started.set()
        self.go_on.wait(10)
        yield b"last"

    def breaks(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterator[bytes]:
        start("200 OK", [])
        yield b"half"
        raise RuntimeError("on purpose")

    def endless(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterator[bytes]:
        start("200 OK", [])
        try:
            while True:
                yield bytes(1 << 20)
                self.started.set()
        finally:
            self.done.set()


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def server(app: App) -> Iterator[Server]:
    with running(app) as server:
        yield server


def get(server: Server, path: str) -> tuple[int, bytes]:
    client = http.client.HTTPConnection(server.netloc, timeout=20)
    try:
        client.request("GET", path)
        answer = client.getresponse()
        return answer.status, answer.read()
    finally:
        client.close()


def test_two_requests_in_one_packet_get_two_answers(server: Server) -> None:
    answer = exchange(
        server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n" + CLOSE + b"\r\n"
    )
    assert answer.count(b"HTTP/1.1 200 OK") == 2


def test_a_body_of_known_length_reaches_the_application(server: Server) -> None:
    head = b"POST /size HTTP/1.1\r\nContent-Length: 300000\r\n" + CLOSE + b"\r\n"
    assert b"300000" in exchange(server, head + bytes(300000))


def test_a_chunked_body_with_extensions_and_trailers_is_read_whole(server: Server) -> None:
    head = b"POST /size HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: x\r\n\r\n"
    body = b"5;a=b\r\nhello\r\nA\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n"
    answer = exchange(server, head + body + b"GET / HTTP/1.1\r\n" + CLOSE + b"\r\n")
    assert b"15" in answer
    assert answer.endswith(b"ok")


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: x",
        b"Content-Length: 5\r\nContent-Length: 6\r\nHost: x",
        b"Content-Length: -5\r\nHost: x",
        b"Content-Length: +5\r\nHost: x",
        b"Transfer-Encoding: gzip, chunked\r\nHost: x",
        b"Host: x\r\nHost: y",
        b"X-Y : z\r\nHost: x",
        b" folded: x\r\nHost: x",
        b"X-Only: 1",
        b"\r\n".join(b"H%d: 1" % n for n in range(200)) + b"\r\nHost: x",
    ],
)
def test_ambiguous_framing_is_refused(server: Server, headers: bytes) -> None:
    answer = exchange(server, b"POST /size HTTP/1.1\r\n" + headers + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("body", [b"-1\r\nx", b"0x5\r\nhello", b"5\r\nhelloXX0\r\n\r\n", b"\r\n"])
def test_a_malformed_chunk_ends_the_connection(server: Server, body: bytes) -> None:
    head = b"POST /size HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: x\r\n\r\n"
    assert b" 200 " not in exchange(server, head + body)
    assert get(server, "/") == (200, b"ok")


@pytest.mark.parametrize(
    ("line", "header"),
    [(b"GET / HTTP/1.1", b"Connection: Close"), (b"GET / HTTP/1.1", b"Connection: x, CLOSE"),
     (b"GET / HTTP/1.0", b"X: y")],
)  # fmt: skip
def test_a_connection_is_closed_whatever_the_case_of_the_word(
    server: Server, line: bytes, header: bytes
) -> None:
    assert exchange(server, line + b"\r\nHost: x\r\n" + header + b"\r\n\r\n").endswith(b"ok")


def test_a_connection_of_http_1_0_is_kept_where_it_is_asked_for(server: Server) -> None:
    request = b"GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n"
    with connect(server) as client:
        for _ in range(2):
            client.sendall(request)
            read_until(client, b"ok")


def test_headers_beyond_the_limit_are_refused(server: Server) -> None:
    answer = exchange(server, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40000 + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_continue_is_sent_when_the_body_is_read(server: Server) -> None:
    with connect(server) as client:
        head = b"POST /size HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n"
        client.sendall(head + CLOSE + b"\r\n")
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"abc")
        assert b"200 OK" in read_all(client)


def test_no_continue_where_nobody_wants_the_body(server: Server) -> None:
    head = b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 900\r\nHost: x\r\n\r\n"
    answer = exchange(server, head)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"Connection: close" in answer


def test_an_unread_body_does_not_become_the_next_request(server: Server) -> None:
    body = b"GET /evil HTTP/1.1\r\n\r\n"
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    answer = exchange(server, head + body + b"GET / HTTP/1.1\r\n" + CLOSE + b"\r\n")
    assert answer.count(b"HTTP/1.1 200 OK") == 2


def test_a_large_unread_body_closes_the_connection_after_the_answer(server: Server) -> None:
    with connect(server) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
        client.sendall(bytes(300_000))
        answer = read_all(client)
    assert answer.endswith(b"ok")


def test_a_body_cut_short_is_an_error_not_an_end(server: Server, app: App) -> None:
    with connect(server) as client:
        client.sendall(b"POST /size HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
    assert app.done.wait(10)
    assert app.ended == ["the client closed the connection before the end of the body"]


def test_an_application_learns_that_its_client_went_away(server: Server, app: App) -> None:
    with connect(server) as client:
        client.sendall(b"GET /silent HTTP/1.1\r\nHost: x\r\n\r\n")
        assert app.started.wait(10)
    assert app.done.wait(10)


def test_an_answer_that_breaks_is_cut_not_ended(server: Server) -> None:
    with pytest.raises(http.client.IncompleteRead):
        get(server, "/breaks")


@pytest.mark.parametrize("tls", [False, True])
def test_part_of_a_file_is_sent(app: App, tmp_path: Path, tls: bool) -> None:
    app.file = tmp_path / "file"
    content = os.urandom(20000)
    app.file.write_bytes(content)
    context = certificate(tmp_path) if tls else None
    with running(app, tls=context) as server:
        client = http.client.HTTPConnection(server.netloc, timeout=20)
        if tls:
            trust = ssl.create_default_context(cafile=tmp_path / "cert.pem")
            client = http.client.HTTPSConnection(server.netloc, timeout=20, context=trust)
        client.request("GET", "/sendfile")
        assert client.getresponse().read() == content[10:5010]
        client.close()


def certificate(directory: Path) -> ssl.SSLContext:
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(directory / "key.pem"), "-out", str(directory / "cert.pem")]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command = ["openssl", "req", "-x509", "-nodes", "-days", "2", *curve, *subject, *files]
    subprocess.run(command, check=True, capture_output=True)
    return tls_context(directory / "cert.pem", directory / "key.pem")


def test_half_sent_headers_keep_nobody_waiting(server: Server) -> None:
    held = [connect(server) for _ in range(100)]
    for client in held:
        client.sendall(b"GET / HTTP/1.1\r\nHos")
    assert get(server, "/") == (200, b"ok")
    for client in held:
        client.close()


def test_a_header_that_never_ends_is_cut_off(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEADER_TIMEOUT_S", 0.1)
    assert exchange(server, b"GET / HT").startswith(b"HTTP/1.1 408 ")


def test_a_reader_that_stalls_is_let_go(
    server: Server, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "STALL_TIMEOUT_S", 0.2)
    with connect(server) as client:
        client.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        assert app.done.wait(10)


def test_two_hundred_streams_are_open_at_once(server: Server) -> None:
    streams = [connect(server) for _ in range(200)]
    for client in streams:
        client.sendall(b"GET /silent HTTP/1.1\r\nHost: x\r\n\r\n")
    for client in streams:
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
    assert get(server, "/") == (200, b"ok")
    for client in streams:
        client.close()


def test_stopping_lets_a_running_answer_finish(app: App) -> None:
    with running(app) as server:
        client = connect(server)
        client.sendall(b"GET /gated HTTP/1.1\r\nHost: x\r\n\r\n")
        assert app.started.wait(10)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        with suppress(OSError):  # until it takes no connections any more
            while True:
                connect(server).close()
        app.go_on.set()
        assert read_all(client).endswith(b"4\r\nlast\r\n0\r\n\r\n")
        stopping.join()
    client.close()


def test_a_tls_handshake_that_never_comes_keeps_nobody_waiting(app: App, tmp_path: Path) -> None:
    with running(app, tls=certificate(tmp_path)) as server:
        held = [connect(server) for _ in range(20)]
        trust = ssl.create_default_context(cafile=tmp_path / "cert.pem")
        client = http.client.HTTPSConnection(server.netloc, timeout=20, context=trust)
        client.request("GET", "/")
        assert client.getresponse().read() == b"ok"
        client.close()
        for waiting in held:
            waiting.close()


def test_stopping_cuts_streams_that_outlast_the_deadline(app: App) -> None:
    with running(app, drain_s=0.1) as server:
        client = connect(server)
        client.sendall(b"GET /silent HTTP/1.1\r\nHost: x\r\n\r\n")
        assert app.started.wait(10)
    assert app.ended == ["gone"]
    client.close()


def test_stopping_cuts_a_stream_that_never_pauses(app: App) -> None:
    with running(app, drain_s=0.1) as server:
        client = connect(server)
        client.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        reader = threading.Thread(target=drain, args=(client,))
        reader.start()
        assert app.started.wait(10)
    assert app.done.is_set()
    reader.join()
    client.close()


def read_until(client: socket.socket, end: bytes) -> None:
    received = b""
    while end not in received:
        data = client.recv(1000)
        assert data, received
        received += data


def drain(client: socket.socket) -> None:
    with suppress(OSError):
        while client.recv(1 << 20):
            pass


def test_idle_connections_and_many_streams_leave_everybody_served(server: Server) -> None:
    """200 connections that wait between two requests, 64 that are being answered, one more."""
    idle = [connect(server) for _ in range(200)]
    streams = [connect(server) for _ in range(64)]
    for client in idle:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        read_until(client, b"ok")
    for client in streams:
        client.sendall(b"GET /silent HTTP/1.1\r\nHost: x\r\n\r\n")
        read_until(client, b"first")
    assert len(server.requests._threads) < 64 + 32
    assert get(server, "/") == (200, b"ok")
    for client in idle:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        read_until(client, b"ok")
    for client in [*idle, *streams]:
        client.close()


def test_who_finds_no_worker_is_refused_at_once(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pannier.api.server.MAX_UNSERVED", 2)
    with running(app, max_threads=8) as server:
        streams = [connect(server) for _ in range(10)]
        for number, client in enumerate(streams):
            client.sendall(b"GET /silent HTTP/1.1\r\nHost: x\r\n\r\n")
            if number < 8:
                read_until(client, b"first")
        while server.requests.qsize < 2:
            app.done.wait(0.005)
        answer = exchange(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 1\r\n" in answer
        assert b"\r\nX-Request-Id: " in answer
        for client in streams:
            client.close()


@pytest.mark.parametrize("line", [b"GET / HTTP/9.9", b"nonsense", b"GET / HTTP/1.1\r\nbad header"])
def test_refusals_below_the_application_have_an_id_too(server: Server, line: bytes) -> None:
    answer = exchange(server, line + b"\r\nHost: x\r\n\r\n")
    assert b"\r\nX-Request-Id: " in answer
    assert b"\r\nConnection: close\r\n" in answer


def test_chunked_framing_in_http_1_0_is_refused(server: Server) -> None:
    head = b"POST /size HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    assert exchange(server, head).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_a_server_that_waits_for_its_streams(number: signal.Signals) -> None:
    command = [sys.executable, "-c", SERVING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        host, port = program.stdout.readline().strip().removeprefix("http://").split(":")
        try:
            with socket.create_connection((host, int(port)), timeout=20) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                read_until(client, b"first")
                program.send_signal(number)
                with suppress(OSError):  # until it takes no connections any more
                    while True:
                        socket.create_connection((host, int(port)), timeout=20).close()
                program.send_signal(number)
                assert program.wait(20) == 0
            assert program.stdout.read() == "ended\n"
        finally:
            program.kill()


SERVING = """
import threading
from pannier.api.server import Server, serve

def app(environ, start):
    start("200 OK", [])
    yield b"first"
    while not environ["pannier.client_gone"]():
        threading.Event().wait(0.01)

serve(Server(app, "127.0.0.1", 0, drain_s=600), on_ready=lambda url: print(url, flush=True))
print("ended")
"""


def test_a_client_that_speaks_tls_to_a_plain_port_hears_so_at_once() -> None:
    with running(App()) as server:
        hello = b"\x16\x03\x01\x02\x00" + bytes(512)
        assert exchange(server, hello).startswith(b"HTTP/1.1 400 ")
