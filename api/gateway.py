"""One HTTP request on a worker thread: its body as a stream, its answer, and the WSGI environ.

Parsing of the request line stays with cheroot. What this module adds is what a server of models
needs and cheroot leaves out: bodies of any size without holding them, ``100 Continue`` only when
somebody reads the body, strict framing (RFC 9112 §6.3), files sent by the kernel, and a way to
notice that the client went away while nothing is sent.

The environ has, beyond PEP 3333: ``pannier.client_gone``, a callable that tells whether the client
has closed its end; and ``wsgi.file_wrapper``, which is `FileRange`.
"""

from __future__ import annotations

import logging
import os
import re
import select
import socket
import ssl
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from cheroot.server import HTTPRequest
from cheroot.wsgi import Gateway_10

from pannier.pkgmgr.errors import InvalidInput

from .connections import Reader, new_request_id

if TYPE_CHECKING:
    from .connections import Connection

log = logging.getLogger(__name__)

MAX_HEADERS = 100
# What is left of a body is read and thrown away up to here, to keep the connection for the next
# request; beyond it the connection is closed. Go's net/http draws the line at the same size.
MAX_DRAIN_BYTES = 256 * 1024
# How long a client that still sends may take to see the answer before its connection is cut.
LINGER_S = 0.5
_COPY_BYTES = 256 * 1024
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")
_GONE = select.POLLRDHUP | select.POLLERR | select.POLLHUP | select.POLLNVAL


class ClientGone(ConnectionError):
    """The client closed its connection in the middle of a request or an answer."""


class MalformedBody(InvalidInput):
    """A request's body is not in the transfer coding that it claims."""


class Body:
    """A request's body as a bounded stream; ends exactly where the body ends.

    Raises `ClientGone` from every reading method where the client stops early, so a short body is
    never taken for a whole one.
    """

    def __init__(self, rfile: Reader, length: int, before: Callable[[], None]) -> None:
        self._rfile = rfile
        self._before: Callable[[], None] | None = before
        self.remaining = length

    def read(self, size: int | None = -1) -> bytes:
        """Everything, or for a positive `size` what has arrived of it; empty at the end.

        Like `io.RawIOBase.read`: filling each read to its full size costs half the throughput.
        """
        if size is not None and size >= 0:
            return self._some(size)
        return b"".join(iter(lambda: self._some(_COPY_BYTES), b""))

    def readline(self, size: int | None = -1) -> bytes:
        """One line, as PEP 3333 asks of an input stream; nothing here reads bodies by line."""
        limit = -1 if size is None else size
        line = bytearray()
        while limit and (byte := self._some(1)):
            line += byte
            limit -= 1
            if byte == b"\n":
                break
        return bytes(line)

    def readlines(self, hint: int = -1) -> list[bytes]:
        """All lines."""
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    @property
    def untouched(self) -> bool:
        """Whether nobody has tried to read yet."""
        return self._before is not None

    def drain(self, limit: int) -> bool:
        """Throw away what is left, if it is at most `limit` bytes; tells whether it was."""
        if self.remaining > limit:
            return False
        while limit > 0 and (data := self._some(min(limit, _COPY_BYTES))):
            limit -= len(data)
        return self._at_end()

    def _at_end(self) -> bool:
        return self.remaining == 0

    def _some(self, size: int) -> bytes:
        if self._before is not None:
            self._before()
            self._before = None
        size = min(size, self.remaining)
        if not size:
            return b""
        data = self._rfile.read_some(size)
        if not data:
            raise ClientGone("the client closed the connection before the end of the body")
        self.remaining -= len(data)
        return data


