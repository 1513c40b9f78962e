"""References and digests: laws over generated names, and a table of real and hostile ones."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import InvalidDigest, InvalidReference
from pannier.pkgmgr.reference import Reference

HEX = "a" * 64
_component = st.from_regex(
    r"[A-Za-z0-9_]{1,5}(?:(?:\.|_|__|-{1,2})[A-Za-z0-9_]{1,5}){0,2}", fullmatch=True
)
_hosts = st.one_of(
    st.sampled_from(["registry.ollama.ai", "localhost", "localhost:5000", "hf.co", "[::1]:80"]),
    st.from_regex(r"[a-z]{1,8}\.[a-z]{2,4}(?::[1-9][0-9]{0,3})?", fullmatch=True),
    st.from_regex(r"[a-z]{1,8}:[1-9][0-9]{0,3}", fullmatch=True),
)
_digests = st.one_of(
    st.none(),
    st.binary(max_size=8).map(Digest.of),
    st.binary(max_size=8).map(lambda data: Digest.of(data, algorithm="sha512")),
)


@st.composite
def _references(draw: st.DrawFn) -> Reference:
    digest = draw(_digests)
    tag = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,10}", fullmatch=True)
    return Reference(
        draw(_hosts),
        "/".join(draw(st.lists(_component, min_size=1, max_size=4))),
        draw(tag if digest is None else st.one_of(st.none(), tag)),
        digest,
    )


@settings(max_examples=500)
@given(_references())
def test_a_reference_reads_back_from_both_of_its_forms(reference: Reference) -> None:
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.familiar) == reference


@settings(max_examples=500)
@given(st.text(st.sampled_from(string.printable + "é٣\0"), max_size=40))
def test_any_text_is_a_reference_that_reads_back_or_is_refused(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InvalidReference:
        return
    assert Reference.parse(str(reference)) == reference
    assert ".." not in str(reference).split("/")


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("llama3", "registry.ollama.ai/library/llama3:latest"),
        ("llama3:8b", "registry.ollama.ai/library/llama3:8b"),
        ("user/model", "registry.ollama.ai/user/model:latest"),
        ("hf.co/user/Repo-GGUF:Q4_K_M", "hf.co/user/Repo-GGUF:Q4_K_M"),
        ("ollama.com/library/llama3", "registry.ollama.ai/library/llama3:latest"),
        ("https://ollama.com/user/m:8b", "registry.ollama.ai/user/m:8b"),
        ("registry.ollama.ai/library/llama3:8b", "registry.ollama.ai/library/llama3:8b"),
        ("docker.io/ai/smollm2", "docker.io/ai/smollm2:latest"),
        ("ghcr.io/org/a/b/c:tag", "ghcr.io/org/a/b/c:tag"),
        ("localhost:5000/model", "localhost:5000/model:latest"),
        ("LOCALHOST:5000/model", "localhost:5000/model:latest"),
        ("oci://ghcr.io/a/b", "ghcr.io/a/b:latest"),
        (f"a/b@sha256:{HEX}", f"registry.ollama.ai/a/b@sha256:{HEX}"),
        (f"x.y/a:t@sha256:{HEX}", f"x.y/a:t@sha256:{HEX}"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
    ],
)
def test_names_as_people_type_them(text: str, full: str) -> None:
    assert str(Reference.parse(text)) == full


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "a b", "a\n", "\na", "a/", "/a", "a//b", "a/../b", "../a", ".", "..", "a:", ":a",
        "a:b:c", "a@", "a@sha256:", f"a@sha256:{HEX[:-1]}", f"a@sha256:{HEX.upper()}",
        f"a@md5:{HEX}", f"a@sha256:{HEX}@sha256:{HEX}", "http://x.y/a", "ftp://a", "a\0b", "a%2fb",
        "a\\b", "é", "x.y:99999/a", "x.y:0/a", "x.y:/a", "a" * 600, "a/" + "b" * 300, "-a", "a-",
        "a/.b", "a:" + "t" * 129, "a:-t", "x..y/a", "[::1/a", "x.y/", "٣",
    ],
)  # fmt: skip
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference):
        Reference.parse(text)


def test_names_are_the_same_model_without_regard_to_case() -> None:
    assert Reference.parse("User/Model:Q4").key == Reference.parse("user/model:q4").key


@pytest.mark.parametrize("name", ["Foo/Bar", "a/b_-c", "a/b/_c"])
def test_registries_take_fewer_names(name: str) -> None:
    with pytest.raises(InvalidReference):
        Reference.parse(f"x.y/{name}").require_registry_name()


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True), ("localhost:5000", True), ("127.0.0.1", True), ("127.1.2.3:80", True),
        ("[::1]", True), ("[::1]:80", True), ("a.localhost:1", True), ("10.0.0.1:5000", False),
        ("localhost.evil.org", False), ("x.y", False),
    ],
)  # fmt: skip
def test_loopback_hosts(host: str, loopback: bool) -> None:
    assert Reference.parse(f"{host}/a").is_loopback is loopback


@given(st.binary(max_size=50))
def test_digests_read_back(data: bytes) -> None:
    for algorithm in ("sha256", "sha512"):
        digest = Digest.of(data, algorithm=algorithm)
        assert Digest.parse(str(digest)) == digest
        hasher = digest.hasher()
        hasher.update(data)
        assert hasher.hexdigest() == digest.hex


@pytest.mark.parametrize(
    "text",
    [
        "", "sha256", "sha256:", f"sha256:{HEX}\n", f"SHA256:{HEX}", f"sha256:{HEX.upper()}",
        f"sha256:{HEX}0", f"sha512:{HEX}", f"sha1:{'a' * 40}", f"sha256-{HEX}",
        "sha256:" + "٣" * 64,
        f" sha256:{HEX}", "sha256:../../etc/passwd", f"sha256:{HEX[:62]}/.",
    ],
)  # fmt: skip
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(InvalidDigest):
        Digest.parse(text)


@given(st.text(max_size=100))
def test_any_text_is_refused_as_a_digest(text: str) -> None:
    with pytest.raises(InvalidDigest):
        Digest.parse(text)
