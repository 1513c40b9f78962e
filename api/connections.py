"""Open connections: buffered sockets, and the thread that waits for requests on all of them.

A connection costs a worker thread only while a request is being answered. Until the last byte of
a request's headers has arrived, one thread holds all connections in a selector, so a client that
sends half a header (or half a TLS handshake) keeps nobody waiting. The server itself is
`pannier.api.server`; parsing stays with cheroot.
"""

from __future__ import annotations

import errno
import logging
import secrets
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from cheroot.server import HTTPConnection

if TYPE_CHECKING:
    from .server import Server

log = logging.getLogger(__name__)

# Whole header section, request line included. Ollama clients send about 300 bytes, browsers 4 KiB.
MAX_HEADER_BYTES = 32 * 1024
# From the first byte of a request (or from connecting) to the end of its headers.
HEADER_TIMEOUT_S = 10.0
# Between two requests of one connection; longer than the 60 s that common proxies keep one.
IDLE_TIMEOUT_S = 75.0
# Without a byte of progress, while a body is read or an answer written.
STALL_TIMEOUT_S = 30.0
# Waiting connections beyond this push out the one that would time out first.
MAX_WAITING = 2048
_RECV_BYTES = 64 * 1024
# Nothing larger is copied into one send, so that a stalled reader holds little memory.
_SEND_BYTES = 1024 * 1024


def new_request_id() -> str:
    """What names one request in its answer and in the log."""
    return secrets.token_hex(8)


class Reader:
    """The receiving half of a socket with the bytes that came too early. For one thread at a time.

    Has the methods that cheroot calls on a connection's `rfile`.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()
        self.closed = False
        self.bytes_read = 0

    def has_data(self) -> bool:
        """Whether bytes have arrived that nobody has read yet."""
        return bool(self._buffer)

    def receive(self) -> bool:
        """Take what is there without waiting; False where the peer has closed."""
        while len(self._buffer) <= MAX_HEADER_BYTES:
            try:
                data = self._sock.recv(_RECV_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return True
            if not data:
                return False
            self._buffer += data
            if self.has_headers():
                return True
        return True

    def has_headers(self) -> bool:
        """Whether a whole header section, or one that is too long or malformed, has arrived."""
        return (
            b"\r\n\r\n" in self._buffer
            or b"\n\n" in self._buffer
            or len(self._buffer) > MAX_HEADER_BYTES
        )

    def is_tls(self) -> bool:
        """Whether the client speaks TLS to us: a handshake record (RFC 8446 §5.1) is no request."""
        return self._buffer.startswith(b"\x16\x03")

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes, fewer only where the peer has closed."""
        while len(self._buffer) < size:
            data = self._sock.recv(max(_RECV_BYTES, min(size - len(self._buffer), _SEND_BYTES)))
            if not data:
                size = len(self._buffer)
                break
            self._buffer += data
        return self._take(size)

    def read_some(self, size: int) -> bytes:
        """At most `size` bytes, at least one; empty where the peer has closed."""
        if not self._buffer:
            data = self._sock.recv(size)
            self.bytes_read += len(data)
            return data
        return self._take(min(size, len(self._buffer)))

    def readline(self, size: int) -> bytes:
        r"""Up to and with the next ``\n``, at most `size` bytes."""
        while True:
            end = self._buffer.find(b"\n", 0, size)
            if end >= 0 or len(self._buffer) >= size:
                return self._take(end + 1 if end >= 0 else size)
            data = self._sock.recv(_RECV_BYTES)
            if not data:
                return self._take(len(self._buffer))
            self._buffer += data

    def close(self) -> None:
        """Forget what was not read; the socket is the connection's to close."""
        self.closed = True
        self._buffer.clear()

    def _take(self, size: int) -> bytes:
        data = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        self.bytes_read += size
        return data


