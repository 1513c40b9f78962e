"""Trading credentials for tokens, at servers that know GET, OAuth2 POST, or one of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs

import pytest
from support.falseregistry import Handler, scripted
from support.hostile import DEMO, guarded
from support.transfers import pull, settings_in

from pannier.pkgmgr.errors import RegistryError, Unauthorized
from pannier.pkgmgr.settings import RegistrySettings
from pannier.pkgmgr.store.store import Store
from pannier.pkgmgr.transfer.credentials import Credential

SECRET = Credential("alice", "S3CRET")
IDENTITY = Credential(identity_token="R3FRESH")
GIVEN = json.dumps({"access_token": "good", "expires_in": 300}).encode()
UNSUPPORTED = b'{"errors": [{"code": "UNSUPPORTED", "message": "use POST"}]}'


@dataclass
class TokenServer:
    """Answers by the method; remembers methods, forms and logins."""

    get: tuple[int, bytes]
    post: tuple[int, bytes]
    asked: list[str] = field(default_factory=list)
    forms: list[dict[str, list[str]]] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)

    def __call__(self, handler: Handler) -> bool:
        self.asked.append(handler.command)
        self.logins.append(handler.headers.get("Authorization", ""))
        if handler.command == "POST":
            self.forms.append(parse_qs(handler.body().decode()))
            return handler.answer(*self.post)
        return handler.answer(*self.get)


def login(server: TokenServer, store: Store, credential: Credential | None) -> None:
    with scripted(DEMO) as registry:
        registry.script.hook = guarded(server)
        pull(f"{registry.host}/team/demo:1", store, credential=credential)


def test_a_password_goes_by_get_first(store: Store) -> None:
    server = TokenServer(get=(200, GIVEN), post=(405, b""))
    login(server, store, SECRET)
    assert server.asked == ["GET"]
    assert server.logins == [SECRET.basic]


@pytest.mark.parametrize("refusal", [(404, b""), (405, b""), (400, UNSUPPORTED)])
def test_a_password_goes_by_post_where_the_server_has_no_get(
    store: Store, refusal: tuple[int, bytes]
) -> None:
    server = TokenServer(get=refusal, post=(200, GIVEN))
    login(server, store, SECRET)
    assert server.asked == ["GET", "POST"]
    assert server.forms == [
        {
            "grant_type": ["password"],
            "username": ["alice"],
            "password": ["S3CRET"],
            "service": ["s"],
            "client_id": ["pannier"],
            "scope": ["repository:team/demo:pull"],
        }
    ]
    assert server.logins[1] == ""


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_password_that_get_refuses_is_not_tried_by_post(store: Store, status: int) -> None:
    server = TokenServer(get=(status, b""), post=(200, GIVEN))
    with pytest.raises(Unauthorized, match="refused the user name and password"):
        login(server, store, SECRET)
    assert server.asked == ["GET"]


def test_a_password_that_post_refuses_is_tried_once(store: Store) -> None:
    server = TokenServer(get=(405, b""), post=(400, b'{"error": "invalid_grant"}'))
    with pytest.raises(Unauthorized, match="refused the user name and password") as caught:
        login(server, store, SECRET)
    assert server.asked == ["GET", "POST"]
    assert "S3CRET" not in f"{caught.value} {caught.value.hint}"


def test_a_server_without_get_and_post_is_named(store: Store) -> None:
    server = TokenServer(get=(404, b""), post=(405, b""))
    with pytest.raises(RegistryError, match="answered 405"):
        login(server, store, SECRET)


def test_nobody_is_never_sent_by_post(store: Store) -> None:
    server = TokenServer(get=(405, b""), post=(200, GIVEN))
    with pytest.raises(RegistryError, match="answered 405"):
        login(server, store, None)
    assert server.asked == ["GET"]


def test_an_identity_token_goes_by_post(store: Store) -> None:
    server = TokenServer(get=(500, b""), post=(200, GIVEN))
    login(server, store, IDENTITY)
    assert server.asked == ["POST"]
    assert server.forms[0]["grant_type"] == ["refresh_token"]
    assert server.forms[0]["refresh_token"] == ["R3FRESH"]


@pytest.mark.parametrize("status", [404, 405])
@pytest.mark.parametrize("user", ["", "00000000-0000"])
def test_an_identity_token_is_a_password_where_the_server_has_no_post(
    store: Store, status: int, user: str
) -> None:
    server = TokenServer(get=(200, GIVEN), post=(status, b""))
    login(server, store, Credential(user, identity_token="R3FRESH"))
    assert server.asked == ["POST", "GET"]
    assert server.logins[1] == Credential(user or "<token>", "R3FRESH").basic


@pytest.mark.parametrize("status", [401, 404, 405])
def test_a_server_that_takes_no_identity_tokens_is_named(store: Store, status: int) -> None:
    server = TokenServer(get=(status, b""), post=(405, b""))
    with pytest.raises(Unauthorized, match="takes no identity tokens"):
        login(server, store, IDENTITY)
    assert server.asked == ["POST", "GET"]


def test_an_identity_token_that_is_refused_is_told_so(store: Store) -> None:
    server = TokenServer(get=(200, GIVEN), post=(401, b""))
    with pytest.raises(Unauthorized, match="refused the identity token"):
        login(server, store, IDENTITY)
    assert server.asked == ["POST"]


def no_get(handler: Handler) -> bool:
    return handler.answer(405)


@pytest.mark.parametrize("credential", [SECRET, IDENTITY])
def test_a_token_server_elsewhere_sees_no_form(store: Store, credential: Credential) -> None:
    with scripted(hook=no_get) as capture, scripted(DEMO) as registry:
        elsewhere = f'Bearer realm="{capture.origin}/token",service="s"'
        registry.script.hook = guarded(no_get, challenge=elsewhere)
        with pytest.raises(RegistryError):
            pull(f"{registry.host}/team/demo:1", store, credential=credential)
    assert [seen.method for seen in capture.script.seen] == ["GET"]
    assert "authorization" not in capture.script.seen[0].headers


def away_to(origin: str) -> Callable[[Handler], bool]:
    def hook(handler: Handler) -> bool:
        handler.body()
        if handler.command == "GET":
            return handler.answer(405)
        return handler.answer(307, b"", {"Location": f"{origin}/token"})

    return hook


def test_a_redirect_of_a_form_is_not_followed(store: Store) -> None:
    with scripted() as capture, scripted(DEMO) as registry:
        registry.script.hook = guarded(away_to(capture.origin))
        with pytest.raises(RegistryError, match="answered 307"):
            pull(f"{registry.host}/team/demo:1", store, credential=SECRET)
    assert capture.script.seen == []


def test_a_named_token_server_gets_the_form(store: Store) -> None:
    server = TokenServer(get=(405, b""), post=(200, GIVEN))
    with scripted(hook=server) as named, scripted(DEMO) as registry:
        settings = settings_in(store.root).with_flags(RegistrySettings(token_host=named.host))
        elsewhere = f'Bearer realm="{named.origin}/token",service="s"'
        registry.script.hook = guarded(no_get, challenge=elsewhere)
        name = f"{registry.host}/team/demo:1"
        pull(name, store, credential=SECRET, settings=settings)
    assert server.forms[0]["password"] == ["S3CRET"]
