"""Debian's docker-registry (distribution 2.8) as a process on a free loopback port."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAM = shutil.which("docker-registry")
USER, PASSWORD = "alice", "open sesame"
_START_S = 20.0


@dataclass(frozen=True)
class DockerRegistry:
    """A running registry. `host` is what names begin with; its files lie under `root`."""

    host: str
    root: Path
    pid: int


@contextmanager
def docker_registry(
    root: Path, *, login: bool = False, environ: dict[str, str] | None = None
) -> Iterator[DockerRegistry]:
    """Start a registry that keeps its data in `root`, and end it with the block.

    With `login` it wants `USER` and `PASSWORD` (Basic). `environ` overrides its configuration,
    as distribution's docs/configuration.md says (REGISTRY_…).
    """
    if PROGRAM is None:
        pytest.fail("docker-registry is not installed (Debian package docker-registry)")
    root.mkdir(parents=True, exist_ok=True)
    port = free_port()
    (root / "config.yml").write_text(_config(root, port, login=login))
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(
            [PROGRAM, "serve", str(root / "config.yml")],
            stdout=log,
            stderr=log,
            env={**os.environ, "OTEL_TRACES_EXPORTER": "none", **(environ or {})},
        )
        try:
            _await_port(process, port)
            yield DockerRegistry(f"127.0.0.1:{port}", root, process.pid)
        finally:
            process.kill()
            process.wait()


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _config(root: Path, port: int, *, login: bool) -> str:
    lines = [
        "version: 0.1",
        "log: {level: warn, accesslog: {disabled: true}}",
        "storage:",
        f"  filesystem: {{rootdirectory: {root / 'data'}}}",
        "  delete: {enabled: true}",
        "http:",
        f"  addr: 127.0.0.1:{port}",
    ]
    if login:
        (root / "htpasswd").write_text(f"{USER}:{_PASSWORD_HASH}\n")
        lines += ["auth:", f"  htpasswd: {{realm: test, path: {root / 'htpasswd'}}}"]
    return "\n".join(lines) + "\n"


def _await_port(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"docker-registry ended with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    pytest.fail("docker-registry does not answer")


# bcrypt of PASSWORD, cost 4.
_PASSWORD_HASH = "$2b$04$OCbFNEj1BdHb8eLq5VDDHeRtlWp2h6Vl0OIzL27TfP6CjkMkuKdme"
