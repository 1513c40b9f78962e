"""What a delta pull transfers of a re-uploaded model, as shares of the blob.

    python tests/bench/delta.py

SmolLM2 with an edited chat template (the goal is below 2 % of the blob), and with the tensors of
two layers changed (at most 1.1 x the changed bytes, and the index). Counted are the bytes that
docker-registry sends on the wire, seen by a counting proxy.
"""

from __future__ import annotations

import socket
import struct
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.artifacts import make_artifact
from support.models import smollm2
from support.registry import docker_registry

from pannier.pkgmgr import operations
from pannier.pkgmgr.bundle import blockindex, blocks
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.settings import Settings
from pannier.pkgmgr.store.store import Store

LAYERS = ("blk.3.", "blk.17.")


class Counter:
    """A TCP proxy on loopback that counts what comes back."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.received = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            for pair, counts in (((client, server), False), ((server, client), True)):
                threading.Thread(target=self._pump, args=(*pair, counts), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                self.received += len(data) if counts else 0
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return


@contextmanager
def counting(target: str) -> Iterator[Counter]:
    counter = Counter(target)
    try:
        yield counter
    finally:
        counter.close()


def with_template(raw: bytes) -> bytes:
    """The same model with another chat template, as a conversion tool writes it."""
    from pannier.pkgmgr.gguf import read_header

    with smollm2().open("rb") as file:
        header = read_header(file, size=len(raw), name="smollm2", arrays=False)
    old = header.text("tokenizer.chat_template") or ""
    new = old + "{# edited #}"
    before = struct.pack("<Q", len(old.encode())) + old.encode()
    after = struct.pack("<Q", len(new.encode())) + new.encode()
    head = raw[: header.data_offset].replace(before, after, 1).rstrip(b"\0")
    end = raw[: header.data_offset].rstrip(b"\0")
    head += b"\0" * (len(end.replace(before, after, 1)) - len(head))
    return head + bytes(-len(head) % header.alignment) + raw[header.data_offset :]


def with_tensors(raw: bytes) -> tuple[bytes, int]:
    """The same model with every tensor of two layers changed, and how many bytes that is."""
    changed, count = bytearray(raw), 0
    for name, begin, end in blockindex.sections_of(smollm2()).bounds():
        if name.startswith(tuple("tensor " + layer for layer in LAYERS)):
            changed[begin:end] = bytes(byte ^ 0x5A for byte in changed[begin:end])
            count += end - begin
    return bytes(changed), count


def transferred(root: Path, old: bytes, new: bytes) -> tuple[int, int]:
    """Bytes on the wire of a pull of `new` where `old` is here, and the size of the index."""
    settings = Settings.load({"PANNIER_HOME": str(root / "home")})
    with docker_registry(root / "registry") as registry, counting(registry.host) as counter:
        origin = Reference.parse(f"{registry.host}/bench/m:1")
        source = Store.open(root / "source")
        make_artifact(b"params", new).push_to(source, str(origin))
        (index,) = blocks.index_model(source, origin)
        operations.push(source, origin, settings=settings)
        target = Store.open(root / "target")
        make_artifact(b"params", old).push_to(target, "bench/old:1")
        name = Reference.parse(f"{counter.host}/bench/m:1")
        operations.pull(target, name, settings=settings)
        assert target.path(index.digest).read_bytes() == new
        return counter.received, len(index.render())


def main() -> None:
    raw = smollm2().read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        new = with_template(raw)
        got, _ = transferred(Path(folder) / "a", raw, new)
        print(f"edited template: {got} bytes, {got / len(new):.3%} of the blob (goal < 2 %)")
        new, count = with_tensors(raw)
        got, index = transferred(Path(folder) / "b", raw, new)
        ratio = (got - index) / count
        print(f"two layers changed: {got} bytes, {ratio:.3f} x the changed {count} (goal <= 1.1)")


if __name__ == "__main__":
    main()
