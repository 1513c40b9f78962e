"""distribution-spec v1.1.1, "Pulling blobs" and "Deleting Blobs", request by request."""

import pytest
from support.node import Client, digest_of

from pannier.pkgmgr.store.store import Store

DATA = bytes(range(256)) * 40


@pytest.fixture
def url(client: Client) -> str:
    return f"/v2/team/smol/blobs/{client.push_blob('team/smol', DATA)}"


def test_get_answers_200_with_the_blob(client: Client, url: str) -> None:
    reply = client.ask("GET", url)
    assert (reply.status, reply.body) == (200, DATA)
    assert reply.header("Docker-Content-Digest") == digest_of(DATA)
    assert reply.header("Content-Length") == str(len(DATA))
    assert reply.header("ETag") == f'"{digest_of(DATA)}"'


def test_get_names_itself_in_an_absolute_location(client: Client, url: str) -> None:
    reply = client.ask("GET", url)
    assert reply.header("Location") == f"http://{client.netloc}{url}"


def test_head_answers_200_with_the_length_and_no_body(client: Client, url: str) -> None:
    reply = client.ask("HEAD", url)
    assert (reply.status, reply.body) == (200, b"")
    assert reply.header("Content-Length") == str(len(DATA))
    assert reply.header("Docker-Content-Digest") == digest_of(DATA)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_absent_blob_is_404(client: Client, method: str) -> None:
    reply = client.ask(method, f"/v2/team/smol/blobs/{digest_of(b'absent')}")
    assert reply.status == 404
    assert method == "HEAD" or reply.code == "BLOB_UNKNOWN"


@pytest.mark.parametrize(
    ("value", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=100-", 100, len(DATA)),
        ("bytes=-7", len(DATA) - 7, len(DATA)),
        ("bytes=-99999999", 0, len(DATA)),
        (f"bytes=5-{10**18}", 5, len(DATA)),
    ],
)
def test_a_range_answers_206(client: Client, url: str, value: str, start: int, stop: int) -> None:
    reply = client.ask("GET", url, headers={"Range": value})
    assert (reply.status, reply.body) == (206, DATA[start:stop])
    assert reply.header("Content-Range") == f"bytes {start}-{stop - 1}/{len(DATA)}"
    assert reply.header("Content-Length") == str(stop - start)


@pytest.mark.parametrize("value", ["bytes=x-1", "bytes=9-2", "lines=1-2", "bytes=0-1,5-6", ""])
def test_a_range_that_is_none_answers_200(client: Client, url: str, value: str) -> None:
    reply = client.ask("GET", url, headers={"Range": value})
    assert (reply.status, reply.body) == (200, DATA)


@pytest.mark.parametrize("value", [f"bytes={len(DATA)}-", "bytes=99999999-", "bytes=-0"])
def test_a_range_behind_the_end_answers_416(client: Client, url: str, value: str) -> None:
    reply = client.ask("GET", url, headers={"Range": value})
    assert reply.status == 416
    assert reply.header("Content-Range") == f"bytes */{len(DATA)}"
    assert int(reply.header("Content-Length")) == len(reply.body)


def test_if_range_with_another_tag_answers_the_whole(client: Client, url: str) -> None:
    reply = client.ask("GET", url, headers={"Range": "bytes=1-2", "If-Range": '"other"'})
    assert reply.status == 200
    same = {"Range": "bytes=1-2", "If-Range": f'"{digest_of(DATA)}"'}
    assert client.ask("GET", url, headers=same).status == 206


def test_if_none_match_answers_304(client: Client, url: str) -> None:
    reply = client.ask("GET", url, headers={"If-None-Match": f'"{digest_of(DATA)}"'})
    assert (reply.status, reply.body) == (304, b"")


def test_delete_answers_202_and_the_blob_is_gone(client: Client, url: str) -> None:
    assert client.ask("DELETE", url).status == 202
    assert client.ask("GET", url).status == 404
    assert client.ask("DELETE", url).status == 404


def test_delete_of_a_blob_in_use_is_refused(client: Client, store: Store) -> None:
    client.push_manifest("team/smol", "1", client.image("team/smol", DATA))
    reply = client.ask("DELETE", f"/v2/team/smol/blobs/{digest_of(DATA)}")
    assert (reply.status, reply.code) == (405, "DENIED")
    assert client.ask("GET", f"/v2/team/smol/blobs/{digest_of(DATA)}").body == DATA
    assert len(store.entries()) == 1


@pytest.mark.parametrize(
    "text", ["sha256:", "sha256:ABC", "md5:0", "..", "sha256:" + "g" * 64, "%2e%2e%2fetc"]
)
def test_a_malformed_digest_is_refused(client: Client, text: str) -> None:
    reply = client.ask("GET", f"/v2/team/smol/blobs/{text}")
    assert reply.status in (400, 404)
    assert reply.code in ("DIGEST_INVALID", "NAME_UNKNOWN")
