"""Ranges, resumption, and several processes at one blob."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.artifacts import Artifact, make_artifact
from support.falseregistry import Handler, Server, scripted
from support.killing import TESTS
from support.transfers import Log, pull

from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import DigestMismatch, NetworkError, NoSpace
from pannier.pkgmgr.store.store import Store
from pannier.pkgmgr.transfer import download
from pannier.pkgmgr.transfer.events import Advanced, Retried, Started

SIZE = 40_000_000
DATA = os.urandom(SIZE)
BIG = make_artifact(DATA, b"small")


def name(server: Server) -> str:
    return f"{server.host}/team/demo:1"


def holds(store: Store, artifact: Artifact) -> bool:
    return all(store.path(item.digest).read_bytes() == data for item, data in artifact.blobs)


def unfinished(store: Store) -> list[str]:
    return sorted(path.suffix for path in (store.root / "ingest").iterdir())


def blob_requests(server: Server) -> list[str]:
    digest = str(BIG.blobs[1][0].digest)
    return [item.headers.get("range", "") for item in server.script.requests("GET", digest)]


class Budget:
    """A hook that serves so many bytes of the big blob, and breaks off every request then."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.spent = threading.Event()

    def __call__(self, handler: Handler) -> bool:
        if "Range" not in handler.headers:
            return False
        start, stop = handler.begin_range(SIZE)
        size = min(stop - start, self.left)
        self.left -= size
        handler.send(DATA[start : start + size])
        if self.left == 0:
            self.spent.set()
            return handler.reset()
        return True


def test_a_large_blob_comes_by_ranges(store: Store) -> None:
    with scripted(BIG) as server:
        pull(name(server), store)
    assert holds(store, BIG)
    assert unfinished(store) == []
    assert len(blob_requests(server)) > 1
    assert server.script.sent < SIZE + 10_000


def test_a_registry_without_ranges_sends_the_blob_once(store: Store) -> None:
    with scripted(BIG) as server:
        server.script.ranges = False
        pull(name(server), store)
    assert holds(store, BIG)
    assert len(blob_requests(server)) == 1
    assert server.script.sent < SIZE + 10_000


