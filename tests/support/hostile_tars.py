"""Some 300 tars that no bundle reader may accept, made by rule from one good bundle.

Each is a name and its bytes. `good` is what `pannier export` writes: a tar of plain ustar members.
"""

from __future__ import annotations

import io
import json
import random
import struct
from collections.abc import Callable, Iterator

from pannier.pkgmgr.digest import Digest

Members = list[tuple[str, bytes]]
_BLOCK = 512


def hostile_tars(members: Members) -> Iterator[tuple[str, bytes]]:
    """Every hostile tar, from the members of a good bundle in order."""
    yield from _bad_types(members)
    yield from _bad_names(members)
    yield from _duplicates(members)
    yield from _bad_numbers(members)
    yield from _pax(members)
    yield from _gnu(members)
    yield from _bad_layouts(members)
    yield from _bad_indexes(members)
    yield from _bad_manifests(members)
    yield from _extra_members(members)
    yield from _damaged(members)
    yield from _endings(members)
    yield from _noise()


def header(
    name: bytes,
    size: int,
    *,
    kind: bytes = b"0",
    link: bytes = b"",
    size_field: bytes | None = None,
    magic: bytes = b"ustar\x0000",
    prefix: bytes = b"",
    wrong_sum: bool = False,
) -> bytes:
    """One header block with whatever it is told."""
    block = bytearray(_BLOCK)
    block[0 : min(100, len(name))] = name[:100]
    block[100:124] = b"0000644\x000000000\x000000000\x00"
    block[124:136] = size_field if size_field is not None else b"%011o\0" % size
    block[136:148] = b"00000000000\0"
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[157 : 157 + len(link)] = link
    block[257:265] = magic
    block[345 : 345 + len(prefix)] = prefix
    block[148:156] = b"%06o\0 " % (sum(block) + wrong_sum)
    return bytes(block)


def member(name: str | bytes, data: bytes, **options: object) -> bytes:
    raw = name if isinstance(name, bytes) else name.encode()
    head = header(raw, len(data), **options)  # type: ignore[arg-type]  # passed through
    return head + data + bytes(-len(data) % _BLOCK)


def tar(*parts: bytes, end: bytes = bytes(2 * _BLOCK)) -> bytes:
    return b"".join(parts) + end


def pax(body: bytes, kind: bytes = b"x") -> bytes:
    return member("PaxHeaders/0", body, kind=kind)


def record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    while len(b"%d" % length) + len(key) + len(value) + 3 != length:
        length += 1
    return b"%d %s=%s\n" % (length, key, value)


def _plain(members: Members) -> list[bytes]:
    return [member(name, data) for name, data in members]


def _bad_types(members: Members) -> Iterator[tuple[str, bytes]]:
    good = _plain(members)
    for kind in b"1234567ASVMNDKLIX":
        for link in (b"", b"../../etc/passwd", b"/etc/passwd"):
            odd = member("blobs/sha256/" + "a" * 64, b"", kind=bytes([kind]), link=link)
            yield f"type {chr(kind)} to {link!r} in front", tar(odd, *good)
            yield f"type {chr(kind)} to {link!r} at the end", tar(*good, odd)


