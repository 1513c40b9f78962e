"""Install pip into this Python's environment from the package index, without ensurepip.

Debian and Ubuntu split ensurepip off into python3-venv, which a fresh machine lacks. The index is
the one that pip is set up to use: PIP_INDEX_URL, else pip's configuration files. The wheel is
checked against the hash in the index (PEP 503) and then run from its own zip (PEP 427).
"""

from __future__ import annotations

import configparser
import hashlib
import html.parser
import os
import re
import ssl
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path

TIMEOUT_S = 60
_WHEEL = re.compile(r"pip-([0-9]+(?:\.[0-9]+)*)-py3-none-any\.whl")


class _Links(html.parser.HTMLParser):
    """Collects every link of a simple-index page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the target of an anchor, unless the index has withdrawn the file (PEP 592)."""
        values = dict(attrs)
        if tag == "a" and values.get("href") and "data-yanked" not in values:
            self.links.append(values["href"] or "")


def index_url() -> str:
    """Where pip is told to look for packages; ends the program where nobody told it."""
    config = configparser.ConfigParser(interpolation=None)
    home = Path.home()
    config.read(
        [
            "/etc/pip.conf",
            home / ".pip/pip.conf",
            home / ".config/pip/pip.conf",
            os.environ.get("PIP_CONFIG_FILE", "/nonexistent"),
        ]
    )
    configured = config.get("global", "index-url", fallback="")
    url = os.environ.get("PIP_INDEX_URL", configured).rstrip("/")
    if not url:
        raise SystemExit(
            "error: this Python has neither pip nor ensurepip, and no package index is set up\n"
            "hint: install python3-venv, or set PIP_INDEX_URL"
        )
    return url


def fetch(url: str) -> bytes:
    """What is at a URL; certificates are checked against PIP_CERT where that is set."""
    context = ssl.create_default_context(cafile=os.environ.get("PIP_CERT"))
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S, context=context) as reply:
            content: bytes = reply.read()
    except OSError as error:
        raise SystemExit(
            f"error: cannot fetch {url}: {error}\nhint: install python3-venv"
        ) from error
    return content


def newest_wheel(page_url: str) -> str:
    """The absolute URL, with its hash, of the newest release of pip on an index page."""
    links = _Links()
    links.feed(fetch(page_url).decode("utf-8"))
    found: dict[tuple[int, ...], str] = {}
    for link in links.links:
        match = _WHEEL.fullmatch(urllib.parse.urlsplit(link).path.rpartition("/")[2])
        if match:
            found[tuple(map(int, match[1].split(".")))] = urllib.parse.urljoin(page_url, link)
    if not found:
        raise SystemExit(f"error: no release of pip at {page_url}\nhint: install python3-venv")
    return found[max(found)]


def main() -> None:
    """Download, check, install."""
    url = newest_wheel(f"{index_url()}/pip/")
    parts = urllib.parse.urlsplit(url)
    content = fetch(parts._replace(fragment="").geturl())
    algorithm, _, expected = parts.fragment.partition("=")
    if algorithm != "sha256" or hashlib.sha256(content).hexdigest() != expected:
        raise SystemExit("error: the wheel of pip is not what the index says")
    with tempfile.TemporaryDirectory() as directory:
        wheel = Path(directory, parts.path.rpartition("/")[2])
        wheel.write_bytes(content)
        subprocess.run(
            [sys.executable, f"{wheel}/pip", "install", "--quiet", "--no-index", str(wheel)],
            check=True,
        )


if __name__ == "__main__":
    main()