class ChunkedBody(Body):
    """A body in chunked transfer coding (RFC 9112 §7.1); `remaining` is of the current chunk."""

    def __init__(self, rfile: Reader, before: Callable[[], None]) -> None:
        super().__init__(rfile, 0, before)
        self._ended = False
        self._first = True
        self._is_broken = False

    def drain(self, limit: int) -> bool:
        """See `Body.drain`; behind a malformed chunk there is nothing to be found."""
        return not self._is_broken and super().drain(limit)

    def _at_end(self) -> bool:
        return self._ended

    def _some(self, size: int) -> bytes:
        if self._before is not None:
            self._before()
            self._before = None
        if not self.remaining and not self._ended:
            self._next_chunk()
        return super()._some(size)

    def _next_chunk(self) -> None:
        if not self._first and self._rfile.read(2) != b"\r\n":
            self._refuse("malformed chunked body")
        self._first = False
        match = _CHUNK_SIZE.fullmatch(self._rfile.readline(1024))
        if match is None:
            self._refuse("malformed chunked body")
        self.remaining = int(match[1], 16)
        if not self.remaining:
            self._ended = True
            self._skip_trailers()

    def _skip_trailers(self) -> None:
        for _ in range(MAX_HEADERS):
            if self._rfile.readline(1024) in (b"\r\n", b""):
                return
        self._refuse("too many trailers")

    def _refuse(self, reason: str) -> NoReturn:
        self._is_broken = True
        raise MalformedBody(reason)


class FileRange:
    """Part of an open file as an answer's body; on a plain socket the kernel sends it.

    The iterable that PEP 3333 calls a file wrapper. Closes the file. It begins at `offset`, by
    default at the file's position, and is `length` bytes long, by default to the end.
    """

    def __init__(
        self,
        file: BinaryIO,
        block_size: int = _COPY_BYTES,
        *,
        offset: int | None = None,
        length: int | None = None,
    ) -> None:
        self.file = file
        self.offset = file.tell() if offset is None else offset
        size = os.fstat(file.fileno()).st_size
        self.length = max(0, size - self.offset) if length is None else length
        self._block_size = max(block_size, _COPY_BYTES)

    def __iter__(self) -> Iterator[bytes]:
        self.file.seek(self.offset)
        left = self.length
        while left and (data := self.file.read(min(left, self._block_size))):
            left -= len(data)
            yield data

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class Request(HTTPRequest):
    """cheroot's request with strict headers and a bounded body."""

    conn: Connection
    rfile: Any
    body: Body | None = None
    _expects = False

    def header_reader(self, rfile: Any, headers: dict[bytes, bytes]) -> None:
        """Read the header section (RFC 9112 §5); cheroot calls it and answers ValueError by 400."""
        for _ in range(MAX_HEADERS + 1):
            line = rfile.readline()
            if line == b"\r\n":
                break
            name, colon, value = line.partition(b":")
            if not (colon and line.endswith(b"\r\n") and _TOKEN.fullmatch(name)):
                raise ValueError("Illegal header line.")
            self._add_header(headers, name.title(), value.strip())
        else:
            raise ValueError("Too many headers.")
        self._check_framing(headers)
        self._read_connection(headers)
        self._expects = headers.pop(b"Expect", b"").lower() == b"100-continue"

    def _add_header(self, headers: dict[bytes, bytes], name: bytes, value: bytes) -> None:
        if b"\0" in value or b"\r" in value:
            raise ValueError("Illegal header line.")
        # `X_Y` and `X-Y` are one variable to WSGI, so a client could pass one off as the other.
        if b"_" in name:
            return
        if name in headers:
            if name in (b"Content-Length", b"Host", b"Transfer-Encoding", b"Authorization"):
                raise ValueError(f"Repeated header {name.decode()}.")
            value = headers[name] + (b"; " if name == b"Cookie" else b", ") + value
        headers[name] = value

    def _read_connection(self, headers: dict[bytes, bytes]) -> None:
        """Say what cheroot compares letter by letter; it is a list of tokens (RFC 9110 §7.6.1)."""
        tokens = {item.strip().lower() for item in headers.get(b"Connection", b"").split(b",")}
        if b"close" in tokens:
            headers[b"Connection"] = b"close"
        elif b"keep-alive" in tokens:
            headers[b"Connection"] = b"Keep-Alive"

    def _check_framing(self, headers: dict[bytes, bytes]) -> None:
        length = headers.get(b"Content-Length")
        if length is not None and (not length.isdigit() or len(length) > 18):
            raise ValueError("Malformed Content-Length Header.")
        if b"Transfer-Encoding" in headers:
            if length is not None:
                raise ValueError("Content-Length beside Transfer-Encoding.")
            if headers[b"Transfer-Encoding"].lower() != b"chunked":
                raise ValueError("Unknown Transfer-Encoding.")
            # RFC 9112 §6.1: nobody may frame a message so in HTTP/1.0.
            if self.request_protocol == b"HTTP/1.0":
                raise ValueError("Transfer-Encoding in HTTP/1.0.")
        if self.request_protocol == b"HTTP/1.1" and not headers.get(b"Host"):
            raise ValueError("Missing Host header.")

    def simple_response(self, status: str, msg: str = "") -> None:
        """Answer what never reaches the application; cheroot calls it, and closes afterwards."""
        request_id = new_request_id()
        log.info("request %s: %s: %s", request_id, status, msg)
        body = msg.encode()
        head = (
            f"HTTP/1.1 {status}",
            f"Content-Length: {len(body)}",
            "Content-Type: text/plain",
            f"X-Request-Id: {request_id}",
            "Connection: close",
        )
        self.close_connection = True
        self.conn.wfile.write("\r\n".join((*head, "", "")).encode() + body)
        self._linger()

    def respond(self) -> None:
        """Have the application answer, through the gateway."""
        if self.chunked_read:
            self.body = ChunkedBody(self.conn.rfile, self._continue)
        else:
            length = int(self.inheaders.get(b"Content-Length", 0))
            self.body = Body(self.conn.rfile, length, self._continue)
        self.rfile = self.body
        self.server.gateway(self).respond()
        if self.chunked_write:
            self.conn.wfile.write(b"0\r\n\r\n")
        if not self.body._at_end():
            self._linger()

    def send_headers(self) -> None:
        """Decide about the rest of the body, then send the headers."""
        if self.body is not None and not self.body._at_end():
            unasked = self._expects and self.body.untouched
            if unasked or not self.body.drain(MAX_DRAIN_BYTES):
                self.close_connection = True
        super().send_headers()

    def _continue(self) -> None:
        if self._expects and not self.sent_headers:
            self.conn.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _linger(self) -> None:
        """Let the answer arrive before the close; a reset would throw it away (RFC 9112 §9.6)."""
        sock = self.conn.socket
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(LINGER_S)
        for _ in range(64):
            if not sock.recv(_COPY_BYTES):
                return