def _bad_names(members: Members) -> Iterator[tuple[str, bytes]]:
    good = _plain(members)
    digest = "0" * 64
    names: list[str | bytes] = [
        "../evil", "/etc/passwd", "blobs/../../evil", "blobs/sha256/../../evil",
        "blobs/sha256/..", "blobs/sha256/.", "blobs/sha256/", "blobs//sha256/" + digest,
        "./../oci-layout", ".//oci-layout", "././oci-layout", "blobs/sha256/" + "A" * 64,
        "blobs/sha256/" + "a" * 63, "blobs/sha256/" + "a" * 65, "blobs/sha512/" + digest,
        "blobs/md5/" + "a" * 32, "blobs/sha256/" + "g" * 64, "blobs/sha256/" + digest + "/x",
        "OCI-LAYOUT", "Index.json", "index.json/", "index.json/x", "manifest.json", "repositories",
        "", " ", "index.json ", " index.json", "index.json\n", "C:\\evil", "\\\\host\\evil",
        "blobs\\sha256\\" + digest, "ingest/x", "leases/x", ".lock", "policy.toml", "verdicts.json",
        "blobs/sha256/%2e%2e", "CON", "nul", b"\xff\xfe", "blobs/sha256/\u0661".encode(), b"a\0b",
        b"index.json\0/../../evil/x"[:10] + b"x",
    ]  # fmt: skip
    for name in names:
        yield f"member named {name!r}", tar(*good, member(name, b"evil"))
    for name in ("../", "/", "etc/", "blobs/sha256/x/", "ingest/", "blobs/../"):
        yield f"directory named {name!r}", tar(member(name, b"", kind=b"5"), *good)
    yield "a directory with content", tar(member("blobs/", b"x", kind=b"5"), *good)
    yield "traversal by prefix", tar(*good, member("passwd", b"x", prefix=b"../../etc"))
    yield "absolute by prefix", tar(*good, member("passwd", b"x", prefix=b"/etc"))


def _duplicates(members: Members) -> Iterator[tuple[str, bytes]]:
    good = _plain(members)
    for i, (name, data) in enumerate(members):
        yield f"{name[:20]} twice", tar(*good, good[i])
        yield f"{name[:20]} twice with other content", tar(*good, member(name, data + b"x"))
        yield f"{name[:20]} twice, once as ./", tar(member("./" + name, data), *good)


def _bad_numbers(members: Members) -> Iterator[tuple[str, bytes]]:
    good = _plain(members)
    name, data = members[-1]
    fields = [
        b"77777777777\0", b"00000000000x", b"-0000000001\0", b"            ", bytes(12),
        b"0x000000001\0", b"99999999999\0", b"\x80" + b"\xff" * 11, b"\xff" * 12,
        b"\x80" + bytes(3) + struct.pack(">Q", 2**62), b"\x81" + bytes(11),
        b"1e10\0\0\0\0\0\0\0\0", b"+0000000001\0", "١".encode().ljust(12, b"\0"),
    ]  # fmt: skip
    for field in fields:
        odd = header(name.encode(), 0, size_field=field) + data
        yield f"size field {field!r}", tar(*good[:-1], odd)
    for size in (len(data) + _BLOCK, len(data) * 2, 8**11 - 1):
        odd = header(name.encode(), size) + data
        yield f"size {size} beyond the file", tar(*good[:-1], odd)
    for i in range(len(members)):
        raw = bytearray(tar(*good))
        raw[sum(map(len, good[:i])) + 150] ^= 1
        yield f"checksum of member {i} is wrong", bytes(raw)
    for magic in (b"\0" * 8, b"USTAR\x0000", b"xstar\x0000", b"PK\x03\x04\0\0\0\0"):
        yield f"magic {magic!r}", tar(member(*members[0], magic=magic), *good[1:])
    yield "one more in the checksum", tar(member(*members[0], wrong_sum=True), *good[1:])


def _pax(members: Members) -> Iterator[tuple[str, bytes]]:
    good = _plain(members)
    for value in (b"../../evil", b"/etc/passwd", b"oci-layout", b"", b"a\0b", b"blobs/sha512/zz"):
        yield f"pax path {value!r}", tar(pax(record(b"path", value)), *good)
    for key in (
        b"linkpath", b"GNU.sparse.major", b"GNU.sparse.name", b"GNU.sparse.map", b"GNU.sparse.size",
        b"SCHILY.realsize", b"size ", b"Path", b"PATH", b"charset", b"", b"\xff",
    ):  # fmt: skip
        yield f"pax key {key!r}", tar(pax(record(key, b"1")), *good)
    for value in (b"-1", b"1e9", b"0x10", b"", b"9" * 30, b"1 ", b"999999999999999", b"\xd9\xa1"):
        yield f"pax size {value!r}", tar(pax(record(b"size", value)), *good)
    bodies = [
        b"5 a=b", b"999999 a=b\n", b"0 a=b\n", b"-5 a=b\n", b"6 ab\n\n", b"a=b\n", b"\0" * 20,
        b"99999999999999999999 a=b\n", b"6 a=b\n", b"5 a=b\n" * 2 + b"x", b"5a=b\n", b"3 =\n",
    ]  # fmt: skip
    for body in bodies:
        yield f"pax body {body!r}", tar(pax(body), *good)
    yield "pax size twice", tar(pax(record(b"size", b"1") + record(b"size", b"2")), *good)
    yield "pax header of a megabyte", tar(pax(record(b"comment", b" " * 1_000_000)), *good)
    huge = header(
        b"PaxHeaders/0", 8 << 30, kind=b"x", size_field=b"\x80" + struct.pack(">QI", 2, 0)[1:]
    )
    yield "pax header of 8 GiB", tar(huge, *good)
    yield "pax headers one after the other", tar(*[pax(record(b"comment", b"x"))] * 9, *good)
    yield "pax header at the end", tar(*good, pax(record(b"comment", b"x")))
    yield "global pax path", tar(pax(record(b"path", b"x"), b"g"), *good)
    yield "global sparse", tar(pax(record(b"GNU.sparse.major", b"1"), b"g"), *good)


