"""Secrets stay with the origin they were given for, whatever a registry says; and logins work.

The six places where a registry chooses a URL: token server, its redirects, redirects of content,
upload locations, links of lists, and the urls of descriptors.
"""

from __future__ import annotations

import base64
import io
import json
import os
import ssl
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.artifacts import describe
from support.falseregistry import Handler, Server, scripted
from support.hostile import BIG, BIG_DIGEST, DEMO, guarded
from support.registry import PASSWORD, PROGRAM, USER, docker_registry
from support.transfers import open_quick, pull, settings_in

from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import (
    InvalidOption,
    NetworkError,
    PannierError,
    TransferError,
    Unauthorized,
)
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.settings import RegistrySettings
from pannier.pkgmgr.store.store import Store
from pannier.pkgmgr.transfer.credentials import Credential, Keychain
from pannier.pkgmgr.transfer.origin import follow

SECRET = Credential("alice", "S3CRET")
BASIC = SECRET.basic


@pytest.fixture
def capture() -> Iterator[Server]:
    """A second host: it gives a token and the layer to whoever asks, and remembers everything."""

    def hook(handler: Handler) -> bool:
        handler.body()
        if "/token" in handler.path:
            return handler.answer(200, json.dumps({"token": "good"}).encode())
        if handler.command in ("PUT", "PATCH"):
            return handler.answer(201, b"")
        return handler.answer(200, BIG)

    with scripted(hook=hook) as server:
        yield server


def assert_saw_no_secret(capture: Server) -> None:
    assert capture.script.seen, "it was never asked"
    for seen in capture.script.seen:
        text = f"{seen.path} {seen.headers}"
        assert "authorization" not in seen.headers
        assert SECRET.password not in text
        assert BASIC.removeprefix("Basic ") not in text
        assert "good" not in text
        assert "cookie" not in seen.headers


def logged_in(handler: Handler) -> bool:
    """Basic login; False once the right password came."""
    if handler.headers.get("Authorization") == BASIC:
        return False
    return handler.answer(401, b"", {"WWW-Authenticate": 'Basic realm="x"'})


# The six places


def test_1_a_token_server_elsewhere_gets_no_password(capture: Server, store: Store) -> None:
    with scripted(DEMO) as server:
        elsewhere = f'Bearer realm="{capture.origin}/token",service="s"'
        server.script.hook = guarded(lambda handler: False, challenge=elsewhere)
        pull(f"{server.host}/team/demo:1", store, credential=SECRET)
    assert_saw_no_secret(capture)


def test_1_a_token_server_that_the_user_named_gets_it(capture: Server, store: Store) -> None:
    settings = settings_in(store.root).with_flags(RegistrySettings(token_host=capture.host))
    with scripted(DEMO) as server:
        elsewhere = f'Bearer realm="{capture.origin}/token",service="s"'
        server.script.hook = guarded(lambda handler: False, challenge=elsewhere)
        pull(f"{server.host}/team/demo:1", store, credential=SECRET, settings=settings)
    assert [seen.headers["authorization"] for seen in capture.script.seen] == [BASIC]


def test_1_a_token_server_elsewhere_that_insists_is_named(store: Store) -> None:
    with (
        scripted(hook=lambda handler: handler.answer(401)) as refusing,
        scripted(DEMO) as server,
    ):
        elsewhere = f'Bearer realm="{refusing.origin}/token",service="s"'
        server.script.hook = guarded(lambda handler: False, challenge=elsewhere)
        with pytest.raises(Unauthorized, match="which you did not name") as caught:
            pull(f"{server.host}/team/demo:1", store, credential=SECRET)
    assert caught.value.hint is not None
    assert refusing.host in caught.value.hint


