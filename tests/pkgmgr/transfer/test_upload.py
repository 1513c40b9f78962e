"""Pushes: chunks, sessions, and what registries do to them."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.artifacts import Artifact, describe, make_artifact
from support.falseregistry import Handler, Server, error_body, scripted
from support.hostile import layers_that_were_only_said_to_be_there
from support.killing import TESTS
from support.transfers import Log, open_quick, settings_in

from pannier.pkgmgr.errors import BlobNotFound, NetworkError, RegistryError
from pannier.pkgmgr.settings import RegistrySettings, Settings
from pannier.pkgmgr.store.store import Store
from pannier.pkgmgr.transfer import upload
from pannier.pkgmgr.transfer.copy import copy
from pannier.pkgmgr.transfer.events import Advanced, Noticed, Started

DATA = os.urandom(1_000_000)
BLOB = describe(DATA)


@pytest.fixture
def chunked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(upload, "CHUNK", 300_000)
    monkeypatch.setattr(upload, "_SMALLEST", 10_000)
    return settings_in(tmp_path).with_flags(RegistrySettings(upload="chunked"))


def push(server: Server, settings: Settings) -> None:
    name = f"{server.host}/team/demo:1"
    with open_quick(name, settings.home, settings=settings) as repository:
        repository.push(BLOB, io.BytesIO(DATA))


def ranges(server: Server) -> list[str]:
    return [seen.headers["content-range"] for seen in server.script.requests("PATCH")]


def has(server: Server) -> bool:
    return server.script.blobs.get(str(BLOB.digest)) == DATA


def test_a_small_blob_goes_in_one_put(tmp_path: Path) -> None:
    with scripted() as server:
        push(server, settings_in(tmp_path))
    assert has(server)
    assert [seen.method for seen in server.script.seen] == ["HEAD", "POST", "PUT"]


def test_chunks_follow_each_other(chunked: Settings) -> None:
    with scripted() as server:
        push(server, chunked)
    assert has(server)
    assert ranges(server) == ["0-299999", "300000-599999", "600000-899999", "900000-999999"]


def test_the_query_of_a_location_is_left_as_it_is(chunked: Settings) -> None:
    with scripted() as server:
        push(server, chunked)
    (put,) = server.script.requests("PUT")
    assert put.path.endswith(f"?_state=a%2Fb&empty=&digest={BLOB.digest}")


def test_the_least_chunk_length_is_kept(chunked: Settings) -> None:
    def hook(handler: Handler) -> bool:
        if handler.command != "POST":
            return False
        said = {"Location": "/v2/team/demo/blobs/uploads/u", "OCI-Chunk-Min-Length": "700000"}
        handler.script.uploads["u"] = bytearray()
        return handler.answer(202, b"", said)

    with scripted(hook=hook) as server:
        push(server, chunked)
    assert has(server)
    assert ranges(server) == ["0-699999", "700000-999999"]


def test_a_chunk_that_is_too_large_is_made_smaller(chunked: Settings) -> None:
    def hook(handler: Handler) -> bool:
        length = int(handler.headers.get("Content-Length") or 0)
        if handler.command != "PATCH" or length <= 100_000:
            return False
        handler.body()
        return handler.answer(413, error_body("SIZE_INVALID"))

    with scripted(hook=hook) as server:
        push(server, chunked)
    assert has(server)


def test_after_a_break_the_registry_says_where_to_go_on(chunked: Settings) -> None:
    broken: list[bool] = []

    def hook(handler: Handler) -> bool:
        if handler.command != "PATCH" or "300000-" not in handler.headers["Content-Range"]:
            return False
        if broken:
            return False
        broken.append(True)
        handler.script.uploads["u0"] += handler.rfile.read(1234)
        return handler.reset()

    with scripted(hook=hook) as server:
        push(server, chunked)
    assert has(server)
    assert "301234-601233" in ranges(server)


class Forgetful:
    """A hook that drops the upload so many times when its third chunk comes."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self, handler: Handler) -> bool:
        if self.left and "600000-" in handler.headers.get("Content-Range", ""):
            self.left -= 1
            handler.script.uploads.clear()
        return False