def _gnu(members: Members) -> Iterator[tuple[str, bytes]]:
    good = _plain(members)
    for name in (b"../../evil\0", b"/etc/passwd\0", b"oci-layout\0", b"x" * 100_000 + b"\0"):
        for kind in (b"L", b"K"):
            long = member("././@LongLink", name, kind=kind)
            yield f"GNU long name {name[:12]!r} {kind!r}", tar(long, *good)
    yield "GNU sparse", tar(member("blobs/sha256/" + "a" * 64, b"x", kind=b"S"), *good)
    yield "GNU multi-volume", tar(member("blobs/sha256/" + "a" * 64, b"x", kind=b"M"), *good)


def _replaced(members: Members, name: str, data: bytes) -> bytes:
    return tar(*[member(n, data if n == name else d) for n, d in members])


def _bad_layouts(members: Members) -> Iterator[tuple[str, bytes]]:
    for text in (
        b"", b"{}", b"[]", b"null", b"{", b'{"imageLayoutVersion":1}', b"\xff", b" " * 5000,
        b'{"imageLayoutVersion":"2.0.0"}', b'{"imageLayoutVersion":"1.0.0",' * 2 + b'"a":1}}',
        b'{"imageLayoutVersion":' * 100,
    ):  # fmt: skip
        yield f"oci-layout {text[:30]!r}", _replaced(members, "oci-layout", text)
    yield "no oci-layout", tar(*_plain([m for m in members if m[0] != "oci-layout"]))
    yield "no index.json", tar(*_plain([m for m in members if m[0] != "index.json"]))


def _bad_indexes(members: Members) -> Iterator[tuple[str, bytes]]:
    good = dict(members)["index.json"]
    texts = [
        b"", b"{}", b"[]", b"null", b"{", b"\xff\xfe", b'{"schemaVersion":2}', b"[" * 100_000,
        b'{"schemaVersion":2,"manifests":[]}', b'{"schemaVersion":2,"manifests":{}}',
        b'{"schemaVersion":2,"manifests":[1]}', b'{"schemaVersion":1,"manifests":[]}',
        good.replace(b'"size":', b'"size":-'), good.replace(b"sha256:", b"sha256:../"),
        good.replace(b"sha256:", b"md5:"), good[:-1], good + b"x",
        good.replace(b'"schemaVersion":2', b'"schemaVersion":2,"schemaVersion":2'),
    ]  # fmt: skip
    for text in texts:
        yield f"index.json {text[:40]!r}", _replaced(members, "index.json", text)

    def changed(change: Callable[[dict[str, object]], object]) -> bytes:
        value = json.loads(good)
        change(value["manifests"][0])
        return _replaced(members, "index.json", json.dumps(value).encode())

    yield "a manifest of 8 EiB", changed(lambda d: d.update(size=2**63))
    yield "a manifest with a float size", changed(lambda d: d.update(size=1.5))
    yield "a manifest with a boolean size", changed(lambda d: d.update(size=True))
    yield "a manifest of another size", changed(lambda d: d.update(size=7))
    yield "an index that names a layer", changed(lambda d: d.update(mediaType="text/plain"))
    yield "annotations that are a list", changed(lambda d: d.update(annotations=[1]))
    yield "an absent manifest", changed(lambda d: d.update(digest="sha256:" + "0" * 64))


