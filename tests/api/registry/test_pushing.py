"""distribution-spec v1.1.1, "Pushing blobs", request by request."""

import json
import socket
import uuid

import pytest
from support.node import Client, Reply, digest_of, serving

from pannier.api.registry.options import Options
from pannier.api.registry.pushes import Pushes
from pannier.pkgmgr.store.store import Store

DATA = b"0123456789" * 1000
UPLOADS = "/v2/team/smol/blobs/uploads/"


def begin(client: Client) -> str:
    reply = client.ask("POST", UPLOADS, headers={"Content-Length": "0"})
    assert reply.status == 202
    return reply.header("Location")


def patch(client: Client, url: str, data: bytes, span: str | None = None) -> Reply:
    headers = {"Content-Type": "application/octet-stream"}
    if span is not None:
        headers["Content-Range"] = span
    return client.ask("PATCH", url, data, headers)


def stored(client: Client, data: bytes = DATA) -> bool:
    return client.ask("GET", f"/v2/team/smol/blobs/{digest_of(data)}").body == data


def nothing_left(store: Store) -> bool:
    return not list((store.root / "ingest").iterdir())


def test_post_then_put(client: Client, store: Store) -> None:
    location = begin(client)
    done = client.ask("PUT", f"{location}?digest={digest_of(DATA)}", DATA)
    assert done.status == 201
    assert done.header("Docker-Content-Digest") == digest_of(DATA)
    assert client.ask("GET", done.header("Location")).body == DATA
    assert nothing_left(store)


def test_locations_are_absolute(client: Client) -> None:
    assert begin(client).startswith(f"http://{client.netloc}/v2/team/smol/blobs/uploads/")


def test_a_session_has_a_uuid(client: Client) -> None:
    assert uuid.UUID(begin(client).rpartition("/")[2]).version == 4


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_single_post(client: Client, algorithm: str) -> None:
    digest = digest_of(DATA, algorithm)
    done = client.ask("POST", f"{UPLOADS}?digest={digest}", DATA)
    assert done.status == 201
    assert client.ask("GET", f"/v2/team/smol/blobs/{digest}").body == DATA


def test_single_post_of_wrong_content_leaves_nothing(client: Client, store: Store) -> None:
    done = client.ask("POST", f"{UPLOADS}?digest={digest_of(b'other')}", DATA)
    assert (done.status, done.code) == (400, "DIGEST_INVALID")
    assert nothing_left(store)
    assert not stored(client)


def test_chunks(client: Client) -> None:
    location = begin(client)
    first = patch(client, location, DATA[:4000], "0-3999")
    assert (first.status, first.header("Range")) == (202, "0-3999")
    second = patch(client, first.header("Location"), DATA[4000:9000], "4000-8999")
    assert (second.status, second.header("Range")) == (202, "0-8999")
    headers = {"Content-Range": "9000-9999"}
    url = f"{second.header('Location')}?digest={digest_of(DATA)}"
    assert client.ask("PUT", url, DATA[9000:], headers).status == 201
    assert stored(client)


def test_a_stream_without_length(client: Client) -> None:
    location = begin(client)
    parts = (DATA[i : i + 777] for i in range(0, len(DATA), 777))
    reply = client.ask("PATCH", location, parts, {"Transfer-Encoding": "chunked"}, chunked=True)
    assert (reply.status, reply.header("Range")) == (202, f"0-{len(DATA) - 1}")
    assert client.ask("PUT", f"{location}?digest={digest_of(DATA)}").status == 201
    assert stored(client)


def test_an_upload_tells_how_far_it_is(client: Client) -> None:
    location = begin(client)
    empty = client.ask("GET", location)
    assert (empty.status, empty.header("Range")) == (204, "0-0")
    patch(client, location, DATA[:50], "0-49")
    told = client.ask("GET", location)
    assert (told.status, told.header("Range")) == (204, "0-49")
    assert told.header("Location") == location


@pytest.mark.parametrize("span", ["60-69", "40-49", "0-9", "51-60"])
def test_a_chunk_out_of_order_answers_416(client: Client, span: str) -> None:
    location = begin(client)
    patch(client, location, DATA[:50], "0-49")
    reply = patch(client, location, DATA[:10], span)
    assert (reply.status, reply.header("Range")) == (416, "0-49")
    assert reply.header("Location") == location
    patch(client, location, DATA[50:], f"50-{len(DATA) - 1}")
    assert client.ask("PUT", f"{location}?digest={digest_of(DATA)}").status == 201