class Writer:
    """The sending half of a socket, unbuffered: a reader that stalls gets `TimeoutError`."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.bytes_written = 0

    def write(self, data: bytes) -> int:
        """Send everything; raises OSError where the peer is gone or does not read."""
        view = memoryview(data)
        while view:
            sent = self._sock.send(view[:_SEND_BYTES])
            self.bytes_written += sent
            view = view[sent:]
        return len(data)


def make_file(sock: socket.socket, mode: str, size: int) -> Reader | Writer:
    """What cheroot asks for its two halves of a connection."""
    return Reader(sock) if "r" in mode else Writer(sock)


class Connection(HTTPConnection):
    """One connection, and when its patience ends."""

    deadline = 0.0
    handshaking = False

    def __init__(self, server: Server, sock: socket.socket) -> None:
        super().__init__(server, sock, make_file)
        self.peer_closed = False

    def advance(self) -> bool:
        """Go on as far as possible without waiting; True once a worker has something to do."""
        if self.handshaking:
            try:
                self.socket.do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return False
            self.handshaking = False
        quiet = not self.rfile.has_data()
        self.peer_closed = not self.rfile.receive()
        if quiet and self.rfile.has_data():
            self.deadline = time.monotonic() + HEADER_TIMEOUT_S
        return bool(self.rfile.has_headers())

    def say(self, status: str, *headers: str) -> None:
        """Answer without a body where no worker will, and before the connection is closed."""
        lines = (f"HTTP/1.1 {status}", *headers, f"X-Request-Id: {new_request_id()}")
        head = "\r\n".join((*lines, "Connection: close", "Content-Length: 0", "", ""))
        try:
            self.socket.send(head.encode())
        except OSError as error:
            log.debug("connection from %s: %s", self.remote_addr, error)


class ConnectionManager:
    """Accepts connections and waits for requests on all that are between two of them.

    `put` may be called from any thread; everything else belongs to the thread in `run`, and
    `stop` and `close` to the one that ends the server. The names are cheroot's.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._selector = selectors.DefaultSelector()
        self._selector.register(server.socket, selectors.EVENT_READ, None)
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_out.setblocking(False)
        self._wake_in.setblocking(False)
        self._selector.register(self._wake_out, selectors.EVENT_READ, self._wake_out)
        self._returned: deque[Connection] = deque()
        self._waiting: dict[int, Connection] = {}
        self._stop = False
        self._last_expiry = 0.0
        self._idle = threading.Event()
        self._idle.set()

    @property
    def can_add_keepalive_connection(self) -> bool:
        """Whether an answered connection may stay open."""
        return len(self._waiting) < MAX_WAITING

    def put(self, conn: Connection) -> None:
        """Take a connection back from a worker, to wait for its next request."""
        self._returned.append(conn)
        self._wake()

    def run(self, interval: float) -> None:
        """Serve until `stop`; called by cheroot's main loop."""
        self._idle.clear()
        try:
            while not self._stop:
                self._turn(interval)
        finally:
            self._idle.set()

    def stop(self) -> None:
        """End `run` and wait until it has ended."""
        self._stop = True
        self._wake()
        self._idle.wait()

    def close(self) -> None:
        """Close every waiting connection."""
        for conn in [*self._waiting.values(), *self._returned]:
            conn.close()
        self._waiting.clear()
        self._returned.clear()
        self._selector.close()
        self._wake_in.close()
        self._wake_out.close()

    def _wake(self) -> None:
        try:
            self._wake_in.send(b"\0")
        except OSError as error:  # full: it will wake anyway; closed: nobody waits any more
            log.debug("wake: %s", error)

    def _turn(self, interval: float) -> None:
        for key, _ in self._selector.select(interval):
            if key.data is None:
                self._accept()
            elif key.data is self._wake_out:
                self._wake_out.recv(4096)
            elif key.fd in self._waiting:
                self._advance(key.data)
        while self._returned:
            self._wait_for(self._returned.popleft(), IDLE_TIMEOUT_S)
        self._expire(time.monotonic(), interval)

    def _accept(self) -> None:
        try:
            sock, address = self._server.socket.accept()
        except (TimeoutError, BlockingIOError, ConnectionError, InterruptedError):
            return
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE) and self._waiting:
                self._push_out()
            log.warning("cannot accept a connection: %s", error)
            return
        if len(self._waiting) >= MAX_WAITING:
            self._push_out()
        context = self._server.tls
        if context is not None:
            sock.setblocking(False)
            sock = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        conn = Connection(self._server, sock)
        conn.handshaking = context is not None
        conn.ssl_env = {}
        if isinstance(address, tuple):
            conn.remote_addr, conn.remote_port = address[:2]
        self._wait_for(conn, HEADER_TIMEOUT_S)

    def _wait_for(self, conn: Connection, patience_s: float) -> None:
        conn.socket.setblocking(False)
        conn.deadline = time.monotonic() + patience_s
        self._selector.register(conn.socket, selectors.EVENT_READ, conn)
        self._waiting[conn.socket.fileno()] = conn
        # Bytes of a pipelined request, or of one TLS record, are in no kernel buffer any more.
        self._advance(conn)

    def _advance(self, conn: Connection) -> None:
        try:
            ready = conn.advance()
        except OSError as error:
            log.debug("connection from %s: %s", conn.remote_addr, error)
            self._close(conn)
            return
        if ready:
            self._forget(conn)
            conn.socket.settimeout(STALL_TIMEOUT_S)
            self._server.process_conn(conn)
        elif conn.rfile.is_tls():
            # Clients that try TLS first, as skopeo and docker do, shall not wait for our patience.
            conn.say("400 Bad Request")
            self._close(conn)
        elif conn.peer_closed:
            self._close(conn)

    def _expire(self, now: float, interval: float) -> None:
        if now < self._last_expiry + interval:
            return
        self._last_expiry = now
        for conn in [conn for conn in self._waiting.values() if conn.deadline < now]:
            if conn.rfile.has_data():
                conn.say("408 Request Timeout")
            self._close(conn)

    def _push_out(self) -> None:
        self._close(min(self._waiting.values(), key=lambda conn: conn.deadline))

    def _forget(self, conn: Connection) -> None:
        self._selector.unregister(conn.socket)
        del self._waiting[conn.socket.fileno()]

    def _close(self, conn: Connection) -> None:
        self._forget(conn)
        conn.close()