def test_a_session_that_is_lost_begins_again(chunked: Settings) -> None:
    with scripted(hook=Forgetful(1)) as server:
        push(server, chunked)
    assert has(server)
    assert ranges(server).count("0-299999") == 2


def test_a_registry_that_always_forgets_is_given_up(chunked: Settings) -> None:
    with scripted(hook=Forgetful(100)) as server, pytest.raises(RegistryError):
        push(server, chunked)
    assert not has(server)


def test_a_range_not_satisfiable_asks_for_the_truth(chunked: Settings) -> None:
    once = iter([True])

    def hook(handler: Handler) -> bool:
        if "300000-" not in handler.headers.get("Content-Range", "") or not next(once, False):
            return False
        handler.body()
        return handler.answer(416)

    with scripted(hook=hook) as server:
        push(server, chunked)
    assert has(server)


def test_a_registry_that_takes_no_chunks_is_named(chunked: Settings) -> None:
    def hook(handler: Handler) -> bool:
        if handler.command != "PATCH":
            return False
        handler.body()
        return handler.answer(201)

    with scripted(hook=hook) as server, pytest.raises(RegistryError, match="takes no chunks"):
        push(server, chunked)


def test_the_next_push_goes_on_with_the_session_of_the_last(chunked: Settings) -> None:
    down = [False]

    def hook(handler: Handler) -> bool:
        if "600000-" in handler.headers.get("Content-Range", ""):
            down[0] = True
        return down[0] and handler.reset()

    with scripted(hook=hook) as server:
        with pytest.raises(NetworkError):
            push(server, chunked)
        (kept,) = (chunked.home / "uploads").iterdir()
        assert kept.stat().st_mode & 0o077 == 0
        server.script.hook = None
        server.script.seen.clear()
        push(server, chunked)
    assert has(server)
    assert ranges(server) == ["600000-899999", "900000-999999"]
    assert server.script.requests("POST") == []
    assert list((chunked.home / "uploads").iterdir()) == []


def test_a_session_of_another_time_begins_again(chunked: Settings) -> None:
    with scripted() as server:
        from pannier.pkgmgr.transfer.sessions import Session, Sessions

        base = f"{server.origin}/v2/team/demo"
        location = f"{base}/blobs/uploads/forgotten"
        kept = Session(location, 600_000, 300_000)
        Sessions(chunked.home / "uploads").keep(base, BLOB.digest, kept)
        push(server, chunked)
    assert has(server)


PUSH = """
import pathlib
from support.transfers import Log, open_quick, settings_in
from support.artifacts import describe
from pannier.pkgmgr.settings import RegistrySettings
from pannier.pkgmgr.transfer import upload
from pannier.pkgmgr.transfer.copy import copy
from pannier.pkgmgr.transfer.events import Advanced, Noticed, Started
upload.CHUNK = 300_000
host, root, file = sys.argv[1:]
settings = settings_in(pathlib.Path(root)).with_flags(RegistrySettings(upload="chunked"))
data = pathlib.Path(file).read_bytes()
with open_quick(f"{host}/team/demo:1", pathlib.Path(root), settings=settings) as repository:
    with open(file, "rb") as content:
        repository.push(describe(data), content)
"""


def test_a_killed_push_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(DATA)
    head = f"import sys; sys.path.insert(0, {str(TESTS)!r})\n"
    victims: list[subprocess.Popen[bytes]] = []

    def hook(handler: Handler) -> bool:
        if victims and "600000-" in handler.headers.get("Content-Range", ""):
            victims.pop().send_signal(signal.SIGKILL)
            return handler.reset()
        return False

    with scripted(hook=hook) as server:
        arguments = [server.host, str(tmp_path), str(tmp_path / "blob")]
        command = [sys.executable, "-c", head + PUSH, *arguments]
        child = subprocess.Popen(command)
        victims.append(child)
        assert child.wait(30) == -signal.SIGKILL
        server.script.seen.clear()
        subprocess.run(command, check=True)
    assert has(server)
    assert ranges(server)[0].startswith("600000-")