class Gateway(Gateway_10):
    """cheroot's WSGI gateway with the additions that the module's docstring names."""

    req: Request

    def get_environ(self) -> dict[str, Any]:  # type: ignore[override]  # cheroot's stub says None
        """The WSGI environ of the request."""
        environ: dict[str, Any] = super().get_environ()  # type: ignore[no-untyped-call]  # cheroot
        environ["pannier.client_gone"] = self._client_gone
        environ["wsgi.file_wrapper"] = FileRange
        # Every body here ends by itself, so the application may read to the end without a length.
        environ["wsgi.input_terminated"] = True
        return environ

    def respond(self) -> None:
        """Call the application and send its answer."""
        response = self.req.server.wsgi_app(self.env, self.start_response)
        try:
            if isinstance(response, FileRange) and self._can_send_file():
                self._send_file(response)
            else:
                for chunk in response:
                    if chunk:
                        self.write(chunk)
            self.req.ensure_headers_sent()
        finally:
            if hasattr(response, "close"):
                response.close()

    def _client_gone(self) -> bool:
        poll = select.poll()
        poll.register(self.req.conn.socket, select.POLLRDHUP)
        return any(event & _GONE for _, event in poll.poll(0))

    def _can_send_file(self) -> bool:
        return (
            not isinstance(self.req.conn.socket, ssl.SSLSocket)
            and self.remaining_bytes_out is not None
            and int(self.req.status[:3]) not in (HTTPStatus.NOT_MODIFIED, HTTPStatus.NO_CONTENT)
        )

    def _send_file(self, part: FileRange) -> None:
        self.req.ensure_headers_sent()
        if not part.length:
            return
        sent = self.req.conn.socket.sendfile(part.file, part.offset, part.length)
        if sent < part.length:
            raise ClientGone("the file is shorter than it was")
