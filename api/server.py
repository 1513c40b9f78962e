"""The HTTP server: cheroot with a selector in front of its workers, TLS, and an orderly end.

Why cheroot, and what it was measured against: docs/design.md, "WSGI server". The application is
any WSGI application; `pannier.api.gateway` tells what its environ holds beyond the standard.
"""

from __future__ import annotations

import logging
import resource
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from cheroot.workers.threadpool import ThreadPool
from cheroot.wsgi import Server as CherootServer

from .admission import MAX_REQUESTS
from .connections import MAX_HEADER_BYTES, STALL_TIMEOUT_S, Connection, ConnectionManager
from .gateway import Gateway, Request

log = logging.getLogger(__name__)

# Started at once; more are started as they are needed, up to the most.
MIN_THREADS = 8
# A stream holds a thread for as long as it lasts. 512 idle threads cost about 20 MB.
# Those beyond the requests that wait for models answer everybody else.
SPARE_THREADS = 128
MAX_THREADS = MAX_REQUESTS + SPARE_THREADS
# Requests that find no thread wait, up to here; further ones are refused.
MAX_UNSERVED = 128
# Connections that the kernel accepts for us while the selector is busy.
BACKLOG = 512
# How long `stop` lets running answers finish.
DRAIN_S = 30.0

StartResponse = Callable[..., Any]
Application = Callable[[dict[str, Any], StartResponse], Any]


class _TLS:
    """What cheroot calls an adapter: it only has to be there to make the scheme https."""

    def bind(self, sock: Any) -> Any:
        return sock


class _Workers(ThreadPool):
    """The worker threads; what does not end in time is cut in both directions.

    cheroot closes the receiving half alone, and an answer that never pauses would go on for ever.
    """

    @staticmethod
    def _force_close(conn: Connection | None) -> None:
        if conn is not None:
            _shut(conn)


def _shut(conn: Connection) -> None:
    with suppress(OSError):  # it is closed already
        conn.socket.shutdown(socket.SHUT_RDWR)


class Server(CherootServer):
    """Serves one WSGI application on one address. `start` blocks; `stop` ends it from elsewhere.

    Attributes:
        tls: the context of a TLS server, None for plain HTTP. Loading a new certificate chain
            into it takes effect at the next connection.
    """

    ConnectionClass = Connection
    max_request_header_size = MAX_HEADER_BYTES
    expiration_interval = 0.5
    version = "pannier"
    _connections: Any
    requests: Any

    def __init__(
        self,
        app: Application,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        drain_s: float = DRAIN_S,
        max_threads: int = MAX_THREADS,
    ) -> None:
        super().__init__(
            (host, port),
            app,
            numthreads=MIN_THREADS,
            max=max_threads,
            server_name="pannier",
            request_queue_size=BACKLOG,
            timeout=int(STALL_TIMEOUT_S),
        )
        self.shutdown_timeout: float = drain_s
        self.gateway = Gateway
        self.requests = _Workers(self, min=MIN_THREADS, max=max_threads)
        self._draining: tuple[Any, ...] = ()
        self.tls = tls
        self.ssl_adapter = _TLS() if tls is not None else None

    @property
    def url(self) -> str:
        """Where clients find the server, once `prepare` has bound it."""
        return f"http{'s' if self.tls else ''}://{self.netloc}"

    @property
    def netloc(self) -> str:
        """The address as URLs write it."""
        host, port = self.bind_addr
        return f"{f'[{host}]' if ':' in host else host}:{port}"

    def prepare(self) -> None:
        """Bind, listen and start the first workers.

        Raises:
            OSError: where the address is taken or not ours.
        """
        super().prepare()
        self._connections.close()
        self._connections = ConnectionManager(self)

    def process_conn(self, conn: Connection) -> None:
        """Hand a connection with a request on it to a worker; starts one more where all work."""
        if self.requests.idle <= self.requests.qsize:
            self._add_worker()
        if self.requests.qsize >= MAX_UNSERVED:
            conn.say("503 Service Unavailable", "Retry-After: 1")
            conn.close()
            return
        super().process_conn(conn)

    def stop(self) -> None:
        """Take no more connections; running answers may finish within the deadline, or `cut`."""
        self._draining = tuple(self.requests._threads)
        super().stop()

    def cut(self) -> None:
        """End the answers that `stop` waits for. May be called from a signal handler."""
        for worker in self._draining:
            if worker.conn is not None:
                _shut(worker.conn)

    def _add_worker(self) -> None:
        pool = self.requests
        if len(pool._threads) < pool.max:
            pool._threads.append(pool._spawn_worker())

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        """Log what cheroot would print to stderr; a client that goes away is no event."""
        if isinstance(sys.exception(), OSError):
            log.debug("%s: %s", msg, sys.exception())
        else:
            log.log(level, "%s", msg, exc_info=traceback)


Connection.RequestHandlerClass = Request


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """A server's TLS context (1.2 and later) from two PEM files.

    Raises:
        OSError: where a file cannot be read, or is no certificate or key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    return context


def serve(server: Server, *, on_ready: Callable[[str], None] = lambda url: None) -> None:
    """Run a server in the main thread until SIGINT or SIGTERM; running answers may finish.

    A second signal ends them at once.

    Raises:
        OSError: where the address cannot be bound.
    """
    _raise_file_limit()
    stopping = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if stopping.is_set():
            server.cut()
        stopping.set()

    server.prepare()
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    thread = threading.Thread(target=server.serve, name="pannier-serve")
    thread.start()
    try:
        on_ready(server.url)
        stopping.wait()
    finally:
        stopping.set()
        server.stop()
        thread.join()
        for number, handler in before.items():
            signal.signal(number, handler)


def _raise_file_limit() -> None:
    """Let every connection have its descriptor; 1024 is the usual soft limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard) if soft < hard else (soft, hard))
