"""copy, tags and search, as the shell runs them."""

from __future__ import annotations

import base64
import json
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.artifacts import make_artifact
from support.falseregistry import Handler, Server, scripted
from support.gguf import tiny_llama
from support.registry import PROGRAM, DockerRegistry, docker_registry
from support.transfers import open_quick

from pannier.pkgmgr.reference import Reference

MAIN = "import sys; from pannier.api.main import main; sys.exit(main())"
DEMO = make_artifact(b"weights" * 1000, b"small")


def pannier(
    root: Path, *arguments: str, stdin: str = "", **environ: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", MAIN, *arguments],
        env={"PANNIER_HOME": str(root / "home"), "HOME": str(root), "PATH": "", **environ},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    if PROGRAM is None:
        pytest.skip("docker-registry is not installed")
    root = tmp_path_factory.mktemp("registry")
    with docker_registry(root) as running:
        name = f"{running.host}/team/demo"
        with open_quick(name, root) as repository:
            DEMO.push_to(repository, f"{name}:1")
            repository.tag(DEMO.descriptor, Reference.parse(f"{name}:sha256-{'a' * 64}.sig"))
        yield running


@pytest.mark.registry
def test_copy_goes_from_registry_to_registry_by_mount(
    registry: DockerRegistry, tmp_path: Path
) -> None:
    source, goal = f"{registry.host}/team/demo:1", f"{registry.host}/other/demo:2"
    done = pannier(tmp_path, "copy", source, goal, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["digest"] == str(DEMO.descriptor.digest)
    with open_quick(goal, tmp_path) as repository:
        assert repository.resolve(Reference.parse(goal)).digest == DEMO.descriptor.digest
    assert not (tmp_path / "home" / "blobs").exists()


@pytest.mark.registry
@pytest.mark.skopeo
@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_copy_goes_to_a_layout_that_skopeo_reads_and_back(
    registry: DockerRegistry, tmp_path: Path
) -> None:
    layout = f"oci:{tmp_path}/layout:mine"
    done = pannier(tmp_path, "copy", f"{registry.host}/team/demo:1", layout)
    assert done.returncode == 0, done.stderr
    skopeo = str(shutil.which("skopeo"))
    raw = subprocess.run([skopeo, "inspect", "--raw", layout], capture_output=True, check=True)
    assert raw.stdout == DEMO.raw
    done = pannier(tmp_path, "copy", f"oci:{tmp_path}/layout", f"{registry.host}/back/demo:1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(DEMO.descriptor.digest)


@pytest.mark.registry
def test_tags_and_search_tell_what_is_there(registry: DockerRegistry, tmp_path: Path) -> None:
    done = pannier(tmp_path, "tags", f"{registry.host}/team/demo")
    assert done.stdout.split() == ["1"]
    done = pannier(tmp_path, "search", registry.host, "TEAM", "--json")
    assert json.loads(done.stdout)["repositories"] == [f"{registry.host}/team/demo"]
    done = pannier(tmp_path, "tags", f"{registry.host}/no/such")
    assert done.returncode == 3
    assert done.stderr.startswith("error: ")


def test_a_password_of_the_command_line_goes_to_the_named_host_only(tmp_path: Path) -> None:
    with scripted(DEMO) as server:
        server.script.hook = lambda handler: (
            "authorization" not in {key.lower() for key in handler.headers}
            and handler.answer(401, b"", {"WWW-Authenticate": "Basic"})
        )
        environ = {
            "PANNIER_REGISTRY": server.host,
            "PANNIER_USERNAME": "alice",
            "PANNIER_PASSWORD": "secret",
        }
        assert pannier(tmp_path, "tags", f"{server.host}/team/demo").returncode == 5
        assert pannier(tmp_path, "tags", f"{server.host}/team/demo", **environ).returncode == 0
        other = {**environ, "PANNIER_REGISTRY": "127.0.0.1:1"}
        assert pannier(tmp_path, "tags", f"{server.host}/team/demo", **other).returncode == 5


def test_show_remote_fetches_the_header_and_no_weights(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "model.gguf", blocks=60)
    (tmp_path / "Modelfile").write_text("FROM ./model.gguf\nSYSTEM be brief\n")
    with scripted() as server:
        name = f"{server.host}/team/demo:1"
        create = pannier(tmp_path, "create", name, "-f", str(tmp_path / "Modelfile"))
        assert create.returncode == 0, create.stderr
        assert pannier(tmp_path, "push", name).returncode == 0
        elsewhere = {"PANNIER_HOME": str(tmp_path / "elsewhere")}
        before = server.script.sent
        done = pannier(tmp_path, "show", "--remote", name, "--json", **elsewhere)
        sent = server.script.sent - before
    assert done.returncode == 0, done.stderr
    assert "be brief" in done.stdout
    assert sent < model.stat().st_size // 4


def test_a_layout_name_that_is_none_is_a_usage_error(tmp_path: Path) -> None:
    assert pannier(tmp_path, "copy", "oci:a:b:c", "localhost/x").returncode == 2
    assert pannier(tmp_path, "copy", f"oci:{tmp_path}/none", "localhost/x").returncode == 2
    assert pannier(tmp_path, "tags", "localhost/x", "--limit-rate", "fast").returncode == 2
    assert pannier(tmp_path, "tags", "localhost/x", "--tls-verify", "perhaps").returncode == 2


def test_ctrl_c_keeps_what_has_arrived_and_says_so(tmp_path: Path) -> None:
    data = bytes(3_000_000)
    model = make_artifact(data)
    stalled = threading.Event()

    def stall(handler: Handler) -> bool:
        if "Range" not in handler.headers:
            return False
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes 0-{len(data) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.send(data[:2_000_000])
        stalled.set()
        return bool(handler.rfile.read(1)) or True

    with scripted(model, hook=stall) as server:
        name = f"{server.host}/team/demo:1"
        child = subprocess.Popen(
            [sys.executable, "-c", MAIN, "pull", name],
            env={"PANNIER_HOME": str(tmp_path / "home"), "HOME": str(tmp_path), "PATH": ""},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert stalled.wait(30)
        begun = time.monotonic()
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=30)
        assert time.monotonic() - begun < 10
    assert child.returncode == 130
    assert "kept" in said
    assert "goes on" in said
    assert "Traceback" not in said
    assert list((tmp_path / "home" / "ingest").glob("*.partial"))


PEMS = Path(__file__).parents[2] / "support" / "tls"
BASIC = f"Basic {base64.b64encode(b'alice:secret').decode()}"


@pytest.fixture
def closed() -> Iterator[Server]:
    """A registry with TLS of an own authority and a login."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEMS / "right.pem", PEMS / "key.pem")

    def hook(handler: Handler) -> bool:
        if handler.headers.get("Authorization") == BASIC:
            return False
        return handler.answer(401, b"", {"WWW-Authenticate": "Basic"})

    with scripted(DEMO, hook=hook, tls=context) as server:
        yield server


LOGIN = ("--username", "alice", "--password-stdin")


def ask(root: Path, server: Server, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    settings = root / "home" / "settings.toml"
    settings.parent.mkdir(exist_ok=True)
    settings.write_text(f'[registry."{server.host}"]\nplain_http = false\n')
    return pannier(root, *map(str, arguments), stdin="secret\n")


@pytest.mark.parametrize(
    "trust", [("--ca-file", PEMS / "right.pem"), ("--tls-verify", "false"), ("--insecure",)]
)
def test_login_takes_the_tls_options(
    closed: Server, tmp_path: Path, trust: tuple[str | Path, ...]
) -> None:
    assert ask(tmp_path, closed, "login", closed.host, *LOGIN).returncode == 5
    assert not (tmp_path / "home" / "auth.json").exists()
    done = ask(tmp_path, closed, "login", closed.host, *LOGIN, *trust)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "home" / "auth.json").exists()


@pytest.mark.parametrize("command", ["show", "inspect"])
def test_remote_looks_take_the_network_options(
    closed: Server, tmp_path: Path, command: str
) -> None:
    name = f"{closed.host}/team/demo:1"
    look = (command, "--remote", name, *LOGIN)
    assert "TLS" in ask(tmp_path, closed, *look).stderr
    assert closed.script.requests("GET", "/manifests/") == []
    ask(tmp_path, closed, *look, "--ca-file", PEMS / "right.pem")
    asked = closed.script.requests("HEAD", "/manifests/")
    assert asked[-1].headers["authorization"] == BASIC


def test_repairs_take_the_tls_options(closed: Server, tmp_path: Path) -> None:
    name, trust = f"{closed.host}/team/demo:1", ("--ca-file", PEMS / "right.pem")
    assert ask(tmp_path, closed, "login", closed.host, *LOGIN, *trust).returncode == 0
    assert ask(tmp_path, closed, "pull", name, *trust).returncode == 0
    blob = tmp_path / "home" / "blobs" / "sha256" / DEMO.blobs[1][0].digest.hex
    blob.chmod(0o644)
    blob.write_bytes(b"rotten")
    assert ask(tmp_path, closed, "verify", "--repair").returncode != 0
    done = ask(tmp_path, closed, "verify", "--repair", *trust)
    assert done.returncode == 0, done.stderr
    assert blob.read_bytes() == DEMO.blobs[1][1]
