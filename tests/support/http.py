"""A pannier server on a free loopback port, and raw sockets to talk to it."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pannier.api.server import MAX_THREADS, Application, Server


@contextmanager
def running(
    app: Application,
    *,
    tls: ssl.SSLContext | None = None,
    drain_s: float = 10.0,
    max_threads: int = MAX_THREADS,
) -> Iterator[Server]:
    """Serve an application from a thread while the block runs."""
    server = Server(app, "127.0.0.1", 0, tls=tls, drain_s=drain_s, max_threads=max_threads)
    server.prepare()
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join()


def connect(server: Server) -> socket.socket:
    """A client's socket; whoever asks for it closes it."""
    return socket.create_connection(server.bind_addr, timeout=20)


def exchange(server: Server, request: bytes) -> bytes:
    """Send raw bytes, return all that comes back until the server closes."""
    with connect(server) as client:
        client.sendall(request)
        return read_all(client)


def read_all(client: socket.socket) -> bytes:
    """Everything until the other side closes."""
    parts = []
    while data := client.recv(65536):
        parts.append(data)
    return b"".join(parts)