def _bad_manifests(members: Members) -> Iterator[tuple[str, bytes]]:
    """The manifest is replaced under its right digest, and the index follows."""
    index = json.loads(dict(members)["index.json"])
    entry = index["manifests"][0]
    old = "blobs/sha256/" + entry["digest"].removeprefix("sha256:")
    good = json.loads(dict(members)[old])
    layer = good["layers"][0]
    documents: list[object] = [
        [], {}, None, 7, {"schemaVersion": 1}, {**good, "config": None}, {**good, "layers": {}},
        {**good, "layers": [layer] * 2000}, {**good, "layers": [{**layer, "size": -1}]},
        {**good, "layers": [{**layer, "digest": "sha256:../../x"}]}, {**good, "manifests": []},
        {**good, "layers": [{**layer, "size": layer["size"] + 1}]},
        {**good, "layers": [{**layer, "digest": "sha256:" + "1" * 64}]},
        {**good, "subject": 5}, {**good, "annotations": {"a": 1}}, {**good, "mediaType": 5},
    ]  # fmt: skip
    for document in documents:
        raw = json.dumps(document).encode()
        digest = Digest.of(raw)
        new = {**entry, "digest": str(digest), "size": len(raw)}
        changed = json.dumps({**index, "manifests": [new]}).encode()
        rest = [m for m in members if m[0] not in ("index.json", old)]
        parts = [rest[0], ("index.json", changed), (f"blobs/sha256/{digest.hex}", raw), *rest[1:]]
        yield f"manifest {raw[:30]!r}", tar(*_plain(parts))


def _extra_members(members: Members) -> Iterator[tuple[str, bytes]]:
    good = _plain(members)
    for data in (b"", b"evil", b"x" * 100_000):
        name = f"blobs/sha256/{Digest.of(data).hex}"
        yield f"a stray blob of {len(data)} bytes", tar(*good, member(name, data))
        yield f"a stray blob of {len(data)} bytes in front", tar(member(name, data), *good)


def _damaged(members: Members) -> Iterator[tuple[str, bytes]]:
    for i, (name, data) in enumerate(members[2:], start=2):
        changes = (data[:-1], data + b"x", b"x" + data[1:], b"", data[::-1] + b"y")
        for number, changed in enumerate(changes):
            parts = list(members)
            parts[i] = name, changed
            yield f"{name[:25]} damaged in way {number}", tar(*_plain(parts))
    for i in range(2, len(members)):
        yield f"member {i} is missing", tar(*_plain(members[:i] + members[i + 1 :]))


def _endings(members: Members) -> Iterator[tuple[str, bytes]]:
    good = _plain(members)
    whole = tar(*good)
    for end in (b"", bytes(_BLOCK), bytes(1000)):
        yield f"an end of {len(end)} bytes", tar(*good, end=end)
    for tail in (b"x", b"\0" * 511 + b"x", whole, b"\0" * 100_000 + b"x", b"\0" * 3_000_000):
        yield f"{len(tail)} bytes after the end", whole + tail
    yield "a zero block between members", tar(good[0], bytes(_BLOCK), *good[1:])
    step = max(1, len(whole) // 40)
    for size in range(0, len(whole) - 1024, step):
        yield f"cut at {size}", whole[:size]


def _noise() -> Iterator[tuple[str, bytes]]:
    rng = random.Random(9)
    yield "nothing", b""
    yield "only an end", bytes(1024)
    yield "zeros", bytes(3_000_000)
    yield "gzip", b"\x1f\x8b\x08\0" + rng.randbytes(2000)
    yield "zip", b"PK\x03\x04" + rng.randbytes(2000)
    for size in (1, 511, 512, 513, 5000):
        yield f"{size} random bytes", io.BytesIO(rng.randbytes(size)).read()
