"""Compressed request bodies (RFC 9110 §8.4), within a limit on what they grow to. Pure.

Ollama takes zstd on one of its routes; clients behind some proxies compress with gzip or deflate.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

from .errors import RequestError

# zlib's wbits: with a gzip header, with a zlib header.
_GZIP, _ZLIB = 31, 15


def decoded(raw: bytes, coding: str, *, limit: int) -> bytes:
    """A body as it was before it was compressed.

    >>> decoded(zlib.compress(b"{}"), "deflate", limit=10)
    b'{}'

    Args:
        raw: what was sent.
        coding: the Content-Encoding, empty where there is none.
        limit: bytes that it may grow to.

    Raises:
        RequestError: 415 for a coding that nobody here knows, 400 where the body is not in it,
            413 where it grows beyond the limit.
    """
    name = coding.strip().lower()
    if name in ("", "identity"):
        return raw
    if name not in _DECODERS:
        known = ", ".join(sorted(_DECODERS))
        raise RequestError(415, f"the Content-Encoding must be one of {known}")
    data = _DECODERS[name](raw, limit + 1)
    if data is None:
        raise RequestError(400, f"the request body is not {name}")
    if len(data) > limit:
        raise RequestError(413, "request body too large")
    return data


def _inflated(raw: bytes, most: int, *, wbits: int) -> bytes | None:
    decoder = zlib.decompressobj(wbits)
    try:
        data = decoder.decompress(raw, most)
    except zlib.error:
        return None
    is_whole = decoder.eof and not decoder.unused_data
    return data if is_whole or len(data) == most else None


def _unzstd(raw: bytes, most: int) -> bytes | None:
    import zstandard

    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(raw) as reader:
            return reader.read(most)
    except zstandard.ZstdError:
        return None


_DECODERS: Mapping[str, Callable[[bytes, int], bytes | None]] = {
    "gzip": lambda raw, most: _inflated(raw, most, wbits=_GZIP),
    "x-gzip": lambda raw, most: _inflated(raw, most, wbits=_GZIP),
    "deflate": lambda raw, most: _inflated(raw, most, wbits=_ZLIB),
    "zstd": _unzstd,
}
