"""distribution-spec v1.1.1: support, tags, referrers; and distribution's catalogue."""

import json

import pytest
from support.node import Client, digest_of

from pannier.pkgmgr import mediatypes
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.store.store import Store

NAME = "team/smol"


def follow(client: Client, url: str, member: str) -> list[list[str]]:
    """All pages, by their Link headers."""
    pages = []
    while url:
        reply = client.ask("GET", url)
        assert reply.status == 200
        pages.append(reply.json[member])
        link = reply.headers.get("Link", "")
        assert not link or link.endswith('; rel="next"')
        url = link.partition(">")[0].removeprefix("<")
    return pages


def test_the_base_route_answers_200(client: Client) -> None:
    assert client.ask("GET", "/v2/").status == 200
    assert client.ask("GET", "/v2").status == 200
    assert client.ask("GET", "/v2/").header("Docker-Distribution-Api-Version") == "registry/2.0"


def test_tags_are_sorted_and_paged(client: Client) -> None:
    value = client.image(NAME, b"layer")
    for tag in ("b", "a", "10", "2", "Z"):
        client.push_manifest(NAME, tag, value)
    whole = client.ask("GET", f"/v2/{NAME}/tags/list")
    assert whole.json == {"name": NAME, "tags": ["10", "2", "a", "b", "Z"]}
    assert "Link" not in whole.headers
    url = f"/v2/{NAME}/tags/list"
    assert follow(client, f"{url}?n=2", "tags") == [["10", "2"], ["a", "b"], ["Z"]]
    assert client.ask("GET", f"{url}?n=0").json["tags"] == []
    assert client.ask("GET", f"{url}?last=A").json["tags"] == ["a", "b", "Z"]
    assert client.ask("GET", f"{url}?n=1&last=3").json["tags"] == ["a"]


@pytest.mark.parametrize("n", ["x", "-1", "1.5", "", "٣"])
def test_a_page_size_that_is_no_number_is_refused(client: Client, n: str) -> None:
    client.push_manifest(NAME, "a", client.image(NAME, b"layer"))
    from urllib.parse import quote

    assert client.ask("GET", f"/v2/{NAME}/tags/list?n={quote(n)}").status == 400


def test_tags_of_an_unknown_repository_are_404(client: Client) -> None:
    reply = client.ask("GET", "/v2/no/such/tags/list")
    assert (reply.status, reply.code) == (404, "NAME_UNKNOWN")


def test_the_catalogue_is_sorted_and_paged(client: Client) -> None:
    for name in ("b/x", "a/x", "solo"):
        client.push_manifest(name, "1", client.image(name, b"layer"))
    assert follow(client, "/v2/_catalog?n=1", "repositories") == [["a/x"], ["b/x"], ["solo"]]


def referrer(client: Client, subject: str, size: int, kind: str | None, note: str) -> str:
    members = {"artifactType": kind} if kind else {}
    target = {"mediaType": mediatypes.OCI_MANIFEST, "digest": subject, "size": size}
    value = client.image(NAME, subject=target, annotations={"note": note}, **members)
    raw = json.dumps(value).encode()
    reply = client.put_manifest(NAME, digest_of(raw), raw, mediatypes.OCI_MANIFEST)
    assert reply.status == 201
    assert reply.header("OCI-Subject") == subject
    return digest_of(raw)


def test_referrers_are_listed_and_filtered(client: Client) -> None:
    subject = client.push_manifest(NAME, "1", client.image(NAME, b"layer"))
    sbom = referrer(client, subject, 10, "application/x-sbom", "one")
    plain = referrer(client, subject, 10, None, "two")
    url = f"/v2/{NAME}/referrers/{subject}"
    reply = client.ask("GET", url)
    assert reply.header("Content-Type") == mediatypes.OCI_INDEX
    assert reply.json["schemaVersion"] == 2
    found = {item["digest"]: item for item in reply.json["manifests"]}
    assert set(found) == {sbom, plain}
    assert found[sbom]["artifactType"] == "application/x-sbom"
    assert found[sbom]["annotations"] == {"note": "one"}
    assert found[plain]["artifactType"] == mediatypes.OCI_EMPTY
    some = client.ask("GET", f"{url}?artifactType=application/x-sbom")
    assert some.header("OCI-Filters-Applied") == "artifactType"
    assert [item["digest"] for item in some.json["manifests"]] == [sbom]


def test_referrers_of_nothing_are_an_empty_index(client: Client) -> None:
    reply = client.ask("GET", f"/v2/{NAME}/referrers/{digest_of(b'none')}")
    assert (reply.status, reply.json["manifests"]) == (200, [])
    assert client.ask("GET", f"/v2/{NAME}/referrers/nonsense").code == "DIGEST_INVALID"


def test_a_subject_may_come_later_or_never(client: Client) -> None:
    made = referrer(client, digest_of(b"never"), 5, "application/x-sbom", "early")
    reply = client.ask("GET", f"/v2/{NAME}/referrers/{digest_of(b'never')}")
    assert [item["digest"] for item in reply.json["manifests"]] == [made]


def test_referrers_of_a_fallback_tag_are_listed_too(client: Client, store: Store) -> None:
    """Clients of registries without the API kept an index under a tag; such a store may come."""
    subject = client.push_manifest(NAME, "1", client.image(NAME, b"layer"))
    made = referrer(client, subject, 10, "application/x-sbom", "old")
    size = store.find(Reference.parse(f"{NAME}@{made}")).descriptor.size
    item = {"mediaType": mediatypes.OCI_MANIFEST, "digest": made, "size": size}
    index = {"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": [item]}
    client.push_manifest(NAME, subject.replace(":", "-"), index)
    store.untag(Reference.parse(f"{NAME}@{made}"))
    listed = client.ask("GET", f"/v2/{NAME}/referrers/{subject}").json["manifests"]
    assert [item["digest"] for item in listed] == [made]


def test_a_deleted_referrer_is_no_longer_listed(client: Client) -> None:
    subject = client.push_manifest(NAME, "1", client.image(NAME, b"layer"))
    made = referrer(client, subject, 10, "application/x-sbom", "one")
    assert client.ask("DELETE", f"/v2/{NAME}/manifests/{made}").status == 202
    assert client.ask("GET", f"/v2/{NAME}/referrers/{subject}").json["manifests"] == []


def test_many_referrers_come_in_pages_below_the_manifest_limit(client: Client) -> None:
    subject = client.push_manifest(NAME, "1", client.image(NAME, b"layer"))
    made = {referrer(client, subject, 10, "x/y", f"{n}" + "n" * 900_000) for n in range(5)}
    pages = follow(client, f"/v2/{NAME}/referrers/{subject}?artifactType=x/y", "manifests")
    assert len(pages) > 1
    assert {item["digest"] for page in pages for item in page} == made  # type: ignore[index]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_method_that_is_not_possible_names_those_that_are(client: Client, method: str) -> None:
    reply = client.ask(method, "/v2/")
    assert (reply.status, reply.code) == (405, "UNSUPPORTED")
    assert reply.header("Allow") == "GET, HEAD"


@pytest.mark.parametrize("path", ["/v2/x", "/v2/a/b", "/v2/a/tags", "/v2//", "/v2/manifests/x"])
def test_an_unknown_path_answers_in_the_spec_s_form(client: Client, path: str) -> None:
    reply = client.ask("GET", path)
    assert (reply.status, reply.code) == (404, "NAME_UNKNOWN")
