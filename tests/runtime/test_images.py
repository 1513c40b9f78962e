"""What encoded images say of themselves, and the bounds that this is held against."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tinyvision import png

from pannier.runtime.errors import InvalidImage
from pannier.runtime.images import MAX_IMAGES, MAX_SIDE, ImageHead, check_images, read_head

JPEG = (
    b"\xff\xd8\xff\xe0\x00\x10JFIF\0\1\1\0\0\1\0\1\0\0"
    b"\xff\xff\xc2\x00\x11\x08\x00\x18\x00\x28\x03\1\x22\0\2\x11\1\3\x11\1"
)
HEADS = {
    "png": (png(40, 24), ImageHead("png", 40, 24)),
    "jpeg": (JPEG, ImageHead("jpeg", 40, 24)),
    "gif": (b"GIF89a" + struct.pack("<HH", 40, 24), ImageHead("gif", 40, 24)),
    "bmp": (
        b"BM" + bytes(12) + struct.pack("<Iii", 40, 40, -24),
        ImageHead("bmp", 40, 24),
    ),
    "old bmp": (b"BM" + bytes(12) + struct.pack("<IHH", 12, 40, 24), ImageHead("bmp", 40, 24)),
    "webp": (
        b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\x30\1\0\x9d\1\x2a" + struct.pack("<HH", 40, 24),
        ImageHead("webp", 40, 24),
    ),
    "lossless webp": (
        b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f" + struct.pack("<I", 39 | 23 << 14),
        ImageHead("webp", 40, 24),
    ),
    "extended webp": (
        b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\x27\0\0\x17\0\0",
        ImageHead("webp", 40, 24),
    ),
}


@pytest.mark.parametrize("name", HEADS)
def test_each_kind_tells_its_size(name: str) -> None:
    data, head = HEADS[name]
    assert read_head(data) == head


@pytest.mark.parametrize("name", HEADS)
def test_a_head_that_is_cut_short_is_refused_everywhere(name: str) -> None:
    data, head = HEADS[name]
    for length in range(len(data)):
        try:
            assert read_head(data[:length]) == head
        except InvalidImage:
            continue


@pytest.mark.parametrize(("width", "height"), [(30_000, 30_000), (40_000, 2), (0, 5), (5, 0)])
def test_a_bomb_is_refused_by_its_head_alone(width: int, height: int) -> None:
    bomb = bytearray(png(1, 1))
    bomb[16:24] = struct.pack(">II", width, height)
    with pytest.raises(InvalidImage, match=f"{width} x {height} pixels"):
        read_head(bytes(bomb))


def test_too_many_images_are_refused() -> None:
    with pytest.raises(InvalidImage, match="101 images"):
        check_images([png(1, 1)] * (MAX_IMAGES + 1))


@given(st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"RIFF"]), st.binary())
def test_no_bytes_do_anything_else_than_be_refused(start: bytes, rest: bytes) -> None:
    try:
        head = read_head(start + rest)
    except InvalidImage:
        return
    assert 0 < head.width <= MAX_SIDE
    assert 0 < head.height <= MAX_SIDE


@given(st.binary(max_size=200))
def test_no_jpeg_is_read_for_ever(rest: bytes) -> None:
    try:
        head = read_head(JPEG[:20] + rest)
    except InvalidImage:
        return
    assert head.kind == "jpeg"