@pytest.mark.parametrize(
    "host",
    ["ghcr.io", "gcr.io", "eu.gcr.io", "us-docker.pkg.dev", "1.dkr.ecr.eu.amazonaws.com"],
)
def test_known_registries_get_one_put(host: str) -> None:
    assert re.fullmatch(upload._MONOLITHIC, host)


def test_a_mount_saves_the_upload(store: Store, tmp_path: Path) -> None:
    artifact = make_artifact(b"layer" * 100)

    def hook(handler: Handler) -> bool:
        return "mount=" in handler.path and handler.answer(201, b"", {"Location": "/"})

    with scripted(artifact, hook=hook) as server:
        settings = replace(settings_in(tmp_path))
        with open_quick(f"{server.host}/other/demo", tmp_path, settings=settings) as repository:
            assert repository.mount(artifact.blobs[1][0], "team/demo")
    assert server.script.requests("PUT") == []


def test_a_mount_that_is_not_given_continues_as_an_upload(tmp_path: Path) -> None:
    with scripted() as server, open_quick(f"{server.host}/other/demo", tmp_path) as repository:
        assert not repository.mount(BLOB, "team/demo")
        repository.push(BLOB, io.BytesIO(DATA))
    assert has(server)
    assert len(server.script.requests("POST")) == 1


def push_model(server: Server, settings: Settings, source: Store, model: Artifact) -> Log:
    log = Log()
    with open_quick(f"{server.host}/team/demo:1", settings.home, settings=settings) as repository:
        copy(source, repository, model.descriptor, on_event=log)
    return log


def test_bytes_that_an_earlier_push_sent_are_told_as_resumed(
    chunked: Settings, store: Store
) -> None:
    model = make_artifact(DATA)
    model.push_to(store, "localhost/team/demo:1")
    with scripted() as server:
        server.script.hook = lambda handler: (
            "600000-" in handler.headers.get("Content-Range", "") and handler.answer(403)
        )
        with pytest.raises(RegistryError):
            push_model(server, chunked, store, model)
        server.script.hook = None
        log = push_model(server, chunked, store, model)
    resumed = [item.resumed for item in log.events if isinstance(item, Started)]
    moved = [
        item.count
        for item in log.events
        if isinstance(item, Advanced) and item.descriptor.digest == BLOB.digest
    ]
    assert has(server)
    assert 600_000 in resumed
    assert sum(moved) == 400_000


class Pretending:
    """A hook that says to have every blob and refuses manifests whose layers it lacks."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.refused = 0

    def __call__(self, handler: Handler) -> bool:
        if handler.command == "HEAD" and "/blobs/" in handler.path:
            return handler.answer(200)
        if handler.command != "PUT" or "/manifests/" not in handler.path or handler.script.blobs:
            return False
        self.refused += 1
        handler.body()
        return handler.answer(404, error_body(self.code))


@pytest.mark.parametrize("code", ["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"])
def test_layers_that_were_only_said_to_be_there_are_sent_after_all(
    tmp_path: Path, store: Store, code: str
) -> None:
    model, pretending = make_artifact(DATA, b"small"), Pretending(code)
    model.push_to(store, "localhost/team/demo:1")
    with scripted(hook=pretending) as server:
        log = push_model(server, settings_in(tmp_path), store, model)
    assert pretending.refused == 1
    assert server.script.blobs == {str(item.digest): data for item, data in model.blobs}
    assert str(model.descriptor.digest) in server.script.manifests
    assert len(log.of(Noticed)) == 1


def test_layers_are_sent_a_second_time_once_only(tmp_path: Path, store: Store) -> None:
    model = make_artifact(DATA)
    model.push_to(store, "localhost/team/demo:1")
    hook = layers_that_were_only_said_to_be_there()
    with scripted(hook=hook) as server, pytest.raises(BlobNotFound):
        push_model(server, settings_in(tmp_path), store, model)
    assert len(server.script.requests("PUT", "/manifests/")) == 2
    assert len(server.script.requests("POST")) == len(model.blobs)
