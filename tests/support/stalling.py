"""A TCP relay that stops passing answers on after so many bytes, and tells when it has."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

_CHUNK = 1 << 16


@dataclass(frozen=True)
class Relay:
    """A relay at `host`; `stalled` is set once the bytes are used up."""

    host: str
    stalled: threading.Event


@contextmanager
def stalling_relay(target: str, *, after: int) -> Iterator[Relay]:
    """Relay connections to `target`; `after` bytes of answers, over all connections, go through."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        state = _State(target, after)
        thread = threading.Thread(target=state.accept, args=(listener,))
        thread.start()
        port = listener.getsockname()[1]
        try:
            yield Relay(f"127.0.0.1:{port}", state.stalled)
        finally:
            state.ending.set()
            # Wakes `accept`; closing a listener does not.
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
            thread.join()
            state.close()


class _State:
    def __init__(self, target: str, after: int) -> None:
        host, _, port = target.partition(":")
        self._target = (host, int(port))
        self._left = after
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.stalled = threading.Event()
        self.ending = threading.Event()

    def accept(self, listener: socket.socket) -> None:
        while True:
            client, _ = listener.accept()
            if self.ending.is_set():
                client.close()
                return
            server = socket.create_connection(self._target)
            self._sockets += [client, server]
            for source, sink, counts in ((client, server, False), (server, client, True)):
                thread = threading.Thread(target=self._pass, args=(source, sink, counts))
                self._threads.append(thread)
                thread.start()

    def _pass(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                if counts and not self._take(len(data)):
                    self.ending.wait()
                    return
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def _take(self, count: int) -> bool:
        with self._lock:
            self._left -= count
        if self._left < 0:
            self.stalled.set()
            return False
        return True

    def close(self) -> None:
        for sock in self._sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for sock in self._sockets:
            sock.close()