def test_2_a_redirect_of_the_token_request_loses_the_password(
    capture: Server, store: Store
) -> None:
    def away(handler: Handler) -> bool:
        return handler.answer(307, b"", {"Location": f"{capture.origin}/token"})

    with scripted(DEMO) as server:
        server.script.hook = guarded(away)
        pull(f"{server.host}/team/demo:1", store, credential=SECRET)
        asked = server.script.requests("GET", "/token")
    assert asked[0].headers["authorization"] == BASIC
    assert_saw_no_secret(capture)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_3_a_redirect_of_content_is_followed_without_login(
    capture: Server, store: Store, status: int
) -> None:
    def hook(handler: Handler) -> bool:
        if BIG_DIGEST in handler.path and handler.command == "GET":
            return handler.answer(status, b"", {"Location": f"{capture.origin}/cdn?sig=a%2F"})
        return logged_in(handler)

    with scripted(DEMO, hook=hook) as server:
        pull(f"{server.host}/team/demo:1", store, credential=SECRET)
    assert store.exists(DEMO.blobs[1][0])
    assert_saw_no_secret(capture)
    assert {seen.path for seen in capture.script.seen} == {"/cdn?sig=a%2F"}


def test_4_an_upload_location_elsewhere_gets_the_bytes_only(
    capture: Server, tmp_path: Path
) -> None:
    def hook(handler: Handler) -> bool:
        if handler.command == "POST" and handler.headers.get("Authorization") == BASIC:
            return handler.answer(202, b"", {"Location": f"{capture.origin}/up?x=1&x=&sig=%3D"})
        return logged_in(handler)

    with (
        scripted(hook=hook) as server,
        open_quick(f"{server.host}/team/demo", tmp_path, credential=SECRET) as repository,
    ):
        repository.push(describe(b"data"), io.BytesIO(b"data"))
    assert_saw_no_secret(capture)
    (put,) = capture.script.seen
    assert put.path == f"/up?x=1&x=&sig=%3D&digest={Digest.of(b'data')}"


def test_5_a_link_of_a_list_elsewhere_is_not_followed(capture: Server, tmp_path: Path) -> None:
    def hook(handler: Handler) -> bool:
        link = {"Link": f'<{capture.origin}/v2/x/tags/list>; rel="next"'}
        return logged_in(handler) or handler.answer(200, b'{"tags": ["a"]}', link)

    with (
        scripted(hook=hook) as server,
        open_quick(f"{server.host}/team/demo", tmp_path, credential=SECRET) as repository,
        pytest.raises(NetworkError),
    ):
        repository.list_tags()
    assert capture.script.seen == []


def test_6_the_urls_of_a_descriptor_are_never_asked(capture: Server, store: Store) -> None:
    layer = {**DEMO.blobs[1][0].to_json(), "urls": [f"{capture.origin}/foreign"]}
    raw = json.dumps({**json.loads(DEMO.raw), "layers": [layer]}).encode()
    with scripted(DEMO) as server:
        digest = str(Digest.of(raw))
        server.script.manifests[digest] = DEMO.descriptor.media_type, raw
        server.script.tags["1"] = digest
        pull(f"{server.host}/team/demo:1", store, credential=SECRET)
    assert capture.script.seen == []


def test_another_port_or_scheme_is_another_origin() -> None:
    assert follow("https://a/", "https://a:8443/x") == "https://a:8443/x"
    with pytest.raises(NetworkError):
        follow("https://a/", "http://a/x")


def test_no_secret_stands_in_an_error_or_a_repr(store: Store) -> None:
    with (
        scripted(hook=lambda h: h.answer(401, b"", {"WWW-Authenticate": "Basic"})) as server,
        pytest.raises(Unauthorized) as caught,
    ):
        pull(f"{server.host}/team/demo:1", store, credential=SECRET)
    assert "S3CRET" not in f"{caught.value} {caught.value.hint} {SECRET!r}"


# Logins


@pytest.mark.registry
@pytest.mark.skipif(PROGRAM is None, reason="docker-registry is not installed")
def test_basic_login_at_docker_registry(store: Store, tmp_path: Path) -> None:
    with docker_registry(tmp_path / "registry", login=True) as registry:
        name = f"{registry.host}/team/demo:1"
        right = Credential(USER, PASSWORD)
        with open_quick(name, tmp_path, credential=right) as repository:
            DEMO.push_to(repository, name)
        pull(name, store, credential=right)
        for wrong in (None, Credential(USER, "wrong")):
            with pytest.raises(Unauthorized):
                pull(name, store, credential=wrong)