def test_the_last_chunk_in_put_out_of_order_answers_416(client: Client) -> None:
    location = begin(client)
    url = f"{location}?digest={digest_of(DATA)}"
    assert client.ask("PUT", url, DATA[5:], {"Content-Range": "5-9999"}).status == 416
    assert client.ask("GET", location).header("Range") == "0-0"


@pytest.mark.parametrize("span", ["x", "5", "9-5", "-5", "0-9999999999999999999999"])
def test_a_malformed_content_range_is_refused(client: Client, span: str) -> None:
    reply = patch(client, begin(client), DATA[:10], span)
    assert (reply.status, reply.code) == (400, "BLOB_UPLOAD_INVALID")


def test_a_chunk_of_another_length_than_its_range_is_refused(client: Client) -> None:
    reply = patch(client, begin(client), DATA[:10], "0-4")
    assert (reply.status, reply.code) == (400, "SIZE_INVALID")


def test_a_wrong_digest_is_refused_and_leaves_nothing(client: Client, store: Store) -> None:
    location = begin(client)
    reply = client.ask("PUT", f"{location}?digest={digest_of(b'other')}", DATA)
    assert (reply.status, reply.code) == (400, "DIGEST_INVALID")
    assert nothing_left(store)
    assert client.ask("GET", location).status == 404


@pytest.mark.parametrize("query", ["", "?digest=", "?digest=sha256:12", "?digest=md5:00"])
def test_put_needs_a_digest(client: Client, query: str) -> None:
    reply = client.ask("PUT", begin(client) + query, DATA)
    assert (reply.status, reply.code) == (400, "DIGEST_INVALID")


def test_sha512_may_be_chosen_at_the_end(client: Client) -> None:
    location = begin(client)
    patch(client, location, DATA)
    digest = digest_of(DATA, "sha512")
    assert client.ask("PUT", f"{location}?digest={digest}").status == 201
    assert client.ask("GET", f"/v2/a/b/blobs/{digest}").body == DATA


def test_a_cancelled_upload_is_gone(client: Client, store: Store) -> None:
    location = begin(client)
    patch(client, location, DATA)
    assert client.ask("DELETE", location).status == 204
    assert client.ask("DELETE", location).status == 404
    assert nothing_left(store)


def test_an_upload_belongs_to_its_repository(client: Client) -> None:
    location = begin(client)
    assert patch(client, location.replace("smol", "other"), DATA).status == 404


@pytest.mark.parametrize(
    "last", ["00000000-0000-4000-8000-000000000000", "x", "..%2f..%2findex.json", "%00"]
)
def test_an_unknown_upload_is_404(client: Client, last: str) -> None:
    reply = patch(client, UPLOADS + last, DATA)
    assert (reply.status, reply.code) in ((404, "BLOB_UPLOAD_UNKNOWN"), (404, "NAME_UNKNOWN"))


def test_a_mount_of_a_stored_blob_answers_201(client: Client) -> None:
    digest = client.push_blob("team/smol", DATA)
    reply = client.ask("POST", f"/v2/other/x/blobs/uploads/?mount={digest}&from=team/smol")
    assert reply.status == 201
    assert client.ask("GET", reply.header("Location")).body == DATA


@pytest.mark.parametrize("source", ["&from=team/other", "", "&from=Model.GGUF", "&from=../x"])
def test_a_mount_of_an_absent_blob_opens_an_upload(client: Client, source: str) -> None:
    reply = client.ask("POST", f"{UPLOADS}?mount={digest_of(DATA)}{source}")
    assert reply.status == 202
    url = f"{reply.header('Location')}?digest={digest_of(DATA)}"
    assert client.ask("PUT", url, DATA).status == 201


def test_the_same_blob_twice(client: Client) -> None:
    assert client.push_blob("team/smol", DATA) == client.push_blob("team/smol", DATA)


def test_an_empty_blob(client: Client) -> None:
    client.push_blob("team/smol", b"")
    assert client.ask("GET", f"/v2/team/smol/blobs/{digest_of(b'')}").status == 200


