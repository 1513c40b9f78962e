"""Images that a prompt names by their paths, as Ollama's users write them."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from pannier.pkgmgr.errors import InvalidInput

MAX_IMAGE_BYTES = 100 << 20
_PATHS = re.compile(r"(?:\./|\.\./|~/|/)?(?:\\ |[^\s'\"])+?\.(?:png|jpe?g|webp)\b", re.IGNORECASE)
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF")


def take_images(text: str) -> tuple[str, list[str]]:
    """A prompt without the paths of its images, and the images in base64.

    What looks like a path and is no file stays text.

    Raises:
        InvalidInput: where a file is too large, or is no image.
    """
    images: list[str] = []

    def replace(match: re.Match[str]) -> str:
        path = Path(match[0].replace("\\ ", " ")).expanduser()
        if not path.is_file():
            return match[0]
        images.append(_read(path))
        return ""

    prompt = _PATHS.sub(replace, text)
    return (prompt.replace("''", "").replace('""', "").strip() if images else text), images


def _read(path: Path) -> str:
    with path.open("rb") as stream:
        data = stream.read(MAX_IMAGE_BYTES + 1)
    if len(data) > MAX_IMAGE_BYTES:
        raise InvalidInput(f"image {path} is larger than {MAX_IMAGE_BYTES >> 20} MB")
    if not data.startswith(_MAGIC):
        raise InvalidInput(f"{path} is no PNG, JPEG or WebP image")
    return base64.b64encode(data).decode("ascii")
