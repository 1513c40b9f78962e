"""Talking to a server by the Ollama REST API: over a socket, or to an application in-process.

Both forms answer the same two methods, so that `pannier run` needs no server and yet goes the
same way through the code as with one. Standard library only.
"""

from __future__ import annotations

import http.client
import io
import json
import ssl
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from http import HTTPStatus
from typing import Any, Protocol

from pannier.pkgmgr.errors import InvalidInput, NetworkError, NotFound, PannierError

from .address import Address

# An answer may take as long as the prompt is long; what is bounded is the wait for a connection.
CONNECT_TIMEOUT_S = 10.0
_MAX_REPLY = 64 << 20

Json = dict[str, Any]


class Client(Protocol):
    """A server of the Ollama REST API."""

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Json:
        """One request with one JSON object as its answer.

        Raises:
            NotFound, InvalidInput, NetworkError, PannierError: by the answer's status.
        """

    def stream(self, path: str, body: Mapping[str, Any]) -> Generator[Json, None, None]:
        """POST, and the lines of the answer as they come. Closing the generator cancels.

        Raises:
            NotFound, InvalidInput, NetworkError, PannierError: as `request`, also in mid-stream.
        """


class HTTPClient:
    """A server at an address."""

    def __init__(self, address: Address) -> None:
        self.address = address.client

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Json:
        """See `Client.request`."""
        with closing(self._connect()) as connection:
            reply = self._send(connection, method, path, body)
            return _object(self._read(reply))

    def stream(self, path: str, body: Mapping[str, Any]) -> Generator[Json, None, None]:
        """See `Client.stream`."""
        with closing(self._connect()) as connection:
            reply = self._send(connection, "POST", path, body)
            try:
                for line in reply:
                    yield _checked(_object(line))
            except (OSError, http.client.HTTPException) as error:
                raise self._failure(error) from error

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self.address.host, self.address.port
        if self.address.scheme == "https":
            return http.client.HTTPSConnection(host, port, context=ssl.create_default_context())
        return http.client.HTTPConnection(host, port)

    def _send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
    ) -> http.client.HTTPResponse:
        payload = None if body is None else json.dumps(body).encode()
        try:
            connection.timeout = CONNECT_TIMEOUT_S
            connection.connect()
            connection.sock.settimeout(None)
            headers = {"Content-Type": "application/json"} if payload else {}
            connection.request(method, self.address.path + path, payload, headers)
            reply = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise self._failure(error) from error
        if reply.status >= HTTPStatus.BAD_REQUEST:
            raise error_of(reply.status, self._read(reply))
        return reply

    def _read(self, reply: http.client.HTTPResponse) -> bytes:
        try:
            return reply.read(_MAX_REPLY)
        except (OSError, http.client.HTTPException) as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> NetworkError:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return NetworkError(
            f"no answer from the server at {self.address}: {reason}",
            place=str(self.address),
            hint="start it with `pannier serve`, or set PANNIER_HOST to where it is",
        )


class LocalClient:
    """A WSGI application in this process, asked without a socket."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Json:
        """See `Client.request`."""
        environ = _environ(method, path, body)
        status, chunks = self._call(environ)
        try:
            raw = b"".join(chunks)
        finally:
            _close(chunks)
        if status >= HTTPStatus.BAD_REQUEST:
            raise _own_error(environ) or error_of(status, raw)
        return _object(raw)

    def stream(self, path: str, body: Mapping[str, Any]) -> Generator[Json, None, None]:
        """See `Client.stream`."""
        environ = _environ("POST", path, body)
        status, chunks = self._call(environ)
        try:
            if status >= HTTPStatus.BAD_REQUEST:
                raise _own_error(environ) or error_of(status, b"".join(chunks))
            for line in _lines(chunks):
                yield _checked(_object(line))
        finally:
            _close(chunks)

    def _call(self, environ: dict[str, Any]) -> tuple[int, Iterable[bytes]]:
        answered: list[int] = []

        def start_response(
            status: str, headers: list[tuple[str, str]], exc_info: object = None
        ) -> Callable[[bytes], object]:
            answered.append(int(status.split()[0]))
            return lambda data: None

        chunks = self._app(environ, start_response)
        return answered[-1], chunks


def error_of(status: int, raw: bytes) -> PannierError:
    """The error that an answer of the server stands for."""
    try:
        value = json.loads(raw)
        message = str(value["error"]) if isinstance(value, dict) else ""
    except (ValueError, KeyError):
        message = ""
    message = message or f"the server answered {status} {_phrase(status)}"
    if status == HTTPStatus.NOT_FOUND:
        return NotFound(message)
    if status == HTTPStatus.BAD_REQUEST:
        return InvalidInput(message)
    return PannierError(message)


def _checked(value: Json) -> Json:
    if "error" in value:
        raise PannierError(str(value["error"]))
    return value


def _object(raw: bytes) -> Json:
    if not raw.strip():
        return {}
    try:
        value = json.loads(raw)
    except ValueError as error:
        raise PannierError(f"the server's answer is not JSON: {raw[:60]!r}") from error
    if not isinstance(value, dict):
        raise PannierError(f"the server's answer is no JSON object: {raw[:60]!r}")
    return value


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line for line in whole if line)
    if rest:
        yield rest


def _close(chunks: Iterable[bytes]) -> None:
    close = getattr(chunks, "close", None)
    if close is not None:
        close()


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _own_error(environ: Mapping[str, Any]) -> PannierError | None:
    """The error itself, with its hint, where the application left it; none that is for the wire."""
    from .errors import RequestError

    error = environ.get("pannier.error")
    if isinstance(error, RequestError):
        error = error.__cause__
    return error if isinstance(error, PannierError) else None


def _environ(method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
    """What PEP 3333 asks for, as if it came from this machine."""
    payload = b"" if body is None else json.dumps(body).encode()
    return {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(payload)),
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "11434",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "127.0.0.1:11434",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(payload),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
