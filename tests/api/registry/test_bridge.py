"""A node in front of another registry: pulls that stay, pushes that go on, upstream down."""

import hashlib
import http.client
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.node import Client, bridging, digest_of, serving
from support.ollama_client import Ollama
from support.registry import docker_registry

from pannier.api.registry.options import Options
from pannier.api.registry.upstream import parse_upstream
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import InvalidOption
from pannier.pkgmgr.settings import RegistrySettings, Settings
from pannier.pkgmgr.store.store import Store

NAME = "team/smol"
WEIGHTS = b"GGUF" + bytes(range(256)) * 4000


def push(client: Client, tag: str = "1", weights: bytes = WEIGHTS, name: str = NAME) -> str:
    return client.push_manifest(name, tag, client.image(name, weights))


def pull(client: Client, tag: str = "1", name: str = NAME) -> bytes:
    """Manifest and every blob, verified; returns the last layer."""
    manifest = client.ask("GET", f"/v2/{name}/manifests/{tag}")
    assert manifest.status == 200, manifest.body
    data = b""
    for item in [manifest.json["config"], *manifest.json["layers"]]:
        reply = client.ask("GET", f"/v2/{name}/blobs/{item['digest']}")
        assert reply.status == 200
        assert digest_of(reply.body) == item["digest"]
        data = reply.body
    return data


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Client]:
    with serving(Store.open(tmp_path / "corp")) as client:
        yield client


def until(client: Client, happened: Callable[[], bool]) -> None:
    """What a fill does after its last byte was sent takes a moment."""
    for _ in range(2000):
        if happened():
            return
        client.ask("GET", "/v2/")
    raise AssertionError("it does not happen")


def listed(store: Store) -> list[str]:
    return sorted(entry.reference.repository for entry in store.entries())


def stored_bytes(store: Store) -> int:
    sizes = []
    for path in (store.root / "blobs/sha256").iterdir():
        with suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    return sum(sizes)


def test_a_pulled_model_stays_and_is_served_while_upstream_is_down(tmp_path: Path) -> None:
    with serving(Store.open(tmp_path / "corp")) as corp:
        digest = push(corp)
        netloc = corp.netloc
        with bridging(tmp_path, netloc) as (client, store):
            assert pull(client) == WEIGHTS
            until(client, lambda: listed(store) == [NAME])
            assert str(store.entries()[0].reference) == f"{netloc}/{NAME}:1"
            assert str(store.entries()[0].descriptor.digest) == digest
    with bridging(tmp_path, netloc) as (client, _):
        assert pull(client) == WEIGHTS
        assert client.ask("GET", f"/v2/{NAME}/tags/list").json["tags"] == ["1"]
        assert client.ask("GET", "/v2/_catalog").json["repositories"] == [NAME]
        absent = client.ask("GET", f"/v2/{NAME}/manifests/2")
        assert absent.status == 502


def test_a_moved_tag_is_seen_at_once(tmp_path: Path, upstream: Client) -> None:
    push(upstream)
    with bridging(tmp_path, upstream.netloc) as (client, _):
        pull(client)
        push(upstream, weights=b"new")
        assert pull(client) == b"new"


def test_a_prefix_hides_the_rest_of_the_upstream(tmp_path: Path, upstream: Client) -> None:
    push(upstream, name="models/team/smol")
    push(upstream, name="secret/x")
    with bridging(tmp_path, f"{upstream.netloc}/models") as (client, _):
        assert pull(client) == WEIGHTS
        assert client.ask("GET", "/v2/_catalog").json["repositories"] == [NAME]
        assert client.ask("GET", "/v2/secret/x/manifests/1").status == 404


def test_unknown_things_are_404(tmp_path: Path, upstream: Client) -> None:
    push(upstream)
    with bridging(tmp_path, upstream.netloc) as (client, _):
        for path in (
            f"{NAME}/manifests/9",
            f"{NAME}/manifests/{digest_of(b'x')}",
            f"{NAME}/blobs/{digest_of(b'x')}",
            "no/such/tags/list",
        ):
            assert client.ask("GET", f"/v2/{path}").status == 404


