"""A hostile registry: behaviours by name, each with the only outcomes that are acceptable.

Every behaviour is a hook of `support.falseregistry` with a letter for its kind (A transport,
B ranges, C login, D manifests, E blobs, F redirects, G uploads, H lists). docs/transfer.md holds
the same table for readers; a test compares the two.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass

from support.artifacts import describe, make_artifact
from support.falseregistry import MANIFEST_TYPE, Handler, error_body

from pannier.pkgmgr import mediatypes
from pannier.pkgmgr.errors import (
    BlobNotFound,
    Denied,
    DigestMismatch,
    InvalidManifest,
    ModelNotFound,
    NetworkError,
    PannierError,
    RateLimited,
    RegistryError,
    SizeMismatch,
    Unauthorized,
)

Hook = Callable[[Handler], bool]

BIG = bytes(range(256)) * 12_000
DEMO = make_artifact(BIG, b"small layer", config=b'{"a":1}')
BIG_DIGEST = str(DEMO.blobs[1][0].digest)
SMALL_DIGEST = str(DEMO.blobs[2][0].digest)
ROOT_DIGEST = str(DEMO.descriptor.digest)


@dataclass(frozen=True)
class Behaviour:
    """One way to misbehave; `outcome` None means that all must end well."""

    kind: str
    name: str
    outcome: type[PannierError] | None
    make: Callable[[], Hook]
    act: str = "pull"


BEHAVIOURS: list[Behaviour] = []


def behaviour(
    kind: str, outcome: type[PannierError] | None, *, act: str = "pull"
) -> Callable[[Callable[[], Hook]], Callable[[], Hook]]:
    def add(make: Callable[[], Hook]) -> Callable[[], Hook]:
        name = make.__name__.replace("_", " ")
        BEHAVIOURS.append(Behaviour(kind, name, outcome, make, act))
        return make

    return add


def on(
    part: str, act: Hook, *, times: int | None = None, method: str = "GET", after: int = 0
) -> Hook:
    """Do `act` for requests whose path holds `part`: the first `times`, after `after` others."""
    lock, count = threading.Lock(), [0]

    def hook(handler: Handler) -> bool:
        if handler.command != method or part not in handler.path:
            return False
        with lock:
            count[0] += 1
            due = count[0] > after and (times is None or count[0] <= after + times)
        return due and act(handler)

    return hook


def big(act: Hook, *, times: int | None = None, after: int = 0) -> Hook:
    return on(f"/blobs/{BIG_DIGEST}", act, times=times, after=after)


def small(act: Hook, *, times: int | None = None) -> Hook:
    return on(f"/blobs/{SMALL_DIGEST}", act, times=times)


def asked_range(handler: Handler) -> tuple[int, int]:
    first, _, last = handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
    return int(first), int(last) + 1 if last else len(BIG)


def head(handler: Handler, status: int, **headers: str) -> None:
    handler.send_response(status)
    for key, value in headers.items():
        handler.send_header(key.replace("_", "-"), value)
    handler.end_headers()


def partial(handler: Handler, data: bytes, said: str) -> bool:
    return handler.answer(206, data, {"Content-Range": said})


def drip(handler: Handler, data: bytes, pause_s: float) -> bool:
    """Bytes one by one, until the client has enough of it."""
    pause = threading.Event()
    for index in range(len(data)):
        handler.wfile.write(data[index : index + 1])
        handler.wfile.flush()
        pause.wait(pause_s)
    return True


# A: transport


@behaviour("A", None)
def connections_reset_twice_then_served() -> Hook:
    return on("/v2/", Handler.reset, times=2, method="HEAD")


@behaviour("A", NetworkError)
def reset_before_every_answer() -> Hook:
    return lambda handler: handler.reset()


@behaviour("A", NetworkError)
def reset_before_the_first_byte_of_the_layer() -> Hook:
    def act(handler: Handler) -> bool:
        start, stop = asked_range(handler)
        said = f"bytes {start}-{stop - 1}/{len(BIG)}"
        head(handler, 206, Content_Range=said, Content_Length=str(stop - start))
        return handler.reset()

    return big(act)


def cut_after(share: float) -> Hook:
    def act(handler: Handler) -> bool:
        start, stop = asked_range(handler)
        said = f"bytes {start}-{stop - 1}/{len(BIG)}"
        head(handler, 206, Content_Range=said, Content_Length=str(stop - start))
        size = max(1, min(int((stop - start) * share), stop - start - 1))
        handler.send(BIG[start : start + size])
        return handler.reset()

    return act


@behaviour("A", None)
def reset_after_the_first_byte_once() -> Hook:
    return big(cut_after(0), times=1)


@behaviour("A", None)
def reset_at_half_of_the_layer_once() -> Hook:
    return big(cut_after(0.5), times=1)


@behaviour("A", None)
def reset_before_the_last_byte_once() -> Hook:
    return big(cut_after(1), times=1)


@behaviour("A", None)
def layer_ends_early_with_a_clean_close_once() -> Hook:
    def act(handler: Handler) -> bool:
        head(handler, 200, Content_Length=str(len(BIG)))
        handler.send(BIG[: len(BIG) // 3])
        handler.close_connection = True
        return True

    return big(act, times=1)


@behaviour("A", NetworkError)
def header_drips_in_for_ever() -> Hook:
    return on(
        "/manifests/",
        lambda handler: drip(handler, b"HTTP/1.1 200 OK\r\n" * 9, 0.05),
        method="HEAD",
    )


@behaviour("A", NetworkError)
def layer_drips_in_for_ever() -> Hook:
    def act(handler: Handler) -> bool:
        head(handler, 200, Content_Length=str(len(BIG)))
        return drip(handler, BIG[:200], 0.02)

    return big(act)


@behaviour("A", NetworkError)
def layer_stalls_for_ever() -> Hook:
    def act(handler: Handler) -> bool:
        head(handler, 200, Content_Length=str(len(BIG)))
        handler.send(BIG[:1000])
        threading.Event().wait(3)
        return True

    return big(act)


@behaviour("A", SizeMismatch)
def layer_has_no_end() -> Hook:
    def act(handler: Handler) -> bool:
        head(handler, 200, Transfer_Encoding="chunked")
        handler.send(b"%x\r\n%s\r\n" % (len(BIG), BIG))
        while True:
            handler.wfile.write(b"10000\r\n" + bytes(65536) + b"\r\n")

    return big(act)


@behaviour("A", None)
def more_bytes_than_declared() -> Hook:
    def act(handler: Handler) -> bool:
        head(handler, 200, Content_Length=str(len(BIG)))
        handler.send(BIG + b"HTTP/1.1 200 OK\r\n\r\nsmuggled")
        return True

    return big(act)


@behaviour("A", NetworkError)
def chunk_size_that_is_no_number() -> Hook:
    def act(handler: Handler) -> bool:
        head(handler, 200, Transfer_Encoding="chunked")
        return handler.raw(b"zz\r\nxx\r\n")

    return big(act)


@behaviour("A", None)
def no_length_at_all() -> Hook:
    def act(handler: Handler) -> bool:
        head(handler, 200, Connection="close")
        handler.send(BIG)
        return handler.raw(b"")

    return big(act)


@behaviour("A", None)
def http_1_0_without_length() -> Hook:
    return big(lambda handler: handler.raw(b"HTTP/1.0 200 OK\r\n\r\n" + BIG))


@behaviour("A", NetworkError)
def two_lengths_that_differ() -> Hook:
    lengths = b"Content-Length: 5\r\nContent-Length: 3072000\r\n\r\n"
    return big(lambda handler: handler.raw(b"HTTP/1.1 200 OK\r\n" + lengths + BIG))


@behaviour("A", SizeMismatch)
def length_of_two_to_the_63() -> Hook:
    def act(handler: Handler) -> bool:
        head(handler, 200, Content_Length=str(2**63))
        return handler.raw(BIG)

    return big(act)


@behaviour("A", NetworkError)
def gzip_although_identity_was_asked_for() -> Hook:
    return big(lambda h: h.answer(200, b"\x1f\x8b" + bytes(99), {"Content-Encoding": "gzip"}))


@behaviour("A", NetworkError)
def interim_answers_without_end() -> Hook:
    def act(handler: Handler) -> bool:
        while True:
            handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 50)

    return on("/manifests/", act, method="HEAD")


@behaviour("A", NetworkError)
def ten_thousand_headers() -> Hook:
    lines = b"".join(b"X-%d: y\r\n" % number for number in range(10_000))
    return on(
        "/manifests/", lambda h: h.raw(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n"), method="HEAD"
    )


@behaviour("A", NetworkError)
def answer_that_is_not_http() -> Hook:
    return lambda handler: handler.raw(b"\x15\x03\x01\x00\x02\x02\x46" * 10)


# B: ranges


@behaviour("B", None)
def ranges_ignored() -> Hook:
    return big(lambda handler: handler.answer(200, BIG))


@behaviour("B", None)
def range_with_another_start() -> Hook:
    def act(handler: Handler) -> bool:
        if "Range" not in handler.headers:
            return False
        return partial(handler, BIG[7:], f"bytes 7-{len(BIG) - 1}/{len(BIG)}")

    return big(act)


@behaviour("B", None)
def range_with_another_total() -> Hook:
    def act(handler: Handler) -> bool:
        if "Range" not in handler.headers:
            return False
        return partial(handler, BIG, f"bytes 0-{len(BIG) - 1}/{len(BIG) + 1}")

    return big(act)


@behaviour("B", None)
def partial_answer_that_is_too_short_once() -> Hook:
    def act(handler: Handler) -> bool:
        start, stop = asked_range(handler)
        return partial(handler, BIG[start : start + 99], f"bytes {start}-{stop - 1}/{len(BIG)}")

    return big(act, times=1)


@behaviour("B", None)
def range_not_satisfiable_although_it_is() -> Hook:
    def act(handler: Handler) -> bool:
        if "Range" not in handler.headers:
            return False
        return handler.raw(b"HTTP/1.1 416 No\r\nContent-Length: 3072000\r\n\r\nnothing")

    return big(act)


@behaviour("B", None)
def multipart_answer_to_one_range() -> Hook:
    kind = {"Content-Type": "multipart/byteranges; boundary=x"}
    return big(lambda h: "Range" in h.headers and h.answer(206, b"--x\r\n", kind))


@behaviour("B", DigestMismatch)
def content_that_changes_between_requests() -> Hook:
    def act(handler: Handler) -> bool:
        changed = bytes([handler.script.sent % 251]) * len(BIG)
        start, stop = asked_range(handler)
        return partial(handler, changed[start:stop], f"bytes {start}-{stop - 1}/{len(BIG)}")

    return big(act)


@behaviour("B", NetworkError)
def compressed_range() -> Hook:
    def act(handler: Handler) -> bool:
        start, stop = asked_range(handler)
        said = {"Content-Range": f"bytes {start}-{stop - 1}/{len(BIG)}", "Content-Encoding": "br"}
        return handler.answer(206, BIG[start:stop], said)

    return big(act)


@behaviour("B", None)
def range_ignored_only_when_trying_again() -> Hook:
    cut = big(cut_after(0.5), times=1)
    whole = big(lambda handler: handler.answer(200, BIG), after=0)
    return lambda handler: cut(handler) or whole(handler)


@behaviour("B", SizeMismatch)
def head_tells_another_size_than_get() -> Hook:
    said = {"Content-Type": MANIFEST_TYPE, "Docker-Content-Digest": ROOT_DIGEST}
    return on(
        "/manifests/",
        lambda h: h.answer(200, b"", {**said, "Content-Length": str(len(DEMO.raw) - 1)}),
        method="HEAD",
    )


# C: login


def guarded(
    token: Callable[[Handler], bool], *, challenge: str | None = None, refuse: Hook | None = None
) -> Hook:
    """A registry that wants a token of `token`; `refuse` may say no to a token."""

    def hook(handler: Handler) -> bool:
        if handler.path.startswith("/token"):
            return token(handler)
        said = handler.headers.get("Authorization", "")
        if said == "Bearer good" and not (refuse and refuse(handler)):
            return False
        asked = challenge or f'Bearer realm="{handler.origin}/token",service="s"'
        return handler.answer(401, error_body("UNAUTHORIZED"), {"WWW-Authenticate": asked})

    return hook


def token_of(value: object, status: int = 200) -> Hook:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return lambda handler: handler.answer(status, raw)


GOOD = token_of({"token": "good"})


@behaviour("C", Unauthorized)
def unauthorized_for_ever() -> Hook:
    return guarded(GOOD, refuse=lambda handler: True)


@behaviour("C", None)
def token_refused_in_mid_transfer() -> Hook:
    return guarded(GOOD, refuse=on("/blobs/", lambda handler: True, times=1))


@behaviour("C", RegistryError)
def token_server_answers_500() -> Hook:
    return guarded(token_of(b"oops", 500))


@behaviour("C", NetworkError)
def token_that_is_a_web_page() -> Hook:
    return guarded(token_of(b"<html>please log in</html>"))


@behaviour("C", NetworkError)
def token_of_a_hundred_megabytes() -> Hook:
    def act(handler: Handler) -> bool:
        head(handler, 200, Content_Length="100000000")
        for _ in range(1600):
            handler.wfile.write(bytes(65536))
        return True

    return guarded(act)


@behaviour("C", NetworkError)
def token_nested_without_end() -> Hook:
    return guarded(token_of(b"[" * 100_000))


@behaviour("C", NetworkError)
def token_with_a_line_break() -> Hook:
    return guarded(token_of({"token": "good\r\nX-Evil: 1"}))


@behaviour("C", NetworkError)
def token_that_is_a_number() -> Hook:
    return guarded(token_of({"token": 5}))


@behaviour("C", NetworkError)
def token_server_at_the_metadata_address() -> Hook:
    return guarded(GOOD, challenge='Bearer realm="http://169.254.169.254/latest/",service="s"')


@behaviour("C", NetworkError)
def token_server_on_a_private_address() -> Hook:
    return guarded(GOOD, challenge='Bearer realm="http://10.11.12.13/token",service="s"')


@behaviour("C", NetworkError)
def token_server_that_is_a_file() -> Hook:
    return guarded(GOOD, challenge='Bearer realm="file:///etc/passwd",service="s"')


@behaviour("C", NetworkError)
def token_server_that_redirects_in_a_circle() -> Hook:
    return guarded(lambda handler: handler.answer(302, b"", {"Location": "/token"}))


@behaviour("C", Unauthorized)
def challenge_that_is_malformed() -> Hook:
    return guarded(GOOD, challenge='Bearer realm="no end, ,,=,"" ')


@behaviour("C", Unauthorized)
def challenge_with_thousands_of_parameters() -> Hook:
    return guarded(GOOD, challenge="Bearer " + ",".join(f"a{n}=b" for n in range(6000)))


@behaviour("C", Unauthorized)
def no_challenge_at_all() -> Hook:
    return lambda handler: handler.answer(401, b"")


@behaviour("C", None)
def token_that_expires_at_once() -> Hook:
    return guarded(token_of({"token": "good", "expires_in": 0}))


@behaviour("C", None)
def token_that_expired_before() -> Hook:
    return guarded(token_of({"token": "good", "expires_in": -1}))


@behaviour("C", None)
def token_that_never_expires() -> Hook:
    return guarded(token_of({"token": "good", "expires_in": 10**18, "issued_at": "1990"}))


@behaviour("C", None)
def too_many_requests_once_with_seconds() -> Hook:
    return on("/v2/", lambda h: h.answer(429, b"", {"Retry-After": "0"}), times=2, method="HEAD")


@behaviour("C", RateLimited)
def too_many_requests_for_ten_years() -> Hook:
    return on("/v2/", lambda h: h.answer(429, b"", {"Retry-After": "315360000"}), method="HEAD")


@behaviour("C", RateLimited)
def too_many_requests_with_negative_seconds() -> Hook:
    return on("/v2/", lambda h: h.answer(429, b"", {"Retry-After": "-1"}), method="HEAD")


@behaviour("C", None)
def unavailable_twice() -> Hook:
    return on("/blobs/", lambda handler: handler.answer(503), times=2)


@behaviour("C", RegistryError)
def unavailable_for_ever() -> Hook:
    return big(lambda handler: handler.answer(503))


@behaviour("C", Denied)
def denied_after_the_login() -> Hook:
    return guarded(GOOD, refuse=lambda handler: handler.answer(403, error_body("DENIED")))


# D: manifests


def manifest(raw: bytes, media_type: str = MANIFEST_TYPE) -> Hook:
    """Answer every request for the manifest with these bytes, as a registry would."""
    digest = str(describe(raw).digest)
    said = {"Content-Type": media_type, "Docker-Content-Digest": digest}

    def hook(handler: Handler) -> bool:
        return "/manifests/" in handler.path and handler.answer(200, raw, said)

    return hook


def altered(**members: object) -> Hook:
    return manifest(json.dumps({**json.loads(DEMO.raw), **members}).encode())


def with_layer(**members: object) -> Hook:
    layer = {**DEMO.blobs[2][0].to_json(), **members}
    return altered(layers=[layer])


@behaviour("D", InvalidManifest)
def manifest_of_a_gigabyte() -> Hook:
    said = {
        "Content-Type": MANIFEST_TYPE,
        "Docker-Content-Digest": ROOT_DIGEST,
        "Content-Length": "1000000000",
    }
    return on("/manifests/", lambda handler: handler.answer(200, b"", said), method="HEAD")


@behaviour("D", InvalidManifest)
def manifest_one_byte_over_the_limit() -> Hook:
    raw = DEMO.raw + b" " * ((4 << 20) + 1 - len(DEMO.raw))
    return manifest(raw)


@behaviour("D", InvalidManifest)
def manifest_nested_without_end() -> Hook:
    return manifest(b'{"schemaVersion":2,"a":' + b"[" * 100_000)


@behaviour("D", InvalidManifest)
def manifest_with_duplicate_keys() -> Hook:
    return manifest(DEMO.raw[:-1] + b', "layers": []}')


@behaviour("D", InvalidManifest)
def manifest_of_another_type_than_its_header() -> Hook:
    return manifest(DEMO.raw, mediatypes.OCI_INDEX)


@behaviour("D", InvalidManifest)
def manifest_of_schema_1() -> Hook:
    return altered(schemaVersion=1)


@behaviour("D", InvalidManifest)
def manifest_with_a_hundred_thousand_layers() -> Hook:
    return altered(layers=[{"mediaType": "a", "digest": SMALL_DIGEST, "size": 1}] * 30_000)


@behaviour("D", InvalidManifest)
def manifest_and_index_in_one() -> Hook:
    return altered(manifests=[])


@behaviour("D", InvalidManifest)
def layer_of_negative_size() -> Hook:
    return with_layer(size=-1)


@behaviour("D", InvalidManifest)
def layer_of_two_to_the_63() -> Hook:
    return with_layer(size=2**63)


@behaviour("D", InvalidManifest)
def layer_size_that_is_a_fraction() -> Hook:
    return with_layer(size=11.0)


@behaviour("D", InvalidManifest)
def layer_size_that_is_text() -> Hook:
    return with_layer(size="11")


@behaviour("D", InvalidManifest)
def layer_size_that_is_not_a_number() -> Hook:
    return manifest(DEMO.raw.replace(b'"size": 11', b'"size": NaN'))


@behaviour("D", InvalidManifest)
def layer_size_of_a_million_digits() -> Hook:
    return manifest(DEMO.raw.replace(b'"size": 11', b'"size": ' + b"1" * 1_000_000))


@behaviour("D", SizeMismatch)
def layer_size_that_lies() -> Hook:
    return with_layer(size=10)


@behaviour("D", InvalidManifest)
def one_layer_with_two_sizes() -> Hook:
    layer = DEMO.blobs[2][0].to_json()
    return altered(layers=[layer, {**layer, "size": 12}])


@behaviour("D", InvalidManifest)
def digest_that_climbs_directories() -> Hook:
    return with_layer(digest="sha256:" + "../" * 21 + "a")


@behaviour("D", InvalidManifest)
def digest_in_upper_case() -> Hook:
    return with_layer(digest=SMALL_DIGEST.upper().replace("SHA", "sha"))


@behaviour("D", InvalidManifest)
def digest_that_is_short() -> Hook:
    return with_layer(digest="sha256:abcd")


@behaviour("D", InvalidManifest)
def digest_of_an_unknown_algorithm() -> Hook:
    return with_layer(digest="md5:" + "a" * 32)


@behaviour("D", InvalidManifest)
def digest_with_a_line_break() -> Hook:
    return with_layer(digest=SMALL_DIGEST + "\n")


@behaviour("D", None)
def layer_with_urls() -> Hook:
    return with_layer(urls=["http://169.254.169.254/", "http://127.0.0.1:1/"])


@behaviour("D", None)
def layer_with_other_data_inside() -> Hook:
    return with_layer(data="AAAA")


@behaviour("D", None)
def annotations_for_the_terminal() -> Hook:
    return altered(annotations={"title": "\x1b]0;owned\x07\u202e", "big": "x" * 100_000})


@behaviour("D", InvalidManifest)
def manifest_with_a_byte_order_mark() -> Hook:
    return manifest(b"\xef\xbb\xbf" + DEMO.raw)


@behaviour("D", InvalidManifest)
def manifest_in_utf_16() -> Hook:
    return manifest(DEMO.raw.decode().encode("utf-16"))


@behaviour("D", InvalidManifest)
def manifest_with_half_a_surrogate() -> Hook:
    return altered(annotations={"a": "\ud800"})


@behaviour("D", DigestMismatch)
def digest_header_that_lies() -> Hook:
    said = {"Content-Type": MANIFEST_TYPE, "Docker-Content-Digest": "sha256:" + "0" * 64}
    return lambda h: "/manifests/" in h.path and h.answer(200, DEMO.raw, said)


@behaviour("D", DigestMismatch)
def manifest_that_is_another_by_digest() -> Hook:
    other = DEMO.raw.replace(b"schemaVersion", b"Schemaversion")
    said = {"Content-Type": MANIFEST_TYPE}
    return on(f"/manifests/{ROOT_DIGEST}", lambda h: h.answer(200, other, said))


@behaviour("D", None)
def tag_that_moves_meanwhile() -> Hook:
    def act(handler: Handler) -> bool:
        handler.script.tags["1"] = "sha256:" + "1" * 64
        return False

    return on("/blobs/", act)


@behaviour("D", ModelNotFound)
def tag_that_is_not_there() -> Hook:
    return lambda h: "/manifests/" in h.path and h.answer(404, error_body("MANIFEST_UNKNOWN"))


@behaviour("D", InvalidManifest)
def chain_of_indexes_without_end() -> Hook:
    chain: dict[str, bytes] = {}
    raw = b'{"schemaVersion": 2, "manifests": []}'
    for _ in range(400):
        described = describe(raw, mediatypes.OCI_INDEX)
        chain[str(described.digest)] = raw
        entry = described.to_json()
        raw = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()

    def hook(handler: Handler) -> bool:
        if "/manifests/" not in handler.path:
            return False
        name = handler.path.rpartition("/")[2]
        found = chain.get(name, raw)
        said = {
            "Content-Type": mediatypes.OCI_INDEX,
            "Docker-Content-Digest": str(describe(found).digest),
        }
        return handler.answer(200, found, said)

    return hook


# E: blobs


@behaviour("E", DigestMismatch)
def layer_of_other_bytes() -> Hook:
    return big(lambda handler: handler.answer(200, BIG[::-1]))


@behaviour("E", DigestMismatch)
def small_layer_of_other_bytes() -> Hook:
    return small(lambda handler: handler.answer(200, b"other layer"))


@behaviour("E", SizeMismatch)
def layer_cut_short() -> Hook:
    return big(lambda handler: handler.answer(200, BIG[:-1]))


@behaviour("E", SizeMismatch)
def layer_too_long() -> Hook:
    return big(lambda handler: handler.answer(200, BIG + b"x"))


@behaviour("E", None)
def layer_with_a_wrong_digest_header() -> Hook:
    said = {"Docker-Content-Digest": ROOT_DIGEST}
    return big(lambda handler: handler.answer(200, BIG, said))


@behaviour("E", SizeMismatch)
def layer_that_is_a_web_page() -> Hook:
    said = {"Content-Type": "text/html"}
    return big(lambda handler: handler.answer(200, b"<html>sign in</html>", said))


@behaviour("E", BlobNotFound)
def layer_that_is_not_there() -> Hook:
    return big(lambda handler: handler.answer(404, error_body("BLOB_UNKNOWN")))


@behaviour("E", SizeMismatch)
def layer_that_is_empty() -> Hook:
    return big(lambda handler: handler.answer(200, b""))


@behaviour("E", RegistryError)
def error_body_without_end() -> Hook:
    def act(handler: Handler) -> bool:
        head(handler, 418, Transfer_Encoding="chunked")
        while True:
            handler.wfile.write(b"10000\r\n" + b"{" * 65536 + b"\r\n")

    return big(act)


# F: redirects


def redirect(location: str, status: int = 307) -> Hook:
    return big(lambda handler: handler.answer(status, b"", {"Location": location}))


@behaviour("F", NetworkError)
def redirect_to_the_metadata_address() -> Hook:
    return redirect("http://169.254.169.254/latest/meta-data")


@behaviour("F", NetworkError)
def redirect_to_a_private_address() -> Hook:
    return redirect("http://192.168.77.1/blob")


@behaviour("F", NetworkError)
def redirect_to_a_mapped_address() -> Hook:
    return redirect("http://[::ffff:10.0.0.1]/blob")


@behaviour("F", NetworkError)
def redirect_to_a_number_that_is_an_address() -> Hook:
    return redirect("http://2852039166/latest")


@behaviour("F", NetworkError)
def redirect_in_a_circle() -> Hook:
    return big(lambda handler: handler.answer(302, b"", {"Location": handler.path}))


@behaviour("F", NetworkError)
def redirect_to_a_file() -> Hook:
    return redirect("file:///etc/passwd")


@behaviour("F", NetworkError)
def redirect_with_a_user_name() -> Hook:
    return redirect("http://user:secret@127.0.0.1/x")


@behaviour("F", NetworkError)
def redirect_with_a_line_break() -> Hook:
    return big(lambda h: h.raw(b"HTTP/1.1 302 x\r\nLocation: http://a\x01b/\r\n\r\n"))


@behaviour("F", None)
def cookies_with_every_answer() -> Hook:
    def hook(handler: Handler) -> bool:
        if "Cookie" in handler.headers:
            return handler.answer(400, b"cookies")
        if BIG_DIGEST not in handler.path:
            return False
        return handler.answer(200, BIG, {"Set-Cookie": "sid=1; Path=/"})

    return hook


# G: uploads


@behaviour("G", NetworkError, act="push")
def upload_without_a_location() -> Hook:
    return on("/uploads/", lambda handler: handler.answer(202), method="POST")


@behaviour("G", NetworkError, act="push")
def upload_to_the_metadata_address() -> Hook:
    said = {"Location": "http://169.254.169.254/upload"}
    return on("/uploads/", lambda handler: handler.answer(202, b"", said), method="POST")


@behaviour("G", NetworkError, act="push")
def upload_that_is_redirected() -> Hook:
    def act(handler: Handler) -> bool:
        handler.body()
        return handler.answer(307, b"", {"Location": handler.path})

    return on("/uploads/", act, method="PUT")


@behaviour("G", DigestMismatch, act="push")
def upload_stored_under_another_digest() -> Hook:
    def act(handler: Handler) -> bool:
        handler.body()
        return handler.answer(201, b"", {"Docker-Content-Digest": "sha256:" + "0" * 64})

    return on("/uploads/", act, method="PUT")


def stored(handler: Handler) -> None:
    data = handler.body()
    handler.script.blobs[str(describe(data).digest)] = data


@behaviour("G", None, act="push")
def connection_dropped_after_the_upload_was_stored() -> Hook:
    def act(handler: Handler) -> bool:
        stored(handler)
        return handler.reset()

    return on("/uploads/", act, method="PUT")


@behaviour("G", None, act="push")
def error_although_the_upload_was_stored() -> Hook:
    def act(handler: Handler) -> bool:
        stored(handler)
        return handler.answer(500)

    return on("/uploads/", act, method="PUT")


@behaviour("G", None, act="push")
def upload_refused_once_in_the_middle() -> Hook:
    def act(handler: Handler) -> bool:
        handler.rfile.read(100)
        return handler.reset()

    return on("/uploads/", act, times=1, method="PUT")


@behaviour("G", Denied, act="push")
def upload_denied() -> Hook:
    def act(handler: Handler) -> bool:
        handler.body()
        return handler.answer(403, error_body("DENIED", "quota exceeded"))

    return on("/uploads/", act, method="POST")


@behaviour("G", DigestMismatch, act="push")
def manifest_stored_under_another_digest() -> Hook:
    def act(handler: Handler) -> bool:
        handler.body()
        return handler.answer(201, b"", {"Docker-Content-Digest": "sha256:" + "0" * 64})

    return on("/manifests/", act, method="PUT")


@behaviour("G", BlobNotFound, act="push")
def layers_that_were_only_said_to_be_there() -> Hook:
    def hook(handler: Handler) -> bool:
        if handler.command == "HEAD" and "/blobs/" in handler.path:
            return handler.answer(200)
        if handler.command == "PUT" and "/manifests/" in handler.path:
            handler.body()
            return handler.answer(400, error_body("MANIFEST_BLOB_UNKNOWN"))
        return False

    return hook


# H: lists


def page(names: object, link: str | None = None) -> Hook:
    said = {"Link": link} if link else {}
    raw = names if isinstance(names, bytes) else json.dumps({"tags": names}).encode()
    return lambda handler: handler.answer(200, raw, said)


@behaviour("H", NetworkError, act="tags")
def list_that_goes_on_at_another_host() -> Hook:
    return page(["a"], '<http://127.0.0.1:1/v2/x/tags/list>; rel="next"')


@behaviour("H", NetworkError, act="tags")
def list_without_end() -> Hook:
    count = [0]

    def hook(handler: Handler) -> bool:
        count[0] += 1
        return page(["a"] * 5000, f'</v2/x/tags/list?n={count[0]}>; rel="next"')(handler)

    return hook


@behaviour("H", None, act="tags")
def list_whose_next_page_is_itself() -> Hook:
    return lambda h: page(["a"], f"<{h.path}>; rel=next")(h)


@behaviour("H", NetworkError, act="tags")
def list_page_of_ten_megabytes() -> Hook:
    return page(["x" * 100] * 100_000)


@behaviour("H", NetworkError, act="tags")
def list_that_is_no_list() -> Hook:
    return page(b"<html>")


@behaviour("H", None, act="tags")
def list_that_is_null() -> Hook:
    return page(None)


@behaviour("H", None, act="tags")
def names_for_the_terminal() -> Hook:
    return page(["\x1b[2Jowned", "\u202eevil", 5, None])


@behaviour("H", Denied, act="search")
def catalogue_denied() -> Hook:
    return lambda handler: handler.answer(403, error_body("DENIED"))


def table() -> str:
    """The table of docs/transfer.md."""
    lines = ["| | what the registry does | what comes of it |", "|---|---|---|"]
    for case in sorted(BEHAVIOURS, key=lambda case: case.kind):
        ends = f"`{case.outcome.__name__}`" if case.outcome else "works, verified"
        lines.append(f"| {case.kind} | {case.act}: {case.name} | {ends} |")
    return "\n".join(lines)