def test_slow_connections_get_company(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_TICK_S", 0.05)
    busy = threading.Semaphore(0)
    together = []

    def slow(handler: Handler) -> bool:
        if "Range" in handler.headers:
            with handler.script.lock:
                together.append(threading.active_count())
            busy.acquire(timeout=0.3)
        return False

    with scripted(BIG, hook=slow) as server:
        pull(name(server), store)
    assert holds(store, BIG)


def test_a_broken_connection_goes_on_where_it_broke(store: Store) -> None:
    breaks = iter([0.3, 0.6, 0.0])

    def cut(handler: Handler) -> bool:
        part = next(breaks, None) if "Range" in handler.headers else None
        if part is None:
            return False
        start, stop = handler.begin_range(SIZE)
        handler.send(DATA[start : start + int((stop - start) * part)])
        return handler.reset()

    log = Log()
    with scripted(BIG, hook=cut) as server:
        pull(name(server), store, on_event=log)
    assert holds(store, BIG)
    assert server.script.sent < SIZE + (8 << 20)
    assert log.of(Retried)


def test_a_pull_goes_on_where_an_earlier_one_stopped(store: Store) -> None:
    with scripted(BIG, hook=Budget(SIZE // 2)) as server:
        with pytest.raises(NetworkError):
            pull(name(server), store)
        assert unfinished(store) == [".journal", ".partial"]
        server.script.hook, before = None, server.script.sent
        log = Log()
        pull(name(server), store, on_event=log)
    assert holds(store, BIG)
    started = [event for event in log.of(Started) if isinstance(event, Started) and event.resumed]
    (resumed,) = (event.resumed for event in started)
    assert server.script.sent - before <= SIZE - resumed + 10_000
    moved = sum(event.count for event in log.of(Advanced) if isinstance(event, Advanced))
    assert moved + resumed >= SIZE


def interrupted(server: Server, store: Store) -> Path:
    """Leave the first two segments in the store's ingest folder."""
    server.script.hook = Budget(SIZE * 7 // 10)
    with pytest.raises(NetworkError):
        pull(name(server), store)
    server.script.hook = None
    return next((store.root / "ingest").glob("*.partial"))


@pytest.mark.parametrize("damage", ["flip", "zero", "shorter"])
def test_only_the_damaged_part_of_a_partial_is_fetched_again(store: Store, damage: str) -> None:
    with scripted(BIG) as server:
        path = interrupted(server, store)
        done = sum(len(data) for data in (path.read_bytes(),) if data)
        with path.open("r+b") as file:
            if damage == "shorter":
                file.truncate(5_000_000)
            else:
                file.seek(1_000_000)
                file.write(b"\xff" * 10 if damage == "flip" else bytes(300_000))
        before = server.script.sent
        log = Log()
        pull(name(server), store, on_event=log)
    assert done == SIZE
    assert holds(store, BIG)
    if damage != "shorter":
        assert server.script.sent - before < SIZE // 2


@pytest.mark.parametrize(
    "text", [b"", b"garbage\n1 2 3\n", b"pannier-journal 1 40000000\n0 9 1\n\xff"]
)
def test_a_damaged_journal_costs_bytes_but_no_correctness(store: Store, text: bytes) -> None:
    with scripted(BIG) as server:
        path = interrupted(server, store)
        path.with_suffix(".journal").write_bytes(text)
        pull(name(server), store)
    assert holds(store, BIG)


def test_wrong_bytes_are_dropped_and_fetched_once_more(store: Store) -> None:
    wrong = bytearray(DATA)
    wrong[SIZE // 2] ^= 1
    with scripted(BIG) as server:
        digest = str(BIG.blobs[1][0].digest)
        server.script.blobs[digest] = bytes(wrong)
        with pytest.raises(DigestMismatch):
            pull(name(server), store)
        assert not store.path(Digest.parse(digest)).exists()
        assert unfinished(store) == []
        assert server.script.sent < 2 * SIZE + 20_000
        server.script.blobs[digest] = DATA
        pull(name(server), store)
    assert holds(store, BIG)


def test_a_disk_without_room_is_noticed_before_the_first_byte(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = os.statvfs(store.root)
    full = os.statvfs_result([*status[:4], 100, *status[5:]])
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    with scripted(BIG) as server, pytest.raises(NoSpace, match="bytes needed"):
        pull(name(server), store)
    assert server.script.sent < 10_000


PULL = """
import sys, pathlib
from support.transfers import pull
from pannier.pkgmgr.store.store import Store
pull(sys.argv[1], Store.open(pathlib.Path(sys.argv[2])))
"""


def start_pull(server: Server, store: Store) -> subprocess.Popen[bytes]:
    head = f"import sys; sys.path.insert(0, {str(TESTS)!r})\n"
    command = [sys.executable, "-c", head + PULL, name(server), str(store.root)]
    return subprocess.Popen(command)


def test_two_processes_share_one_download(store: Store) -> None:
    with scripted(BIG) as server:
        children = [start_pull(server, store) for _ in range(3)]
        assert [child.wait(60) for child in children] == [0, 0, 0]
    assert holds(store, BIG)
    assert server.script.sent < SIZE + 100_000


def test_the_next_process_takes_over_from_a_killed_one(store: Store) -> None:
    budget = Budget(SIZE // 2)
    with scripted(BIG, hook=budget) as server:
        first = start_pull(server, store)
        assert budget.spent.wait(30)
        second = start_pull(server, store)
        first.send_signal(signal.SIGKILL)
        first.wait(10)
        server.script.hook = None
        assert second.wait(60) == 0
    assert holds(store, BIG)


KILLER = """
import json, os, pathlib, random, signal, sys, time
from support.transfers import pull
from pannier.pkgmgr.store.store import Store
name, root, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
chance, store = random.Random(seed), Store.open(pathlib.Path(root))
kills, ended = 0, False
while not ended:
    child = os.fork()
    if child == 0:
        pull(name, store)
        os._exit(0)
    time.sleep(chance.uniform(0, 0.05 * 1.15**kills))
    os.kill(child, signal.SIGKILL)
    ended = os.waitpid(child, 0)[1] == 0
    kills += not ended
print(kills)
"""


@pytest.mark.slow
def test_two_hundred_kills_at_random_times_waste_little(tmp_path: Path) -> None:
    """What is fetched over all runs: the blob once, and for each kill at most 8 MiB."""
    head = f"import sys; sys.path.insert(0, {str(TESTS)!r})\n"
    kills, seed = 0, 0
    with scripted(BIG) as server:
        while kills < 200:
            seed, before = seed + 1, server.script.sent
            store = Store.open(tmp_path / str(seed))
            command = [sys.executable, "-c", head + KILLER, name(server), str(store.root)]
            done = subprocess.run([*command, str(seed)], check=True, capture_output=True)
            killed = int(done.stdout)
            assert holds(store, BIG)
            assert ".partial" not in unfinished(store)
            assert server.script.sent - before <= SIZE + 10_000 + killed * (8 << 20)
            kills += killed
            shutil.rmtree(store.root)
