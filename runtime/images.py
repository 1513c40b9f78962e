"""What an encoded image says of itself, read before any decoder sees it. Pure.

PNG (W3C PNG, third edition, §11.2.1), JPEG (ITU-T T.81, B.2.2), GIF (89a, §18), BMP (its DIB
headers) and WebP (RFC 9649, §2). A file of some kilobytes can say that it is 100 megapixels large:
what it says is held against bounds here, and decoded in a runner's sandbox only.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import InvalidImage

# 3 bytes of memory each once decoded, and up to 6 more while decoding.
MAX_PIXELS = 50_000_000
MAX_SIDE = 32_768
# Of all images of a request together, as they are encoded.
MAX_BYTES = 100 << 20
# Anthropic's bound.
MAX_IMAGES = 100
_PNG = b"\x89PNG\r\n\x1a\n"
# Start-of-frame markers: C0 to CF but for DHT, JPG and DAC (ITU-T T.81, table B.1).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers without a length: TEM, RST0 to RST7, SOI.
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})


@dataclass(frozen=True, slots=True)
class ImageHead:
    """Kind (`png`, `jpeg`, `gif`, `bmp`, `webp`) and size in pixels."""

    kind: str
    width: int
    height: int


def check_images(images: Sequence[bytes]) -> list[ImageHead]:
    """The heads of a request's images.

    Raises:
        InvalidImage: one is none, or is too large, or they are too many.
    """
    if len(images) > MAX_IMAGES:
        raise InvalidImage(f"{len(images)} images are too many: no more than {MAX_IMAGES} are read")
    if sum(map(len, images)) > MAX_BYTES:
        raise InvalidImage(f"the images take more than {MAX_BYTES >> 20} MB")
    return [read_head(data) for data in images]


def read_head(data: bytes) -> ImageHead:
    """The head of an image.

    >>> read_head(b"GIF89a" + bytes([2, 0, 3, 0]))
    ImageHead(kind='gif', width=2, height=3)

    Raises:
        InvalidImage: it is of no known kind, is cut short, or is too large.
    """
    head = _read(data)
    if not (0 < head.width <= MAX_SIDE and 0 < head.height <= MAX_SIDE):
        raise InvalidImage(f"an image of {head.width} x {head.height} pixels is not read")
    if head.width * head.height > MAX_PIXELS:
        raise InvalidImage(
            f"an image of {head.width} x {head.height} pixels is larger than "
            f"{MAX_PIXELS // 1_000_000} megapixels"
        )
    return head


def _read(data: bytes) -> ImageHead:
    try:
        if data.startswith(_PNG):
            return _png(data)
        if data.startswith(b"\xff\xd8"):
            return ImageHead("jpeg", *_jpeg(data))
        if data[:6] in (b"GIF87a", b"GIF89a"):
            return ImageHead("gif", *struct.unpack_from("<HH", data, 6))
        if data.startswith(b"BM"):
            return ImageHead("bmp", *_bmp(data))
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return ImageHead("webp", *_webp(data))
    except (struct.error, IndexError):
        raise InvalidImage("an image is cut short") from None
    raise InvalidImage("an image is none: PNG, JPEG, WebP, GIF and BMP are read")


def _png(data: bytes) -> ImageHead:
    if data[12:16] != b"IHDR":
        raise InvalidImage("a PNG image does not begin with its header")
    return ImageHead("png", *struct.unpack_from(">II", data, 16))


def _jpeg(data: bytes) -> tuple[int, int]:
    at = 2
    while True:
        at = _next_marker(data, at)
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        at += 1
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 3)
            return width, height
        if marker == 0xDA:
            raise InvalidImage("a JPEG image has no frame before its scan")
        if marker not in _BARE and marker:
            at += struct.unpack_from(">H", data, at)[0]


def _next_marker(data: bytes, at: int) -> int:
    found = data.find(b"\xff", at)
    if found < 0:
        raise IndexError(at)
    return found


def _bmp(data: bytes) -> tuple[int, int]:
    (size,) = struct.unpack_from("<I", data, 14)
    if size == 12:
        width, height = struct.unpack_from("<HH", data, 18)
        return width, height
    # Rows from top to bottom have a negative height.
    width, height = struct.unpack_from("<ii", data, 18)
    return abs(width), abs(height)


def _webp(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        sides = struct.unpack_from("<3s3s", data, 24)
        width, height = (int.from_bytes(side, "little") + 1 for side in sides)
        return width, height
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise InvalidImage("a WebP image has no picture")
