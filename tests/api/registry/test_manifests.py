"""distribution-spec v1.1.1: manifests pulled, pushed and deleted, request by request."""

import json

import pytest
from support.node import Client, digest_of, serving

from pannier.api.registry.options import Options
from pannier.pkgmgr import mediatypes
from pannier.pkgmgr.store.store import Store

NAME = "team/smol"
URL = f"/v2/{NAME}/manifests/"


def push(client: Client, tag: str, layer: bytes = b"layer") -> str:
    return client.push_manifest(NAME, tag, client.image(NAME, layer))


def index_of(*digests: tuple[str, int]) -> dict[str, object]:
    kind = mediatypes.OCI_MANIFEST
    items = [{"mediaType": kind, "digest": digest, "size": size} for digest, size in digests]
    return {"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": items}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_manifest_comes_back_by_tag_and_by_digest(client: Client, method: str) -> None:
    value = client.image(NAME, b"layer")
    raw = json.dumps(value, indent=3).encode()
    reply = client.put_manifest(NAME, "1.0", raw, value["mediaType"])
    assert reply.status == 201
    assert reply.header("Docker-Content-Digest") == digest_of(raw)
    assert client.ask("GET", reply.header("Location")).body == raw
    for reference in ("1.0", digest_of(raw)):
        got = client.ask(method, URL + reference)
        assert (got.status, got.body) == (200, raw if method == "GET" else b"")
        assert got.header("Docker-Content-Digest") == digest_of(raw)
        assert got.header("Content-Type") == mediatypes.OCI_MANIFEST
        assert got.header("Content-Length") == str(len(raw))


@pytest.mark.parametrize("reference", ["absent", digest_of(b"absent")])
def test_an_unknown_manifest_is_404(client: Client, reference: str) -> None:
    reply = client.ask("GET", URL + reference)
    assert (reply.status, reply.code) == (404, "MANIFEST_UNKNOWN")
    assert client.ask("HEAD", URL + reference).status == 404


def test_a_pushed_model_stands_in_the_store(client: Client, store: Store) -> None:
    digest = push(client, "1.0")
    entry = store.entries()[0]
    assert entry.reference.familiar == "team/smol:1.0"
    assert str(entry.descriptor.digest) == digest


def test_a_one_word_name_is_the_store_s_short_name(client: Client, store: Store) -> None:
    client.push_manifest("smol", "1", client.image("smol", b"layer"))
    assert store.entries()[0].reference.familiar == "smol:1"
    assert client.ask("GET", "/v2/library/smol/manifests/1").status == 200
    assert client.ask("GET", "/v2/smol/manifests/1").status == 200


def test_a_model_of_another_registry_is_served_under_its_host(client: Client, store: Store) -> None:
    client.push_manifest("registry.corp/team/x", "1", client.image(NAME, b"layer"))
    assert str(store.entries()[0].reference) == "registry.corp/team/x:1"
    assert client.ask("GET", "/v2/_catalog").json == {"repositories": ["registry.corp/team/x"]}


def test_a_push_by_digest_is_known_by_digest_only(client: Client) -> None:
    raw = json.dumps(client.image(NAME, b"layer")).encode()
    reply = client.put_manifest(NAME, digest_of(raw), raw, mediatypes.OCI_MANIFEST)
    assert reply.status == 201
    assert client.ask("GET", URL + digest_of(raw)).body == raw
    assert client.ask("GET", f"/v2/{NAME}/tags/list").json["tags"] == []


def test_a_push_by_sha512(client: Client) -> None:
    raw = json.dumps(client.image(NAME, b"layer")).encode()
    digest = digest_of(raw, "sha512")
    assert client.put_manifest(NAME, digest, raw, mediatypes.OCI_MANIFEST).status == 201
    got = client.ask("GET", URL + digest)
    assert (got.body, got.header("Docker-Content-Digest")) == (raw, digest)


def test_a_push_by_digest_may_set_tags(client: Client) -> None:
    raw = json.dumps(client.image(NAME, b"layer")).encode()
    url = f"{URL}{digest_of(raw)}?tag=a&tag=b"
    reply = client.ask("PUT", url, raw, {"Content-Type": mediatypes.OCI_MANIFEST})
    assert reply.headers.get_all("OCI-Tag") == ["a", "b"]
    assert client.ask("GET", f"/v2/{NAME}/tags/list").json["tags"] == ["a", "b"]


def test_a_wrong_digest_is_refused(client: Client) -> None:
    raw = json.dumps(client.image(NAME, b"layer")).encode()
    reply = client.put_manifest(NAME, digest_of(b"other"), raw, mediatypes.OCI_MANIFEST)
    assert (reply.status, reply.code) == (400, "DIGEST_INVALID")


