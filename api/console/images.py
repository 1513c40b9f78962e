"""Images that a prompt names by their paths, as Ollama's users write them."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from pannier.pkgmgr.errors import InvalidInput
from pannier.runtime.images import MAX_BYTES, read_head

_KIND = r"\.(?:png|jpe?g|webp|gif|bmp)"
# In quotes, or with a backslash before what would end it.
_PATHS = re.compile(
    rf"""'([^'\n]+{_KIND})'|"([^"\n]+{_KIND})"|((?:\\.|[^\s'"\\])+?{_KIND})(?![\w])""",
    re.IGNORECASE,
)


def take_images(text: str) -> tuple[str, dict[str, str]]:
    """A prompt without the paths of its images, and the images in base64 by path, in order.

    What looks like a path and is no file stays text.

    Raises:
        InvalidInput: a file is too large.
        InvalidImage: a file is no image.
    """
    images: dict[str, str] = {}

    def replace(match: re.Match[str]) -> str:
        name = match[1] or match[2] or re.sub(r"\\(.)", r"\1", match[3])
        path = Path(name).expanduser()
        if not path.is_file():
            return match[0]
        images[name] = _read(path)
        return ""

    prompt = _PATHS.sub(replace, text)
    return (prompt.strip() if images else text), images


def _read(path: Path) -> str:
    with path.open("rb") as stream:
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise InvalidInput(f"image {path} is larger than {MAX_BYTES >> 20} MB")
    read_head(data)
    return base64.b64encode(data).decode("ascii")