def test_bytes_before_a_cut_connection_stay(client: Client) -> None:
    location = begin(client)
    path = location.removeprefix(f"http://{client.netloc}")
    with socket.create_connection(client.address) as sock:
        head = f"PATCH {path} HTTP/1.1\r\nHost: {client.netloc}\r\nContent-Length: 1000000\r\n\r\n"
        sock.sendall(head.encode() + b"z" * 600_000)
        sock.shutdown(socket.SHUT_WR)
        sock.recv(100)
    end = int(client.ask("GET", location).header("Range").removeprefix("0-"))
    assert 0 < end < 600_000
    data = b"z" * 1_000_000
    rest = patch(client, location, data[end + 1 :], f"{end + 1}-999999")
    assert rest.status == 202
    assert client.ask("PUT", f"{location}?digest={digest_of(data)}").status == 201


def test_a_half_open_connection_cannot_block_a_resume(client: Client) -> None:
    location = begin(client)
    path = location.removeprefix(f"http://{client.netloc}")
    with socket.create_connection(client.address) as sock:
        head = f"PATCH {path} HTTP/1.1\r\nHost: {client.netloc}\r\nContent-Length: 1000000\r\n\r\n"
        sock.sendall(head.encode() + b"z" * 262_144)
        while client.ask("GET", location).header("Range") != "0-262143":
            pass
        end = 262_143
        assert patch(client, location, b"z" * 10, f"{end + 1}-{end + 10}").status == 202
        data = b"z" * (end + 11)
        assert client.ask("PUT", f"{location}?digest={digest_of(data)}").status == 201


def test_an_upload_outlives_the_server(store: Store) -> None:
    with serving(store) as client:
        location = begin(client).removeprefix(f"http://{client.netloc}")
        patch(client, location, DATA[:5000])
    with serving(store) as client:
        assert client.ask("GET", location).header("Range") == "0-4999"
        patch(client, location, DATA[5000:], "5000-9999")
        assert client.ask("PUT", f"{location}?digest={digest_of(DATA)}").status == 201
        assert stored(client)


def test_the_limit_of_one_upload(store: Store) -> None:
    with serving(store, Options(max_upload_size=5000)) as client:
        reply = client.ask("POST", f"{UPLOADS}?digest={digest_of(DATA)}", DATA)
        assert (reply.status, reply.code) == (413, "SIZE_INVALID")
        assert nothing_left(store)
        client.push_blob("team/smol", DATA[:5000])


def test_the_quota_of_the_store(store: Store) -> None:
    with serving(store, Options(max_store_size=15_000)) as client:
        client.push_blob("team/smol", DATA)
        reply = client.ask("PUT", f"{begin(client)}?digest={digest_of(DATA * 2)}", DATA * 2)
        assert (reply.status, reply.code) == (403, "DENIED")
        assert client.ask("GET", f"/v2/team/smol/blobs/{digest_of(DATA)}").status == 200


def test_the_quota_counts_what_came_a_moment_ago(store: Store) -> None:
    with serving(store, Options(max_store_size=25_000)) as client:
        client.push_blob("team/smol", DATA)
        client.push_blob("team/smol", DATA[::-1])
        refused = client.ask("POST", f"{UPLOADS}?digest={digest_of(DATA[1:])}", DATA[1:])
        assert (refused.status, refused.code) == (403, "DENIED")
        client.ask("DELETE", f"/v2/team/smol/blobs/{digest_of(DATA)}")
        client.push_blob("team/smol", DATA[1:])


def test_a_sweep_spares_what_a_push_has_brought(client: Client, store: Store) -> None:
    value = client.image("team/smol", DATA)
    store.collect(grace_s=0)
    client.push_manifest("team/smol", "1", value)
    client.ask("DELETE", f"/v2/team/smol/manifests/{digest_of(json.dumps(value).encode())}")
    assert store.collect(grace_s=0).count == 3


def test_a_push_that_fell_silent_holds_nothing(store: Store) -> None:
    now = [0.0]
    pushes = Pushes(store, clock=lambda: now[0])
    pushes.note("a/b")
    now[0] = 4000.0
    pushes.note("c/d")
    pushes.end("c/d")
    assert not list((store.root / "leases").iterdir())
    pushes.close()
