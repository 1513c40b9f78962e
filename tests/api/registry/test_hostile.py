"""Clients that mean harm, or are broken: the registry stays bounded, the others unaffected."""

import http.client
import json
import socket
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.node import Client, digest_of, serving

from pannier.api.registry import errors as table
from pannier.api.registry.conditions import Span, Unsatisfiable, requested_span, uploaded_span
from pannier.api.registry.errors import translate
from pannier.api.registry.names import Home
from pannier.api.registry.routes import parse_path
from pannier.api.registry.uploads import EMPTY_LIFETIME_S, LIFETIME_S, Uploads
from pannier.pkgmgr import errors
from pannier.pkgmgr.errors import InvalidReference, NoSpace, PannierError
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.store.store import Store

UPLOADS = "/v2/team/smol/blobs/uploads/"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def uploads(store: Store, clock: Clock, *, most: int = 3) -> Uploads:
    return Uploads(
        store.root / "ingest",
        store.path,
        admit=lambda session, count: None,
        clock=clock,
        max_sessions=most,
    )


class Bytes:
    """A body that ends, or fails, after its pieces."""

    def __init__(self, *pieces: bytes, error: Exception | None = None) -> None:
        self._pieces = list(pieces)
        self._error = error

    def read(self, size: int = -1, /) -> bytes:
        if not self._pieces and self._error is not None:
            raise self._error
        return self._pieces.pop(0) if self._pieces else b""


def test_a_flood_of_uploads_is_refused_until_one_is_stale(store: Store) -> None:
    clock = Clock()
    many = uploads(store, clock)
    first = many.start("a/b")
    for _ in range(2):
        many.start("a/b")
    with pytest.raises(table.Problem) as caught:
        many.start("a/b")
    assert caught.value.http_status == 429
    assert caught.value.headers["Retry-After"] == "60"
    clock.now += EMPTY_LIFETIME_S
    many.start("a/b")
    with pytest.raises(table.Problem):
        many.find("a/b", first.id)
    assert len(list((store.root / "ingest").iterdir())) == 2 * 3


def test_an_upload_with_bytes_is_not_pushed_out(store: Store) -> None:
    clock = Clock()
    many = uploads(store, clock, most=1)
    session = many.start("a/b")
    many.append(session, Bytes(b"kept"))
    clock.now += EMPTY_LIFETIME_S * 10
    with pytest.raises(table.Problem):
        many.start("a/b")
    assert many.find("a/b", session.id).offset == 4


def test_an_upload_expires_with_its_files(store: Store) -> None:
    clock = Clock()
    many = uploads(store, clock)
    session = many.start("a/b")
    many.append(session, Bytes(b"data"))
    clock.now += LIFETIME_S + 61
    with pytest.raises(table.Problem):
        many.find("a/b", session.id)
    assert not list((store.root / "ingest").iterdir())


def test_files_of_a_dead_process_expire(store: Store) -> None:
    clock = Clock()
    uploads(store, clock).start("a/b")
    clock.now = 5_000_000_000.0
    uploads(store, clock).start("c/d")
    assert len(list((store.root / "ingest").iterdir())) == 2


def test_a_full_disk_keeps_what_was_written(store: Store) -> None:
    def admit(session: object, count: int) -> None:
        if count > 4:
            raise NoSpace(Path("/somewhere"))

    many = Uploads(store.root / "ingest", store.path, admit=admit)
    session = many.start("a/b")
    with pytest.raises(NoSpace):
        many.append(session, Bytes(b"data", b"too much"))
    assert many.find("a/b", session.id).offset == 4
    problem = translate(NoSpace(Path("/secret/path")))
    assert (problem.http_status, "/secret" in problem.message) == (507, False)


@pytest.mark.parametrize("damage", ["", "[]", '{"repository":1}', "\xff"])
def test_a_damaged_session_does_not_exist(store: Store, damage: str) -> None:
    clock = Clock()
    session = uploads(store, clock).start("a/b")
    session.path.with_suffix(".session").write_text(damage, encoding="latin-1")
    with pytest.raises(table.Problem):
        uploads(store, clock).find("a/b", session.id)


def test_clients_that_stall_leave_the_others_alone(client: Client) -> None:
    digest = client.push_blob("team/smol", b"x" * 8_000_000)
    path = f"/v2/team/smol/blobs/{digest}"
    stalled = []
    for number in range(40):
        sock = socket.create_connection(client.address)
        if number % 2:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {client.netloc}\r\n\r\n".encode())
        else:
            sock.sendall(f"POST {UPLOADS} HTTP/1.1\r\nHost: {client.netloc}\r\n".encode())
        stalled.append(sock)
    try:
        assert client.ask("GET", path).status == 200
        client.push_blob("team/smol", b"another")
    finally:
        for sock in stalled:
            sock.close()


