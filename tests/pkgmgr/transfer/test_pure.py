"""Grammar and arithmetic of transfers: challenges, origins, ranges, retries."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.pkgmgr.errors import NetworkError, RateLimited
from pannier.pkgmgr.store.spans import Spans
from pannier.pkgmgr.transfer.challenge import parse_challenges
from pannier.pkgmgr.transfer.listing import next_link
from pannier.pkgmgr.transfer.origin import Origin, Zone, follow, zone
from pannier.pkgmgr.transfer.retry import RetryPolicy, retry_after_s


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Basic", [("basic", {})]),
        ('Basic realm="a b"', [("basic", {"realm": "a b"})]),
        (
            'Bearer realm="https://x/t",service="r",scope="repository:a:pull,push"',
            [
                (
                    "bearer",
                    {"realm": "https://x/t", "service": "r", "scope": "repository:a:pull,push"},
                )
            ],
        ),
        (
            "Bearer realm=https://x/t, service=r",
            [("bearer", {"realm": "https://x/t", "service": "r"})],
        ),
        (
            'Negotiate, Basic realm="x", Bearer realm="y"',
            [("negotiate", {}), ("basic", {"realm": "x"}), ("bearer", {"realm": "y"})],
        ),
        ("NTLM YWJj==, basic REALM=x", [("ntlm", {}), ("basic", {"realm": "x"})]),
        (r'Bearer realm="a\"b"', [("bearer", {"realm": 'a"b'})]),
        ("", []),
        ("=,;", []),
    ],
)
def test_challenges_are_parsed(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert [(item.scheme, dict(item.params)) for item in parse_challenges(header)] == expected


@given(st.text(max_size=300))
def test_no_header_breaks_the_parser(header: str) -> None:
    parse_challenges(header)


def test_a_giant_header_is_cut() -> None:
    parse_challenges("Bearer " + ", ".join(f"a{n}=b" for n in range(100_000)))


@pytest.mark.parametrize(
    ("base", "location", "expected"),
    [
        ("https://a/v2/x", "/v2/y?a=&b=1&b=2", "https://a/v2/y?a=&b=1&b=2"),
        ("https://a/v2/x", "https://b:444/y?sig=%2F%3D", "https://b:444/y?sig=%2F%3D"),
        ("http://a:1/v2/x/", "y", "http://a:1/v2/x/y"),
    ],
)
def test_locations_are_followed_with_their_query_untouched(
    base: str, location: str, expected: str
) -> None:
    assert follow(base, location) == expected


@pytest.mark.parametrize(
    "location",
    [
        "http://a/",
        "file:///etc/passwd",
        "ftp://a/",
        "https://user:secret@a/",
        "https:///path",
        "https://a/\r\nX: y",
        "https://[::1/",
        "//user@b/",
        "https://a:99999/",
        "gopher://a/",
    ],
)
def test_hostile_locations_are_not_followed(location: str) -> None:
    with pytest.raises(NetworkError):
        follow("https://registry.example/v2/", location)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", Zone.PUBLIC),
        ("10.1.2.3", Zone.PRIVATE),
        ("100.64.0.1", Zone.PRIVATE),
        ("192.168.0.1", Zone.PRIVATE),
        ("fd00::1", Zone.PRIVATE),
        ("127.8.9.1", Zone.LOOPBACK),
        ("::1", Zone.LOOPBACK),
        ("::ffff:127.0.0.1", Zone.LOOPBACK),
        ("::ffff:169.254.169.254", Zone.FORBIDDEN),
        ("169.254.169.254", Zone.FORBIDDEN),
        ("fe80::1%eth0", Zone.FORBIDDEN),
        ("0.0.0.0", Zone.FORBIDDEN),
        ("224.0.0.1", Zone.FORBIDDEN),
        ("2001:4860:4860::8888", Zone.PUBLIC),
    ],
)
def test_addresses_have_zones(address: str, expected: Zone) -> None:
    assert zone(address) is expected


def test_an_origin_is_scheme_host_and_port() -> None:
    assert Origin.of("https://A.example./x") == Origin("https", "a.example", 443)
    assert Origin.of("http://[::1]:5000/").netloc == "[::1]:5000"
    assert Origin.of("https://a") != Origin.of("https://a:8443")


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=12))
def test_spans_cover_what_was_added_and_nothing_else(ranges: list[tuple[int, int]]) -> None:
    spans, covered = Spans(), set[int]()
    for start, stop in ranges:
        spans.add(start, stop)
        covered |= set(range(start, stop))
    assert {n for start, stop in spans for n in range(start, stop)} == covered
    missing = {n for start, stop in spans.gaps(70) for n in range(start, stop)}
    assert missing == set(range(70)) - covered
    assert spans.size == len(covered)
    assert list(spans) == sorted(spans)
    prefix = next(n for n in range(71) if n not in covered)
    assert spans.prefix == prefix


def test_a_link_header_names_the_next_page() -> None:
    assert next_link('</v2/x/tags/list?last=b&n=2>; rel="next"') == "/v2/x/tags/list?last=b&n=2"
    assert next_link("<a>; rel=prev, <b>; rel=next") == "b"
    assert next_link("") is None


def test_retry_after_is_seconds_or_a_date() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert retry_after_s("120") == 120
    assert retry_after_s("Thu, 01 Jan 2026 00:01:00 GMT", now=lambda: now) == 60
    assert retry_after_s("Thu, 01 Jan 2015 00:01:00 GMT", now=lambda: now) == 0
    assert retry_after_s("-5") is None
    assert retry_after_s("soon") is None
    assert retry_after_s(None) is None


def test_waits_double_and_end() -> None:
    policy = RetryPolicy(attempts=4, first_wait_s=1, max_wait_s=3)
    waits = [policy.wait_s(NetworkError("x"), failures) or 0 for failures in (1, 2, 3)]
    assert all(low <= wait <= 2 * low for wait, low in zip(waits, (0.5, 1, 1.5), strict=True))
    assert policy.wait_s(NetworkError("x"), 4) is None


def test_a_registry_that_asks_for_an_hour_is_not_waited_for() -> None:
    error = RateLimited("slow down", status=429)
    error.retry_after_s = 3600
    assert RetryPolicy().wait_s(error, 1) is None
    error.retry_after_s = 2
    assert RetryPolicy().wait_s(error, 1) == 2