def test_a_wrong_password_is_tried_once(store: Store) -> None:
    with scripted(hook=lambda h: h.answer(401, b"", {"WWW-Authenticate": "Basic"})) as server:
        with pytest.raises(Unauthorized, match="refused the user name and password"):
            pull(f"{server.host}/team/demo:1", store, credential=SECRET)
        sent = [seen.headers.get("authorization") for seen in server.script.seen]
    assert sent == [None, BASIC]


def test_one_token_serves_a_whole_pull(store: Store) -> None:
    def token(handler: Handler) -> bool:
        return handler.answer(200, b'{"access_token": "good", "expires_in": 300}')

    with scripted(DEMO) as server:
        server.script.hook = guarded(token)
        pull(f"{server.host}/team/demo:1", store)
        (asked,) = server.script.requests("GET", "/token")
    assert "scope=repository%3Ateam%2Fdemo%3Apull" in asked.path
    assert "service=s" in asked.path


def test_a_registry_token_is_sent_as_it_is(store: Store) -> None:
    with scripted(DEMO) as server:
        server.script.hook = guarded(lambda handler: handler.answer(500))
        pull(f"{server.host}/team/demo:1", store, credential=Credential(registry_token="good"))


# Where credentials come from


def keychain(root: Path, **environ: str) -> Keychain:
    return Keychain({"PATH": str(root), **environ}, home=root, own=root / "own.json")