def test_a_replaced_manifest_stays_by_digest(client: Client) -> None:
    first = push(client, "1", b"first")
    second = push(client, "1", b"second")
    assert client.ask("GET", URL + "1").header("Docker-Content-Digest") == second
    assert client.ask("GET", URL + first).status == 200


def test_deleting_a_tag_keeps_the_manifest(client: Client) -> None:
    digest = push(client, "1")
    assert client.ask("DELETE", URL + "1").status == 202
    assert client.ask("GET", URL + "1").status == 404
    assert client.ask("GET", URL + digest).status == 200
    assert client.ask("DELETE", URL + "1").status == 404


def test_deleting_a_manifest_takes_its_tags(client: Client, store: Store) -> None:
    digest = push(client, "1")
    push(client, "2")
    other = push(client, "3", b"other")
    assert client.ask("DELETE", URL + digest).status == 202
    for reference in (digest, "1", "2"):
        assert client.ask("GET", URL + reference).status == 404
    assert client.ask("GET", URL + other).status == 200
    assert client.ask("DELETE", URL + digest).status == 404
    assert len(store.entries()) == 1


def test_the_same_manifest_tagged_again_is_one_entry(client: Client, store: Store) -> None:
    digest = push(client, "1")
    client.ask("DELETE", URL + "1")
    push(client, "2")
    assert [entry.reference.tag for entry in store.entries()] == ["2"]
    assert client.ask("GET", URL + digest).status == 200


def test_an_index_and_its_manifests(client: Client) -> None:
    raw = json.dumps(client.image(NAME, b"layer")).encode()
    child = client.put_manifest(NAME, digest_of(raw), raw, mediatypes.OCI_MANIFEST)
    digest = child.header("Docker-Content-Digest")
    index = client.push_manifest(NAME, "multi", index_of((digest, len(raw))))
    got = client.ask("GET", URL + "multi")
    assert got.header("Content-Type") == mediatypes.OCI_INDEX
    refused = client.ask("DELETE", URL + digest)
    assert (refused.status, refused.code) == (405, "DENIED")
    assert client.ask("DELETE", URL + index).status == 202
    assert client.ask("DELETE", URL + digest).status == 202


def test_an_index_of_absent_manifests_is_refused(client: Client) -> None:
    raw = json.dumps(index_of((digest_of(b"x"), 1))).encode()
    reply = client.put_manifest(NAME, "multi", raw, mediatypes.OCI_INDEX)
    assert (reply.status, reply.code) == (400, "MANIFEST_BLOB_UNKNOWN")


def test_a_manifest_of_absent_blobs_is_refused(client: Client) -> None:
    value = client.image(NAME, b"layer")
    value["layers"][0]["digest"] = digest_of(b"absent")
    raw = json.dumps(value).encode()
    reply = client.put_manifest(NAME, "1", raw, mediatypes.OCI_MANIFEST)
    assert (reply.status, reply.code) == (400, "MANIFEST_BLOB_UNKNOWN")
    assert client.ask("GET", URL + "1").status == 404


def test_a_non_distributable_layer_may_be_absent(client: Client) -> None:
    kind = "application/vnd.oci.image.layer.nondistributable.v1.tar"
    value = client.image(NAME, b"layer")
    value["layers"].append({"mediaType": kind, "digest": digest_of(b"absent"), "size": 6})
    client.push_manifest(NAME, "1", value)
    assert client.ask("GET", URL + "1").json == value


def test_a_manifest_with_wrong_sizes_is_refused(client: Client) -> None:
    value = client.image(NAME, b"layer")
    value["layers"][0]["size"] += 1
    reply = client.put_manifest(NAME, "1", json.dumps(value).encode(), mediatypes.OCI_MANIFEST)
    assert (reply.status, reply.code) == (400, "MANIFEST_INVALID")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b'{"schemaVersion":1}',
        b'{"schemaVersion":2,"config":{},"layers":[]}',
        b'{"schemaVersion":2,"schemaVersion":2,"manifests":[]}',
        b"[" * 100_000,
        b'{"schemaVersion":2,"manifests":[],"layers":[]}',
    ],
)
def test_what_is_no_manifest_is_refused(client: Client, raw: bytes) -> None:
    reply = client.put_manifest(NAME, "1", raw, mediatypes.OCI_MANIFEST)
    assert (reply.status, reply.code) == (400, "MANIFEST_INVALID")