def test_without_a_cache_nothing_is_kept(tmp_path: Path, upstream: Client) -> None:
    push(upstream)
    with bridging(tmp_path, upstream.netloc, cache_size=0) as (client, store):
        assert pull(client) == WEIGHTS
        part = client.ask(
            "GET", f"/v2/{NAME}/blobs/{digest_of(WEIGHTS)}", headers={"Range": "bytes=9-19"}
        )
        assert (part.status, part.body) == (206, WEIGHTS[9:20])
        assert not list((store.root / "blobs" / "sha256").iterdir())


def test_many_readers_of_a_new_blob_cost_one_fetch(tmp_path: Path, upstream: Client) -> None:
    push(upstream)
    with bridging(tmp_path, upstream.netloc) as (client, _):
        url = f"/v2/{NAME}/blobs/{digest_of(WEIGHTS)}"
        got: list[bool] = []

        def read(start: int) -> None:
            reply = client.ask("GET", url, headers={"Range": f"bytes={start}-{start + 9999}"})
            got.append(reply.body == WEIGHTS[start : start + 10_000])

        threads = [threading.Thread(target=read, args=(at,)) for at in range(0, 1_000_000, 62_500)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert got == [True] * 16
        assert client.ask("GET", url).body == WEIGHTS
    assert sum(line.startswith(f"GET {url}") for line in upstream.seen) == 1


@pytest.mark.parametrize("cache_size", [None, 0])
def test_a_blob_that_is_gone_upstream_is_an_error_and_no_empty_answer(
    tmp_path: Path, upstream: Client, cache_size: int | None
) -> None:
    push(upstream)
    with bridging(tmp_path, upstream.netloc, cache_size=cache_size) as (client, _):
        client.ask("GET", f"/v2/{NAME}/manifests/1")
        (tmp_path / "corp" / "blobs" / "sha256" / hashlib.sha256(WEIGHTS).hexdigest()).unlink()
        reply = client.ask("GET", f"/v2/{NAME}/blobs/{digest_of(WEIGHTS)}")
        assert reply.status in (404, 502)
        assert reply.json["errors"]


def test_damaged_content_never_arrives_whole(tmp_path: Path) -> None:
    with serving(Store.open(tmp_path / "corp")) as corp:
        push(corp)
        path = tmp_path / "corp" / "blobs" / "sha256" / hashlib.sha256(WEIGHTS).hexdigest()
        path.chmod(0o644)
        path.write_bytes(WEIGHTS[:-1] + b"!")
        with bridging(tmp_path, corp.netloc) as (client, store):
            client.ask("GET", f"/v2/{NAME}/manifests/1")
            with pytest.raises(http.client.IncompleteRead):
                client.ask("GET", f"/v2/{NAME}/blobs/{digest_of(WEIGHTS)}")
            assert not store.path(Digest.of(WEIGHTS)).exists()
            assert store.entries() == ()


def test_a_mirror_that_is_wrong_costs_one_try(tmp_path: Path, upstream: Client) -> None:
    weights = WEIGHTS * 6
    push(upstream, weights=weights)
    with serving(Store.open(tmp_path / "mirror")) as mirror:
        push(mirror, weights=weights)
        path = Store.open(tmp_path / "mirror").path(Digest.of(weights))
        path.chmod(0o644)
        path.write_bytes(weights[:-1] + b"!")
        behind = {upstream.netloc: RegistrySettings(mirrors=(mirror.netloc,))}
        with bridging(tmp_path, upstream.netloc, registries=behind) as (client, _):
            client.ask("GET", f"/v2/{NAME}/manifests/1")
            with pytest.raises(http.client.IncompleteRead):
                client.ask("GET", f"/v2/{NAME}/blobs/{digest_of(weights)}")
            assert pull(client) == weights


def test_the_cache_makes_room_by_oldest_use(tmp_path: Path, upstream: Client) -> None:
    for number in (1, 2, 3):
        push(upstream, weights=bytes([number]) * 400_000, name=f"team/m{number}")
    with bridging(tmp_path, upstream.netloc, cache_size=1_000_000) as (client, store):
        for number in (1, 2):
            pull(client, name=f"team/m{number}")
        until(client, lambda: listed(store) == ["team/m1", "team/m2"])
        pull(client, name="team/m3")
        until(client, lambda: listed(store) == ["team/m2", "team/m3"])
        until(client, lambda: stored_bytes(store) < 1_000_000)
        assert pull(client, name="team/m1") == b"\1" * 400_000


def test_without_room_a_pull_still_goes_through(tmp_path: Path, upstream: Client) -> None:
    push(upstream)
    with bridging(tmp_path, upstream.netloc, max_store_size=10_000) as (client, store):
        assert pull(client) == WEIGHTS
        assert stored_bytes(store) < 10_000
        refused = client.ask("POST", f"/v2/{NAME}/blobs/uploads/?digest={digest_of(b'x')}", WEIGHTS)
        assert (refused.status, refused.code) == (403, "DENIED")


def test_what_is_pushed_through_counts_as_cached(tmp_path: Path, upstream: Client) -> None:
    with bridging(tmp_path, upstream.netloc, cache_size=1_000_000) as (client, store):
        for number in (1, 2, 3):
            push(client, weights=bytes([number]) * 400_000, name=f"team/m{number}")
        assert listed(store) == ["team/m2", "team/m3"]
        push(client, weights=bytes(1_500_000), name="team/large")
        assert listed(store) == []
        assert pull(client, name="team/large") == bytes(1_500_000)
        assert len(upstream.ask("GET", "/v2/_catalog").json["repositories"]) == 4


def test_a_push_goes_on_to_the_upstream(tmp_path: Path, upstream: Client) -> None:
    with bridging(tmp_path, upstream.netloc) as (client, store):
        digest = push(client)
        assert (
            upstream.ask("GET", f"/v2/{NAME}/manifests/1").header("Docker-Content-Digest") == digest
        )
        assert pull(upstream) == WEIGHTS
        assert len(store.entries()) == 1
        refused = client.ask("DELETE", f"/v2/{NAME}/manifests/1")
        assert (refused.status, refused.code) == (405, "UNSUPPORTED")


def test_a_push_of_absent_blobs_is_refused(tmp_path: Path, upstream: Client) -> None:
    with bridging(tmp_path, upstream.netloc) as (client, _):
        value = client.image(NAME, WEIGHTS)
        value["layers"][0]["digest"] = digest_of(b"absent")
        raw = json.dumps(value).encode()
        reply = client.put_manifest(NAME, "1", raw, value["mediaType"])
        assert (reply.status, reply.code) == (400, "MANIFEST_BLOB_UNKNOWN")
        assert upstream.ask("GET", f"/v2/{NAME}/manifests/1").status == 404


@pytest.mark.registry
def test_real_ollama_uses_a_private_registry_through_the_bridge(tmp_path: Path) -> None:
    """Basic auth, relative knowledge of nothing: what Ollama itself cannot do at all."""
    with (
        docker_registry(tmp_path / "registry", login=True) as corp,
        bridging(tmp_path, f"{corp.host}/models", login=True) as (client, _),
    ):
        ollama = Ollama(tmp_path / "ollama", client.netloc, part_size=100_000)
        ollama.create("team/smol:1", {"model": WEIGHTS, "system": b"Be brief."}, {"a": 1})
        ollama.push("team/smol:1")
        other = Ollama(tmp_path / "other", client.netloc, part_size=100_000)
        assert json.loads(other.pull("team/smol:1"))["layers"][0]["size"] == len(WEIGHTS)
        with bridging(tmp_path, f"{corp.host}/models", home="cold", login=True) as (cold, _):
            third = Ollama(tmp_path / "third", cold.netloc, part_size=100_000)
            third.pull("team/smol:1")


@pytest.mark.registry
def test_wrong_credentials_upstream_are_no_verdict_on_the_client(tmp_path: Path) -> None:
    with (
        docker_registry(tmp_path / "registry", login=True) as corp,
        bridging(tmp_path, corp.host) as (client, _),
    ):
        reply = client.ask("GET", f"/v2/{NAME}/manifests/1")
        assert (reply.status, reply.code) == (502, "DENIED")
        assert "WWW-Authenticate" not in reply.headers


def test_referrers_come_from_the_upstream(tmp_path: Path, upstream: Client) -> None:
    digest = push(upstream)
    subject = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest}
    value = upstream.image(NAME, subject=subject | {"size": 1}, artifactType="x/sbom")
    made = upstream.push_manifest(NAME, digest_of(json.dumps(value).encode()), value)
    with bridging(tmp_path, upstream.netloc) as (client, _):
        found = client.ask("GET", f"/v2/{NAME}/referrers/{digest}").json["manifests"]
        assert [item["digest"] for item in found] == [made]