def test_two_pushers_of_one_tag_leave_a_whole_model(client: Client) -> None:
    values = [client.image("team/smol", bytes([number]) * 100) for number in range(8)]
    digests: list[str] = []
    threads = [
        threading.Thread(
            target=lambda value=value: digests.append(client.push_manifest("team/smol", "1", value))
        )
        for value in values
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    got = client.ask("GET", "/v2/team/smol/manifests/1").header("Docker-Content-Digest")
    assert got in digests
    for digest in digests:
        assert client.ask("GET", f"/v2/team/smol/manifests/{digest}").status == 200


def test_writers_of_one_session_cannot_mix(client: Client) -> None:
    location = client.ask("POST", UPLOADS).header("Location")
    pieces = [bytes([number]) * 300_000 for number in range(6)]
    threads = [
        threading.Thread(target=client.ask, args=("PATCH", location, piece)) for piece in pieces
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    end = int(client.ask("GET", location).header("Range").removeprefix("0-"))
    # Whatever came in what order, bytes and hash agree: only the true digest is accepted.
    assert end + 1 <= sum(map(len, pieces))
    refused = client.ask("PUT", f"{location}?digest={digest_of(b''.join(pieces) + b'x')}")
    assert refused.code == "DIGEST_INVALID"


def test_a_manifest_that_never_ends_is_cut_off(client: Client) -> None:
    connection = http.client.HTTPConnection(*client.address, timeout=30)
    connection.putrequest("PUT", "/v2/team/smol/manifests/1")
    connection.putheader("Content-Type", "application/vnd.oci.image.manifest.v1+json")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    sent = 0
    try:
        while sent < 64 << 20:
            connection.send(piece)
            sent += 0x10000
    except OSError:
        pass
    assert sent < 64 << 20
    connection.close()
    assert client.ask("GET", "/v2/").status == 200


def test_an_index_of_itself_and_deep_indexes_are_bounded(client: Client) -> None:
    kind = "application/vnd.oci.image.index.v1+json"
    child = {"schemaVersion": 2, "mediaType": kind, "manifests": []}
    for level in range(20):
        raw = json.dumps(child).encode()
        assert client.put_manifest("a/b", f"l{level}", raw, kind).status == 201
        item = {"mediaType": kind, "digest": digest_of(raw), "size": len(raw)}
        child = {"schemaVersion": 2, "mediaType": kind, "manifests": [item]}
    assert client.ask("GET", f"/v2/a/b/referrers/{digest_of(b'x')}").status == 200


def test_every_error_has_a_row() -> None:
    def all_of(kind: type[PannierError]) -> list[type[PannierError]]:
        return [kind, *(item for child in kind.__subclasses__() for item in all_of(child))]

    for kind in all_of(errors.PannierError):
        blank = kind.__new__(kind)
        PannierError.__init__(blank, "text")
        assert 400 <= translate(blank).http_status < 600


@given(st.text())
def test_any_path_is_read_or_refused(path: str) -> None:
    place = parse_path(path)
    assert place is None or place.kind


@given(st.text())
def test_any_name_is_a_reference_or_refused(name: str) -> None:
    try:
        reference = Home().reference(name, tag="1")
    except InvalidReference:
        return
    assert Reference.parse(str(reference)) == reference
    assert ".." not in reference.repository.split("/")


COMPONENTS = st.from_regex(r"[a-z0-9]{1,6}([._-][a-z0-9]{1,6})?", fullmatch=True)


@given(st.lists(COMPONENTS, min_size=1, max_size=4))
def test_a_repository_and_its_reference_are_one(parts: list[str]) -> None:
    name = "/".join(parts)
    shown = Home().repository(Home().reference(name, tag="1"))
    assert shown is None or Home().reference(shown, tag="1") == Home().reference(name, tag="1")


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("smol", "registry.ollama.ai/library/smol"),
        ("team/smol", "registry.ollama.ai/team/smol"),
        ("registry.corp/team/smol", "registry.corp/team/smol"),
        ("registry.corp_5000/team/smol", "registry.corp:5000/team/smol"),
        ("localhost_5000/a/b/c", "localhost:5000/a/b/c"),
        ("team_5/smol", "registry.ollama.ai/team_5/smol"),
    ],
)
def test_names_here_and_in_the_store(name: str, full: str) -> None:
    reference = Home().reference(name, tag="1")
    assert f"{reference.host}/{reference.repository}" == full
    assert Home().repository(reference) == name


@given(st.text(max_size=40), st.integers(0, 2000))
def test_any_range_is_within_the_content(value: str, size: int) -> None:
    for text in (value, f"bytes={value}"):
        try:
            span = requested_span({"Range": text}.get, size=size, etag='"x"')
        except Unsatisfiable:
            continue
        assert span is None or 0 <= span.start < span.stop <= size


@given(st.integers(0, 10**18), st.integers(0, 10**18))
def test_content_ranges_in_both_forms(first: int, last: int) -> None:
    forms = (f"{first}-{last}", f"bytes {first}-{last}/*", f"bytes={first}-{last}")
    for text in forms:
        if last < first:
            with pytest.raises(ValueError, match="Content-Range"):
                uploaded_span(text)
        else:
            assert uploaded_span(text) == Span(first, last + 1)


def test_a_node_with_damaged_blobs_says_so(store: Store) -> None:
    with serving(store) as client:
        digest = client.push_manifest("a/b", "1", client.image("a/b", b"layer"))
        path = next(store.root.glob(f"blobs/sha256/{digest[7:]}"))
        path.chmod(0o644)
        path.write_bytes(b"{}")
    with serving(store) as client:
        assert client.ask("GET", "/v2/a/b/manifests/1").status in (400, 500)
        assert client.ask("GET", "/v2/_catalog").status == 200


def test_many_pushers_at_once(client: Client) -> None:
    blobs = [bytes([number]) * 700_000 for number in range(14)]
    pushed: list[str] = []
    threads = [
        threading.Thread(target=lambda data=data: pushed.append(client.push_blob("a/b", data)))
        for data in blobs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(pushed) == sorted(map(digest_of, blobs))