def test_a_manifest_of_4_mib_is_taken_and_a_larger_one_refused(client: Client) -> None:
    value = client.image(NAME, b"layer", annotations={"pad": ""})
    room = (4 << 20) - len(json.dumps(value))
    value["annotations"]["pad"] = "x" * room
    client.push_manifest(NAME, "large", value)
    value["annotations"]["pad"] += "x"
    raw = json.dumps(value).encode()
    reply = client.put_manifest(NAME, "larger", raw, mediatypes.OCI_MANIFEST)
    assert (reply.status, reply.code) == (413, "SIZE_INVALID")
    parts = [raw[: 3 << 20], raw[3 << 20 :]]
    headers = {"Content-Type": mediatypes.OCI_MANIFEST, "Transfer-Encoding": "chunked"}
    url = f"{URL}larger"
    assert client.ask("PUT", url, iter(parts), headers, chunked=True).status == 413


def test_another_content_type_than_the_manifest_s_is_refused(client: Client) -> None:
    raw = json.dumps(client.image(NAME, b"layer")).encode()
    reply = client.put_manifest(NAME, "1", raw, mediatypes.DOCKER_MANIFEST)
    assert (reply.status, reply.code) == (400, "MANIFEST_INVALID")
    headers = {"Content-Type": mediatypes.DOCKER_MANIFEST, "User-Agent": "ollama/0.12.0"}
    assert client.ask("PUT", f"{URL}1", raw, headers).status == 201


def test_an_unknown_kind_of_manifest_is_refused(client: Client) -> None:
    value = client.image(NAME, b"layer", mediaType="application/x-manifest")
    raw = json.dumps(value).encode()
    reply = client.put_manifest(NAME, "1", raw, "application/x-manifest")
    assert (reply.status, reply.code) == (415, "MANIFEST_INVALID")


def test_a_manifest_without_media_type_keeps_the_announced_one(client: Client) -> None:
    value = client.image(NAME, b"layer")
    del value["mediaType"]
    raw = json.dumps(value).encode()
    assert client.put_manifest(NAME, "1", raw, mediatypes.OCI_MANIFEST).status == 201
    assert client.ask("GET", URL + "1").header("Content-Type") == mediatypes.OCI_MANIFEST


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        (None, 200),
        ("*/*", 200),
        ("application/*", 200),
        (mediatypes.OCI_MANIFEST, 200),
        (f"text/html, {mediatypes.OCI_MANIFEST};q=0.5", 200),
        (mediatypes.ACCEPT_MANIFEST, 200),
        (mediatypes.OCI_INDEX, 404),
        (f"{mediatypes.OCI_MANIFEST};q=0", 404),
    ],
)
def test_accept_is_honoured(client: Client, accept: str | None, status: int) -> None:
    push(client, "1")
    headers = {"Accept": accept} if accept else {}
    assert client.ask("GET", URL + "1", headers=headers).status == status


def test_if_none_match_answers_304(client: Client) -> None:
    digest = push(client, "1")
    reply = client.ask("GET", URL + "1", headers={"If-None-Match": f'"{digest}"'})
    assert (reply.status, reply.body) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/v2/Team/Smol/manifests/1",
        "/v2/../etc/manifests/1",
        "/v2/a/../b/manifests/1",
        "/v2/%2e%2e/%2e%2e/manifests/1",
        "/v2/a//b/manifests/1",
        "/v2/-a/manifests/1",
        "/v2/a__-b/manifests/1",
        "/v2/a%00b/manifests/1",
        "/v2/a%0ab/manifests/1",
        "/v2/" + "a/" * 200 + "b/manifests/1",
        "/v2/a/manifests/.hidden",
        "/v2/a/manifests/" + "t" * 129,
        "/v2/a/manifests/t%20t",
    ],
)
def test_names_and_tags_outside_the_grammar_are_refused(client: Client, path: str) -> None:
    reply = client.ask("GET", path)
    assert (reply.status, reply.code) in ((400, "NAME_INVALID"), (404, "NAME_UNKNOWN"))
    raw = json.dumps(client.image(NAME, b"layer")).encode()
    assert client.ask("PUT", path, raw, {"Content-Type": mediatypes.OCI_MANIFEST}).status >= 400


def test_a_read_only_registry_refuses_every_change(store: Store) -> None:
    with serving(store) as client:
        digest = push(client, "1")
    with serving(store, Options(read_only=True)) as client:
        assert client.ask("GET", URL + "1").status == 200
        for method, path in [
            ("DELETE", URL + "1"),
            ("DELETE", URL + digest),
            ("PUT", URL + "2"),
            ("POST", f"/v2/{NAME}/blobs/uploads/"),
            ("DELETE", f"/v2/{NAME}/blobs/{digest_of(b'layer')}"),
        ]:
            reply = client.ask(method, path)
            assert (reply.status, reply.code) == (405, "UNSUPPORTED")
