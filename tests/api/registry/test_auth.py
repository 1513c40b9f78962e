"""Keys, tokens and challenges: what clients send, and what they must not get away with."""

import base64
import json
import subprocess
from pathlib import Path

import pytest
from support.node import Client
from support.ollama_client import Key, Ollama, OllamaError

from pannier.pkgmgr.access import PULL, PUSH, Keyring
from pannier.pkgmgr.store.store import Store

LAYERS = {"model": b"GGUF" + bytes(range(256)) * 1000, "system": b"Be brief."}


@pytest.fixture
def keyring(store: Store) -> Keyring:
    return Keyring(store.root)


def basic(secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"robot:{secret}".encode()).decode()}


def ollama_of(client: Client, folder: Path, key: Key | None = None) -> Ollama:
    return Ollama(folder, client.netloc, part_size=100_000, key=key)


def test_without_a_key_file_the_registry_is_open(client: Client) -> None:
    assert client.ask("GET", "/v2/").status == 200


def test_with_a_key_everything_is_challenged(client: Client, keyring: Keyring) -> None:
    keyring.add_secret(name="ci", scopes=(PULL, PUSH))
    bare = client.ask("GET", "/v2/")
    assert (bare.status, bare.code) == (401, "UNAUTHORIZED")
    realm = f'Bearer realm="http://{client.netloc}/v2/token",service="pannier"'
    assert bare.header("WWW-Authenticate") == realm
    tagged = client.ask("GET", "/v2/team/smol/manifests/1")
    assert tagged.header("WWW-Authenticate") == f'{realm},scope="repository:team/smol:pull"'
    pushing = client.ask("POST", "/v2/team/smol/blobs/uploads/").header("WWW-Authenticate")
    assert pushing == f'{realm},scope="repository:team/smol:pull,push"'
    assert client.ask("GET", "/v2/_catalog").status == 401


def test_an_allowed_ollama_pushes_and_pulls(
    client: Client, keyring: Keyring, tmp_path: Path
) -> None:
    key = Key()
    keyring.add_ollama(key.public_line, name=None, scopes=(PULL, PUSH))
    ollama = ollama_of(client, tmp_path / "one", key)
    ollama.create("team/smol:1", LAYERS, {"a": 1})
    ollama.push("team/smol:1")
    other = ollama_of(client, tmp_path / "two", key)
    other.pull("team/smol:1")
    # The ranges came without credentials, from the URL that the answer named.
    assert any("grant=" in line for line in other.requests)


def test_an_unknown_ollama_gets_nowhere(client: Client, keyring: Keyring, tmp_path: Path) -> None:
    keyring.add_ollama(Key().public_line, name=None, scopes=(PULL,))
    with pytest.raises(OllamaError, match="401"):
        ollama_of(client, tmp_path / "one").pull("team/smol:1")


def test_an_ollama_that_may_only_pull_cannot_push(
    client: Client, keyring: Keyring, tmp_path: Path
) -> None:
    key = Key()
    keyring.add_ollama(key.public_line, name=None, scopes=(PULL,))
    ollama = ollama_of(client, tmp_path / "one", key)
    ollama.create("team/smol:1", LAYERS, {"a": 1})
    with pytest.raises(OllamaError, match="403"):
        ollama.push("team/smol:1")


def signed_url(client: Client, ts: str, nonce: str = "n") -> str:
    scope = "scope=repository%3Ateam%2Fsmol%3Apull"
    return f"http://{client.netloc}/v2/token?nonce={nonce}&{scope}&service=pannier&ts={ts}"


def test_a_signature_works_once_and_only_for_its_url(client: Client, keyring: Keyring) -> None:
    import time

    key = Key()
    keyring.add_ollama(key.public_line, name=None, scopes=(PULL,))
    url = signed_url(client, str(int(time.time())))
    headers = {"Authorization": key.authorization("GET", url)}
    assert client.ask("GET", url.replace("smol", "other"), headers=headers).status == 401
    first = client.ask("GET", url, headers=headers)
    assert first.json["token"] == first.json["access_token"]
    assert client.ask("GET", url, headers=headers).status == 401


@pytest.mark.parametrize("ts", ["0", "", "x", "99999999999999999999"])
def test_a_signature_of_another_time_is_refused(client: Client, keyring: Keyring, ts: str) -> None:
    key = Key()
    keyring.add_ollama(key.public_line, name=None, scopes=(PULL,))
    url = signed_url(client, ts)
    reply = client.ask("GET", url, headers={"Authorization": key.authorization("GET", url)})
    assert reply.status == 401


@pytest.mark.parametrize(
    "header",
    [
        "Basic Og==",
        "Basic !!!",
        "Basic",
        "Bearer",
        "Bearer x.y",
        "Bearer eyJzdWIiOiJ4In0.AAAA",
        "Bearer pnr_00000000_x",
        ":",
        "a:b",
        "AAAA:" + "A" * 10_000,
        "Digest x",
    ],
)
def test_what_is_no_credential_is_refused(client: Client, keyring: Keyring, header: str) -> None:
    keyring.add_secret(name="ci", scopes=(PULL, PUSH))
    for path in ("/v2/", "/v2/team/smol/manifests/1", "/v2/token"):
        assert client.ask("GET", path, headers={"Authorization": header}).status == 401