def write(path: Path, **value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def pair(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


def test_docker_and_containers_files_are_read_in_order(tmp_path: Path) -> None:
    write(tmp_path / ".docker/config.json", auths={"r.example": pair("docker:1")})
    write(tmp_path / ".config/containers/auth.json", auths={"r.example": pair("podman:2")})
    found = keychain(tmp_path).find("r.example", "a/b")
    assert found == Credential("docker", "1")
    write(tmp_path / "named.json", auths={"r.example": pair("named:3")})
    named = keychain(tmp_path, REGISTRY_AUTH_FILE=str(tmp_path / "named.json"))
    assert named.find("r.example", "a/b") == Credential("named", "3")
    moved = keychain(tmp_path, DOCKER_CONFIG=str(tmp_path / "nowhere"))
    assert moved.find("r.example", "a/b") == Credential("podman", "2")
    assert keychain(tmp_path).find("other.example", "a") is None


def test_the_longest_path_and_dockers_spellings_count(tmp_path: Path) -> None:
    auths = {
        "https://index.docker.io/v1/": pair("hub:1"),
        "r.example": pair("host:2"),
        "r.example/team": pair("team:3"),
        "https://old.example/v1/": pair("old:4"),
        "t.example": {"identitytoken": "T"},
        "bad.example": {"auth": "%%%"},
    }
    write(tmp_path / ".docker/config.json", auths=auths)
    chain = keychain(tmp_path)
    assert chain.find("docker.io", "library/x") == Credential("hub", "1")
    assert chain.find("r.example", "team/x") == Credential("team", "3")
    assert chain.find("r.example", "teams/x") == Credential("host", "2")
    assert chain.find("old.example", "x") == Credential("old", "4")
    assert chain.find("t.example", "x") == Credential(identity_token="T")
    assert chain.find("bad.example", "x") is None


HELPER = """#!/bin/sh
if [ "$1" = get ]; then
  read server
  if [ "$server" = r.example ]; then
    echo '{"ServerURL":"r.example","Username":"<token>","Secret":"IDENTITY"}'
  else
    echo "credentials not found in native keychain"; exit 1
  fi
else
  IFS= read -r line; echo "$1 $line" >> "$0.log"
fi
"""


def helper(root: Path) -> Path:
    path = root / "docker-credential-test"
    path.write_text(HELPER)
    path.chmod(0o755)
    return path


def test_helpers_are_asked_and_told(tmp_path: Path) -> None:
    path = helper(tmp_path)
    write(tmp_path / ".docker/config.json", credHelpers={"r.example": "test"}, credsStore="test")
    chain = keychain(tmp_path, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert chain.find("r.example", "x") == Credential(identity_token="IDENTITY")
    assert chain.find("absent.example", "x") is None
    assert chain.store("r.example", Credential("u", "p")) == "docker-credential-test"
    assert '"Secret": "p"' in Path(f"{path}.log").read_text()
    assert "auths" not in json.loads((tmp_path / ".docker/config.json").read_text())


@pytest.mark.parametrize("name", ["../evil", "a b", "-x", "a/b", 5])
def test_a_helper_name_that_is_a_path_is_refused(tmp_path: Path, name: object) -> None:
    write(tmp_path / ".docker/config.json", credsStore=name)
    with pytest.raises(InvalidOption):
        keychain(tmp_path).find("r.example", "x")


def test_a_helper_that_is_not_there_is_named(tmp_path: Path) -> None:
    write(tmp_path / ".docker/config.json", credHelpers={"r.example": "absent"})
    with pytest.raises(PannierError, match="docker-credential-absent"):
        keychain(tmp_path).find("r.example", "x")


def test_what_was_stored_is_the_users_alone_and_can_be_erased(tmp_path: Path) -> None:
    chain = keychain(tmp_path)
    place = Path(chain.store("r.example", SECRET))
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert chain.find("r.example", "x") == SECRET
    assert chain.erase("r.example")
    assert chain.find("r.example", "x") is None
    assert not chain.erase("r.example")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text("{")
    with pytest.raises(InvalidOption, match="own"):
        keychain(tmp_path).find("r.example", "x")


# TLS

PEMS = Path(__file__).parents[2] / "support" / "tls"


def tls_server(certificate: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEMS / certificate, PEMS / "key.pem")
    return context


def https(root: Path, **said: object) -> RegistrySettings:
    return replace(RegistrySettings(plain_http=False), **said)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("certificate", "said", "is_well"),
    [
        ("right.pem", {"ca_file": PEMS / "right.pem"}, True),
        ("right.pem", {}, False),
        ("other.pem", {"ca_file": PEMS / "other.pem"}, False),
        ("right.pem", {"ca_file": PEMS / "other.pem"}, False),
        ("other.pem", {"tls_verify": False}, True),
    ],
    ids=["own CA", "unknown CA", "other host", "other CA", "unchecked"],
)
def test_certificates_are_checked(
    store: Store, certificate: str, said: dict[str, object], is_well: bool
) -> None:
    settings = settings_in(store.root).with_flags(https(store.root, **said))
    with scripted(DEMO, tls=tls_server(certificate)) as server:
        name = f"{server.host}/team/demo:1"
        if is_well:
            pull(name, store, settings=settings)
            return
        with pytest.raises(NetworkError, match="TLS"):
            pull(name, store, settings=settings)


def test_a_registry_without_tls_is_not_spoken_to_in_the_clear(store: Store) -> None:
    settings = settings_in(store.root).with_flags(https(store.root))
    with scripted(DEMO) as server:
        with pytest.raises(TransferError):
            pull(f"{server.host}/team/demo:1", store, settings=settings)
        assert server.script.seen == []


def test_a_certs_folder_is_found_by_host(store: Store) -> None:
    settings = settings_in(store.root).with_flags(https(store.root))
    with scripted(DEMO, tls=tls_server("right.pem")) as server:
        folder = settings.home / "certs.d" / server.host
        folder.mkdir(parents=True)
        (folder / "ca.crt").write_bytes((PEMS / "right.pem").read_bytes())
        pull(f"{server.host}/team/demo:1", store, settings=settings)


def test_a_client_certificate_is_shown(store: Store) -> None:
    context = tls_server("right.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(PEMS / "other.pem")
    said = {"ca_file": PEMS / "right.pem"}
    settings = settings_in(store.root).with_flags(https(store.root, **said))
    mine = {**said, "client_cert": PEMS / "other.pem", "client_key": PEMS / "key.pem"}
    with scripted(DEMO, tls=context) as server:
        name = f"{server.host}/team/demo:1"
        with pytest.raises(NetworkError):
            pull(name, store, settings=settings)
        pull(name, store, settings=settings_in(store.root).with_flags(https(store.root, **mine)))
    assert store.resolve(Reference.parse(name)) == DEMO.descriptor
