from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import InvalidPolicy
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.trust.keys import SigningKey
from pannier.pkgmgr.trust.policy import Evidence, Mode, Policy, Verdict, judge, parse

A, B, STRANGER = (SigningKey.generate().public for _ in range(3))
NAME = Reference.parse("registry.corp/team/reviewer:1")
OWN = "registry.corp/team/reviewer"
DIGEST = Digest.of(b"manifest")
KEYS = {"a.pub": A.pem, "b.pub": B.pem}
HEAD = 'version = 1\ndefault = "enforce"\n'
TWO = '[keys]\na = "a.pub"\nb = "b.pub"\n'


def policy(text: str) -> Policy:
    return parse(text, path="policy.toml", read_key=lambda name: KEYS[name])


def decide(
    text: str,
    *evidence: Evidence,
    name: Reference = NAME,
    licenses: Sequence[str] = (),
    digests: Collection[Digest] = (DIGEST,),
) -> Verdict:
    found = policy(text)
    return judge(found, name, digests=digests, evidence=evidence, licenses=licenses)


def rule(body: str) -> str:
    return f'{HEAD}{TWO}[[rule]]\nmatch = ["registry.corp/**"]\n{body}\n'


def test_an_unsigned_model_is_refused() -> None:
    verdict = decide(rule('mode = "enforce"\nkeys = ["a"]'))
    assert not verdict.allowed
    assert verdict.reasons == ("not signed by a",)


def test_a_model_signed_under_its_own_name_is_allowed() -> None:
    verdict = decide(rule('mode = "enforce"\nkeys = ["a"]'), Evidence(A, OWN))
    assert verdict == Verdict(Mode.ENFORCE, True, ("a",), ())


def test_a_bundle_signature_without_a_name_is_enough_where_no_name_is_asked_for() -> None:
    assert decide(rule('mode = "enforce"\nkeys = ["a"]'), Evidence(A, None)).allowed


def test_a_signature_for_another_repository_does_not_count() -> None:
    verdict = decide(rule('mode = "enforce"\nkeys = ["a"]'), Evidence(A, "registry.corp/team/x"))
    assert not verdict.allowed
    assert "signed as registry.corp/team/x" in verdict.reasons[1]


def test_a_strangers_signature_does_not_count() -> None:
    assert not decide(rule('mode = "enforce"\nkeys = ["a"]'), Evidence(STRANGER, OWN)).allowed


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("version = 1", "default is absent"),
        (rule('keys = ["a"]'), "a rule's mode is absent"),
        (rule('mode = "enforce"\nkeys = ["a", "b", "a"]'), "not there: a$"),
        (rule('mode = "enforce"\nkeys = ["a", "c"]'), "not there: c$"),
    ],
)
def test_what_is_wrong_with_a_policy_is_named(text: str, told: str) -> None:
    with pytest.raises(InvalidPolicy, match=told):
        decide(text)


def test_a_threshold_counts_distinct_keys() -> None:
    text = rule('mode = "enforce"\nkeys = ["a", "b"]\nthreshold = 2')
    assert not decide(text, Evidence(A, OWN), Evidence(A, None)).allowed
    assert decide(text, Evidence(A, OWN), Evidence(B, None)).allowed


def test_warn_allows_and_says_why() -> None:
    verdict = decide(rule('mode = "warn"\nkeys = ["a"]'))
    assert verdict.allowed
    assert verdict.reasons


def test_a_mirror_is_checked_under_the_name_that_was_signed() -> None:
    text = (
        HEAD
        + TWO
        + (
            '[[rule]]\nmatch = ["mirror.corp/hub/*"]\nmode = "enforce"\nkeys = ["a"]\n'
            'signed-as = "docker.io/org/*"\n'
        )
    )
    name = Reference.parse("mirror.corp/hub/model:1")
    assert decide(text, Evidence(A, "docker.io/org/model"), name=name).allowed
    assert not decide(text, Evidence(A, "docker.io/org/other"), name=name).allowed
    assert not decide(text, Evidence(A, None), name=name).allowed


def test_a_denied_digest_is_refused_in_any_mode() -> None:
    layer = Digest.of(b"layer")
    for text in (
        f'version = 1\ndefault = "off"\ndeny-digests = ["{layer}"]\n',
        rule(f'mode = "off"\ndeny-digests = ["{layer}"]'),
    ):
        assert not decide(text, digests={DIGEST, layer}).allowed
        assert decide(text).allowed