def test_a_key_works_as_password_and_as_bearer(client: Client, keyring: Keyring) -> None:
    key, secret = keyring.add_secret(name="ci", scopes=(PULL, PUSH))
    bearer = {"Authorization": f"Bearer {secret}"}
    for headers in (basic(secret), bearer):
        assert client.ask("GET", "/v2/", headers=headers).status == 200
        assert client.ask("POST", "/v2/a/b/blobs/uploads/", headers=headers).status == 202
    keyring.remove(key.id)
    assert client.ask("GET", "/v2/", headers=bearer).status == 401


def test_a_token_reaches_what_it_was_granted(client: Client, keyring: Keyring) -> None:
    key, secret = keyring.add_secret(name="ci", scopes=(PULL, PUSH))
    scope = "/v2/token?service=pannier&scope=repository:team/smol:pull"
    token = client.ask("GET", scope, headers=basic(secret)).json["token"]
    bearer = {"Authorization": f"Bearer {token}"}
    assert client.ask("GET", "/v2/", headers=bearer).status == 200
    assert client.ask("GET", "/v2/team/smol/tags/list", headers=bearer).status == 404
    assert client.ask("GET", "/v2/team/other/tags/list", headers=bearer).status == 401
    assert client.ask("POST", "/v2/team/smol/blobs/uploads/", headers=bearer).status == 401
    keyring.remove(key.id)
    assert client.ask("GET", "/v2/", headers=bearer).status == 401


def test_a_grant_is_for_one_blob_and_for_reading(client: Client, keyring: Keyring) -> None:
    _, secret = keyring.add_secret(name="ci", scopes=(PULL, PUSH))
    client.headers = basic(secret)
    digest = client.push_blob("team/smol", b"one")
    other = client.push_blob("team/smol", b"two")
    location = client.ask("GET", f"/v2/team/smol/blobs/{digest}").header("Location")
    client.headers = {}
    assert client.ask("GET", location).body == b"one"
    assert client.ask("GET", location.replace(digest, other)).status == 401
    assert client.ask("DELETE", location).status == 401
    assert client.ask("GET", location + "x").status == 401


def test_a_damaged_key_file_lets_nobody_in(client: Client, keyring: Keyring) -> None:
    _, secret = keyring.add_secret(name="ci", scopes=(PULL, PUSH))
    keyring.path.write_text('{"version":1,"keys":[],"keys":[]}')
    reply = client.ask("GET", "/v2/", headers=basic(secret))
    assert reply.status == 500
    assert str(keyring.path) not in reply.body.decode()


def test_the_key_file_is_private_and_holds_no_secret(keyring: Keyring) -> None:
    key, secret = keyring.add_secret(name="ci", scopes=(PULL,))
    assert keyring.path.stat().st_mode & 0o777 == 0o600
    assert secret.partition(f"{key.id}_")[2] not in keyring.path.read_text()


@pytest.mark.skopeo
def test_skopeo_logs_in_by_token(client: Client, keyring: Keyring, tmp_path: Path) -> None:
    _, secret = keyring.add_secret(name="ci", scopes=(PULL, PUSH))
    client.headers = basic(secret)
    client.push_manifest("team/smol", "1", client.image("team/smol", b"layer"))
    source = f"docker://{client.netloc}/team/smol:1"
    credentials = ("--src-creds", f"robot:{secret}")
    plain = ("--src-tls-verify=false", "--dest-tls-verify=false")
    for extra, code in ((credentials, 0), ((), 1)):
        target = f"oci:{tmp_path}/layout-{code}:1"
        command = ["skopeo", "copy", *plain, *extra, source, target]
        done = subprocess.run(command, capture_output=True, timeout=60)
        assert done.returncode == code, done.stderr


def test_key_commands(tmp_path: Path) -> None:
    import os
    import sys

    def pannier(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pannier.api.main", *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "PANNIER_HOME": str(tmp_path / "home")},
            timeout=60,
        )

    public = tmp_path / "id_ed25519.pub"
    public.write_text(Key().public_line)
    added = json.loads(pannier("key", "add-ollama", str(public), "--name", "bob", "--json").stdout)
    secret = pannier("key", "add", "ci", "--pull-only")
    assert secret.stdout.startswith("pnr_")
    listed = json.loads(pannier("key", "list", "--json").stdout)
    kinds = {item["name"]: item["kind"] for item in listed}
    assert kinds == {"bob": "ollama", "ci": "secret"}
    assert listed[1]["scopes"] == [PULL]
    assert pannier("key", "rm", added["id"]).returncode == 0
    assert pannier("key", "rm", added["id"]).returncode == 3
    public.write_text("ssh-rsa AAAA")
    assert pannier("key", "add-ollama", str(public)).returncode == 2
