"""settings.toml, registries.conf, proxies, limits."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from support.falseregistry import Handler, scripted
from support.hostile import DEMO
from support.transfers import open_quick, settings_in

from pannier.pkgmgr.errors import Cancelled, InvalidOption, NetworkError
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.settings import RegistrySettings, Settings, parse_rate
from pannier.pkgmgr.transfer.limit import RateLimit
from pannier.pkgmgr.transfer.network import proxies_for
from pannier.pkgmgr.transfer.retry import Stop

WHOLE = """
default_registry = "registry.corp/models"
jobs = 8
limit_rate = "20M"

[timeouts]
idle_s = 5

[short_names]
reviewer = "registry.corp/team/reviewer:1.2"

[registry."registry.corp"]
tls_verify = false
ca_file = "/etc/ca.pem"
token_host = "auth.corp"
mirrors = ["mirror.corp/cache"]
upload = "monolithic"

[registry."registry.corp/team"]
mirrors = []

[registry."evil.example"]
blocked = true
"""


def load(root: Path, text: str = "", **environ: str) -> Settings:
    (root / "settings.toml").write_text(text)
    return Settings.load({"PANNIER_HOME": str(root), "HOME": str(root), **environ})


def test_every_setting_is_read(tmp_path: Path) -> None:
    settings = load(tmp_path, WHOLE)
    assert str(settings.parse("x")) == "registry.corp/models/x:latest"
    assert (settings.jobs, settings.limit_rate, settings.timeouts.idle_s) == (8, 20_000_000, 5)
    said = settings.registry("registry.corp", "other/x")
    assert (said.tls_verify, said.ca_file) == (False, Path("/etc/ca.pem"))
    assert (said.token_host, said.mirrors, said.upload) == (
        "auth.corp",
        ("mirror.corp/cache",),
        "monolithic",
    )
    assert settings.registry("registry.corp", "team/x").mirrors == ()
    assert settings.registry("registry.corp", "teams/x").mirrors == ("mirror.corp/cache",)
    assert settings.registry("elsewhere.corp", "x") == RegistrySettings()


def test_short_names_stand_for_long_ones(tmp_path: Path) -> None:
    settings = load(tmp_path, WHOLE)
    assert str(settings.parse("reviewer")) == "registry.corp/team/reviewer:1.2"
    assert str(settings.parse("reviewer:2")) == "registry.corp/team/reviewer:2"
    digest = f"@sha256:{'a' * 64}"
    assert str(settings.parse(f"reviewer{digest}")) == f"registry.corp/team/reviewer{digest}"


def test_blocked_hosts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="blocked"):
        load(tmp_path, WHOLE).parse("evil.example/x")


def test_flags_go_before_the_file(tmp_path: Path) -> None:
    settings = load(tmp_path, WHOLE).with_flags(RegistrySettings(tls_verify=True))
    assert settings.registry("registry.corp").tls_verify is True


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "unknown = 1",
        "jobs = 0",
        "jobs = true",
        'limit_rate = "fast"',
        "[timeouts]\nnap_s = 1",
        "[timeouts]\nidle_s = -1",
        '[registry."a.b"]\nplain_http = "yes"',
        '[registry."a.b"]\nmirrors = "x"',
        '[registry."a.b"]\nupload = "odd"',
        'short_names = "x"',
        "[short_names]\na = 1",
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidOption, match="settings"):
        load(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("20M", 20_000_000), ("512k", 512_000), ("1.5Gi", 1610612736), ("100", 100), ("1MB/s", 10**6)],
)
def test_rates_are_read(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


REGISTRIES = """
unqualified-search-registries = ["docker.io"]
[aliases]
"tiny" = "registry.corp/team/tiny"
[[registry]]
prefix = "registry.corp/team"
location = "internal.corp/t"
[[registry.mirror]]
location = "mirror.corp"
insecure = true
[[registry]]
location = "bad.corp"
blocked = true
"""


def test_registries_conf_is_read_where_the_file_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "registries.conf").write_text(REGISTRIES)
    conf = {"CONTAINERS_REGISTRIES_CONF": str(tmp_path / "registries.conf")}
    settings = load(tmp_path, "", **conf)
    assert str(settings.parse("tiny")) == "registry.corp/team/tiny:latest"
    said = settings.registry("registry.corp", "team/tiny")
    assert (said.location, said.mirrors) == ("internal.corp/t", ("mirror.corp",))
    assert settings.registry("mirror.corp", "team/tiny").tls_verify is False
    with pytest.raises(InvalidOption):
        settings.parse("bad.corp/x")
    own = load(tmp_path, '[registry."registry.corp/team"]\nmirrors = ["m.corp"]', **conf)
    assert own.registry("registry.corp", "team/x").mirrors == ("m.corp",)


def test_a_proxy_is_used_and_no_proxy_is_honoured(tmp_path: Path) -> None:
    url = "https://registry.example/v2/"
    environ = {"HTTPS_PROXY": "proxy:3128", "NO_PROXY": "localhost,.corp"}
    assert proxies_for(url, environ) == {"https": "http://proxy:3128"}
    assert proxies_for("https://registry.corp/v2/", environ) == {}
    assert proxies_for("http://registry.example/", environ) == {}
    assert proxies_for(url, {"all_proxy": "http://p"}) == {"https": "http://p"}
    with scripted(DEMO) as proxy:
        settings = replace(
            settings_in(tmp_path),
            environ={"HTTP_PROXY": proxy.origin, "HOME": str(tmp_path)},
            flags=RegistrySettings(plain_http=True),
        )
        name = "registry.example/team/demo:1"
        with open_quick(name, tmp_path, settings=settings) as repository:
            assert repository.resolve(Reference.parse(name)) == DEMO.descriptor
    assert proxy.script.seen[0].path.startswith("http://registry.example/v2/")


def test_a_proxied_redirect_to_a_private_address_is_refused(tmp_path: Path) -> None:
    said = {"Location": "http://169.254.169.254/"}
    with scripted(hook=lambda handler: handler.answer(307, b"", said)) as proxy:
        settings = replace(
            settings_in(tmp_path),
            environ={"HTTP_PROXY": proxy.origin, "HOME": str(tmp_path)},
            flags=RegistrySettings(plain_http=True),
        )
        name = "registry.example/team/demo:1"
        with (
            open_quick(name, tmp_path, settings=settings) as repository,
            pytest.raises(NetworkError, match="private address"),
        ):
            repository.resolve(Reference.parse(name))


def test_a_rate_limit_is_kept() -> None:
    limit, begun = RateLimit(1_000_000), time.monotonic()
    for _ in range(50):
        limit.spend(10_000, Stop())
    assert 0.2 < time.monotonic() - begun < 2


def test_a_wait_ends_when_the_end_is_asked_for() -> None:
    stop = Stop()
    stop.set()
    with pytest.raises(Cancelled):
        RateLimit(1).spend(1000, stop)


def test_warnings_of_a_registry_are_told_once(tmp_path: Path) -> None:
    from pannier.pkgmgr.transfer.open import open_registry

    told: list[str] = []

    def hook(handler: Handler) -> bool:
        said = {"Warning": '299 - "this repository \x1b[1m moves"', "Content-Type": "x"}
        return handler.answer(200, b'{"tags": ["a"]}', said)

    with scripted(hook=hook) as server:
        reference = Reference.parse(f"{server.host}/team/demo:1")
        settings = settings_in(tmp_path)
        with open_registry(reference, settings=settings, on_warning=told.append) as repository:
            repository.list_tags()
            repository.list_tags()
    assert told == [f"{server.host}: this repository  [1m moves"]