def test_licences_must_be_declared_and_allowed() -> None:
    text = rule('mode = "enforce"\nlicenses = ["Apache-2.0", "MIT"]')
    assert decide(text, licenses=["apache-2.0"]).allowed
    assert decide(text).reasons == ("it declares no licence",)
    assert not decide(text, licenses=["MIT", "llama3"]).allowed


def test_the_default_wants_any_known_key() -> None:
    other = Reference.parse("elsewhere.example/x")
    assert not decide(HEAD + TWO, name=other).allowed
    assert decide(HEAD + TWO, Evidence(B, None), name=other).allowed


def test_enforce_without_keys_refuses_everything() -> None:
    assert not decide(HEAD, Evidence(A, OWN)).allowed


def test_the_first_rule_that_fits_decides() -> None:
    text = rule('mode = "off"') + '[[rule]]\nmatch = ["**"]\nmode = "enforce"\nkeys = ["a"]\n'
    assert decide(text).allowed


@pytest.mark.parametrize(
    ("glob", "name", "fits"),
    [
        ("registry.corp/*", "registry.corp/a", True),
        ("registry.corp/*", "registry.corp/a/b", False),
        ("registry.corp/**", "registry.corp/a/b", True),
        ("registry.corp/team-*", "registry.corp/team-x", True),
        ("registry.corp/a", "registry.corp/ab", False),
        ("registryXcorp/a", "registry.corp/a", False),
        ("localhost:5000/*", "localhost:5000/m", True),
        ("REGISTRY.corp/A", "registry.corp/a", True),
    ],
)
def test_globs(glob: str, name: str, fits: bool) -> None:
    text = f'{HEAD}[[rule]]\nmatch = ["{glob}"]\nmode = "off"\n'
    assert decide(text, name=Reference.parse(name)).allowed is fits


BAD = [
    "",
    "version = 2\ndefault = 'off'",
    "version = 1",
    "version = 1\ndefault = 'maybe'",
    "version = 1\ndefault = 1",
    "version = 1\ndefault = 'off'\nextra = 1",
    "version = 1\ndefault = 'off'\n[[rule]]\nmode = 'off'",
    "version = 1\ndefault = 'off'\n[[rule]]\nmatch = []\nmode = 'off'",
    "version = 1\ndefault = 'off'\n[[rule]]\nmatch = ['a(b']\nmode = 'off'",
    "version = 1\ndefault = 'off'\n[[rule]]\nmatch = ['*/*/*/*/*']\nmode = 'off'",
    "version = 1\ndefault = 'off'\n[[rule]]\nmatch = 'a'\nmode = 'off'",
    "version = 1\ndefault = 'off'\n[rule]\nmatch = ['a']\nmode = 'off'",
    "version = 1\ndefault = 'off'\nrule = [1]",
    "version = 1\ndefault = 'off'\ndeny-digests = ['sha256:zz']",
    "version = 1\ndefault = 'off'\ndeny-digests = 5",
    "version = 1\ndefault = 'off'\nkeys = []",
    "version = 1\ndefault = 'off'\n[keys]\na = 1",
    "version = 1\ndefault = 'off'\n[keys]\na = '-----BEGIN PUBLIC KEY-----'",
    "version = 1\nversion = 1\ndefault = 'off'",
    "version = 1\ndefault = 'off'" + "\nx = " + "[" * 5000,
    rule("mode = 'enforce'\nkeys = ['nobody']"),
    rule("mode = 'enforce'\nkeys = ['a', 'a']"),
    rule("mode = 'enforce'\nkeys = ['a']\nthreshold = 0"),
    rule("mode = 'enforce'\nkeys = ['a']\nthreshold = 2"),
    rule("mode = 'enforce'\nkeys = ['a']\nthreshold = true"),
    rule("mode = 'enforce'\nthreshold = 1"),
    rule("mode = 'enforce'\nkeys = ['a']\nsigned-as = 'docker.io/org/*'"),
    rule("mode = 'enforce'\nkeys = ['a']\nsigned-as = 5"),
    rule("mode = 'enforce'\nlicenses = 'MIT'"),
    rule("mode = 'enforce'\nformats = ['gguf']"),
    f"{HEAD}[keys]\na = 'a.pub'\nb = 'a.pub'",
]


@pytest.mark.parametrize("text", BAD)
def test_a_policy_that_is_not_understood_is_void(text: str) -> None:
    with pytest.raises(InvalidPolicy):
        policy(text)


@given(st.text(max_size=200))
def test_any_text_is_a_policy_or_an_error(text: str) -> None:
    with pytest.raises(InvalidPolicy):
        policy("version = 1\n" + text)
