"""Descriptors, manifests, indexes and the JSON under them: laws, limits and hostile documents."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pannier.pkgmgr import mediatypes as mt
from pannier.pkgmgr import strictjson
from pannier.pkgmgr.descriptor import MAX_SIZE, Descriptor
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.errors import InvalidManifest
from pannier.pkgmgr.manifest import MAX_LAYERS, Index, Manifest, parse, parse_manifest

_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
_descriptors = st.builds(
    Descriptor,
    st.text(max_size=12),
    st.binary(max_size=4).map(Digest.of),
    st.integers(0, MAX_SIZE),
    st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3),
    st.one_of(st.none(), st.text(max_size=8)),
    st.dictionaries(st.sampled_from(["platform", "urls", "data", "x"]), _json, max_size=2),
)


def descriptor(name: str = "x", **members: Any) -> dict[str, Any]:
    data = name.encode()
    return {"mediaType": "a/b", "digest": str(Digest.of(data)), "size": len(data), **members}


def manifest(**members: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "config": descriptor("c"), "layers": [descriptor()], **members}


def encode(value: Any) -> bytes:
    return json.dumps(value).encode()


@given(_descriptors)
def test_a_descriptor_reads_back(item: Descriptor) -> None:
    assert Descriptor.from_json(json.loads(json.dumps(item.to_json()))) == item


@settings(max_examples=300)
@given(_json)
def test_any_json_is_a_manifest_or_refused(value: Any) -> None:
    for document in (
        value,
        manifest(layers=value),
        manifest(config=value),
        manifest(subject=value),
    ):
        with contextlib.suppress(InvalidManifest):
            assert parse(encode(document)).raw == encode(document)


@settings(max_examples=300)
@given(st.binary(max_size=100))
def test_any_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidManifest):
        parse(raw)


def test_the_bytes_stay_as_they_came() -> None:
    raw = json.dumps(manifest(annotations={"a": "<é>"}), indent=3).encode() + b"\n"
    found = parse_manifest(raw, media_type=mt.DOCKER_MANIFEST)
    assert found.raw == raw
    assert found.descriptor.digest == Digest.of(raw)
    assert found.descriptor.media_type == mt.DOCKER_MANIFEST
    assert [item.size for item in found.children] == [1, 1]


def test_a_layer_that_stands_twice_is_one_child() -> None:
    found = parse_manifest(encode(manifest(layers=[descriptor("a"), descriptor("a")])))
    assert len(found.layers) == 2
    assert len(found.children) == 2
    assert found.size == 2


def test_an_index_is_told_from_a_manifest() -> None:
    raw = encode({"schemaVersion": 2, "manifests": [descriptor()]})
    assert isinstance(parse(raw), Index)
    assert isinstance(parse(encode(manifest())), Manifest)
    with pytest.raises(InvalidManifest, match="index"):
        parse_manifest(raw)


@pytest.mark.parametrize(
    "document",
    [
        [], 5, None, {}, {"schemaVersion": 1}, {"schemaVersion": "2"}, {"schemaVersion": 2},
        manifest(manifests=[]), manifest(mediaType=5), manifest(artifactType=[]),
        manifest(annotations=[]), manifest(annotations={"a": 1}), manifest(layers={}),
        manifest(layers=[descriptor(size=-1)]), manifest(layers=[descriptor(size=1.5)]),
        manifest(layers=[descriptor(size=True)]), manifest(layers=[descriptor(size=MAX_SIZE + 1)]),
        manifest(layers=[descriptor(size="1")]), manifest(layers=[descriptor(digest="../../x")]),
        manifest(layers=[descriptor(digest=None)]), manifest(config=None), manifest(config=[]),
        manifest(layers=[descriptor()] * (MAX_LAYERS + 1)), manifest(subject="x"),
        manifest(mediaType=mt.OCI_INDEX),
        {"schemaVersion": 2, "mediaType": mt.OCI_MANIFEST, "manifests": [descriptor()]},
    ],
)  # fmt: skip
def test_what_is_no_manifest_is_refused(document: Any) -> None:
    with pytest.raises(InvalidManifest):
        parse(encode(document))


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b'{"a":1,"a":2}', b"NaN", b"[Infinity]", b'"\\ud800"', b'"\xff"', b"[" * 100_000,
        b'{"a":' * 5000, b"1" * 5000, b"1e999", b"[-1e400]", b"[1] x", b"\xef\xbb\xbf{}",
    ],
)  # fmt: skip
def test_json_from_strangers_is_strict(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        strictjson.loads(raw, max_size=1 << 20)


def test_json_over_the_size_is_not_read() -> None:
    with pytest.raises(ValueError, match="over the limit"):
        strictjson.loads(b"[" + b" " * 100 + b"]", max_size=50)


@pytest.mark.parametrize(
    "raw",
    [b'"' + b'\\"' * 500_000, b'"' * 1_000_001, b"[" + b'"\\' * 300_000, b"\\" * 1_000_000],
    ids=["escaped quotes", "quotes", "backslashes in a string", "backslashes"],
)
def test_no_json_takes_more_than_linear_time(raw: bytes) -> None:
    begin = time.process_time()
    with pytest.raises(ValueError, match=r"."):
        strictjson.loads(raw, max_size=4 << 20)
    assert time.process_time() - begin < 5


@given(_json)
def test_json_reads_back(value: Any) -> None:
    read: Callable[[bytes], Any] = lambda raw: strictjson.loads(raw, max_size=1 << 20)  # noqa: E731
    assert read(encode(value)) == value
    assert read(json.dumps(value, ensure_ascii=False).encode()) == value
