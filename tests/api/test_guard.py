"""Which hosts and origins may speak to the server."""

import pytest
from support.web import WebClient

from pannier.api.guard import Guard


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:11434", "127.0.0.1:80", "[::1]:11434", "192.168.1.4", "10.0.0.1:1",
     "my.localhost", "box.local", "api.internal", "0.0.0.0:11434"],
)  # fmt: skip
def test_local_hosts_are_allowed(client: WebClient, host: str) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "8.8.8.8", "localhost.evil.example", "[2606:4700::1]"]
)
def test_foreign_hosts_are_refused_with_an_empty_body(client: WebClient, host: str) -> None:
    response = client.get("/api/tags", headers={"Host": host})
    assert (response.status_code, response.data) == (403, b"")


def test_a_configured_host_is_allowed() -> None:
    assert Guard.of(hosts=["Models.Example"]).allows_host("models.example:443")


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost:3000",
        "https://127.0.0.1",
        "app://obsidian.md",
        "tauri://localhost",
        "chrome-extension://abcdef",
        "moz-extension://1-2",
    ],
)
def test_local_origins_get_cors_headers(client: WebClient, origin: str) -> None:
    response = client.get("/api/tags", headers={"Origin": origin})
    assert response.headers["Access-Control-Allow-Origin"] == origin
    preflight = client.options(
        "/api/chat", headers={"Origin": origin, "Access-Control-Request-Method": "POST"}
    )
    assert preflight.status_code == 204
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]


def test_foreign_origins_are_refused(client: WebClient) -> None:
    response = client.post("/api/chat", headers={"Origin": "https://evil.example"}, json={})
    assert (response.status_code, response.data) == (403, b"")
    assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("origin", ["http://localhost.evil.example", "http://localhost@evil.example",
                                    "null", "https://127.0.0.1.evil.example"])  # fmt: skip
def test_origins_that_only_look_local_are_refused(client: WebClient, origin: str) -> None:
    assert client.get("/api/tags", headers={"Origin": origin}).status_code == 403


def test_a_cross_site_request_without_an_origin_is_refused(client: WebClient) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert client.post("/api/pull", headers=headers, json={"model": "x"}).status_code == 403


def test_a_link_from_another_site_may_be_followed(client: WebClient) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/", headers=headers).status_code == 200
    assert client.post("/api/pull", headers=headers, json={}).status_code == 403


def test_every_answer_has_a_request_id(client: WebClient) -> None:
    first, second = client.get("/"), client.get("/")
    assert first.headers["X-Request-Id"] != second.headers["X-Request-Id"]