def test_a_bridge_can_be_read_only(tmp_path: Path, upstream: Client) -> None:
    push(upstream)
    folder = tmp_path / "ro"
    options = Options(
        home=parse_upstream(upstream.netloc),
        upstream=Settings(folder, {"HOME": str(folder)}),
        read_only=True,
    )
    with serving(Store.open(folder), options) as client:
        assert pull(client) == WEIGHTS
        assert client.ask("POST", f"/v2/{NAME}/blobs/uploads/").status == 405


@pytest.mark.parametrize("text", ["", "team", "team/smol", "reg.corp:x", "reg.corp/A B"])
def test_what_is_no_upstream_is_refused(text: str) -> None:
    with pytest.raises(InvalidOption):
        parse_upstream(text)


def test_a_push_of_ollama_s_becomes_oci_where_only_that_is_taken(tmp_path: Path) -> None:
    docker = "application/vnd.docker.distribution.manifest.v2+json"
    with (
        serving(Store.open(tmp_path / "corp"), refused_type=docker) as corp,
        bridging(tmp_path, corp.netloc) as (client, _),
    ):
        ollama = Ollama(tmp_path / "ollama", client.netloc)
        ollama.create("team/smol:1", {"model": WEIGHTS, "system": b"Be brief."}, {"a": 1})
        ollama.push("team/smol:1")
        stored = corp.ask("GET", "/v2/team/smol/manifests/1")
        assert stored.json["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
        # Through the bridge and without it, Ollama gets back what it pushed, byte for byte.
        pushed = ollama.manifest_path("team/smol:1").read_bytes().rstrip(b"\n")
        for number, netloc in enumerate((client.netloc, corp.netloc)):
            other = Ollama(tmp_path / f"other{number}", netloc)
            assert other.pull("team/smol:1") == pushed


@pytest.mark.registry
def test_a_private_registry_with_tls_and_password(tmp_path: Path) -> None:
    """What registry-compose.yml sets up, without Docker."""
    certificate, key = tmp_path / "ca.crt", tmp_path / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(
        ["openssl", "req", "-x509", *curve, *subject, *files], check=True, capture_output=True
    )
    tls = {
        "REGISTRY_HTTP_TLS_CERTIFICATE": str(certificate),
        "REGISTRY_HTTP_TLS_KEY": str(key),
    }
    flags = RegistrySettings(plain_http=False, ca_file=certificate)
    with docker_registry(tmp_path / "registry", login=True, environ=tls) as corp:
        name = corp.host.replace("127.0.0.1", "localhost")
        with bridging(tmp_path, name, login=True, flags=flags) as (client, _):
            ollama = Ollama(tmp_path / "ollama", client.netloc)
            ollama.create("team/smol:1", {"model": WEIGHTS}, {"a": 1})
            ollama.push("team/smol:1")
            Ollama(tmp_path / "other", client.netloc).pull("team/smol:1")
