"""What goes wrong for users: one clear line, the right exit code, no half model, no traceback."""

from __future__ import annotations

import http.server
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.cli import PROGRAM, TIMEOUT_S, Pannier, Result
from support.gguf import hostile
from support.models import smollm2
from support.registry import PASSWORD, USER, DockerRegistry, docker_registry, free_port
from support.stalling import stalling_relay

HOSTILE = hostile()


def create(pannier: Pannier, modelfile: str) -> Result:
    return pannier("create", "x", "-f", "-", stdin=modelfile)


def test_a_missing_modelfile(pannier: Pannier, tmp_path: Path) -> None:
    result = pannier("create", "x", "-f", tmp_path / "nothing")
    result.fails(2, "No such file")
    assert pannier.names() == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no FROM"),
        ("FROM\n", "Modelfile:1"),
        ("FROM x\nPARAMETER top_k\n", "Modelfile:2"),
        ("FROM x\nPARAMETER top_k many\n", "top_k"),
        ("FROM x\nPARAMETER nonsense 1\n", "nonsense"),
        ("FROM x\nCOPY a b\n", "Modelfile:2"),
        ('FROM x\nSYSTEM """open\n', "Modelfile:2"),
    ],
)
def test_a_malformed_modelfile(pannier: Pannier, tiny: Path, text: str, reason: str) -> None:
    create(pannier, text.replace("FROM x", f"FROM {tiny}")).fails(2, reason)
    assert pannier.names() == []


def test_weights_that_are_not_there(pannier: Pannier) -> None:
    create(pannier, "FROM ./nothing.gguf\n").fails(2, "nothing.gguf")


def test_a_file_that_is_no_gguf(pannier: Pannier, tmp_path: Path) -> None:
    path = tmp_path / "text.gguf"
    path.write_text("this is no model " * 100)
    create(pannier, f"FROM {path}\n").fails(2, "GGUF")
    assert pannier.names() == []


def test_a_model_given_as_modelfile(pannier: Pannier, tiny: Path) -> None:
    pannier("create", "x", "-f", tiny).fails(2, "this is a model, not a Modelfile")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_truncated_gguf(pannier: Pannier, tiny: Path, tmp_path: Path, share: float) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(tiny.read_bytes()[: int(tiny.stat().st_size * share)])
    create(pannier, f"FROM {path}\n").fails(2, "cut.gguf")
    assert pannier.names() == []


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_gguf(pannier: Pannier, tmp_path: Path, case: str) -> None:
    path = tmp_path / "hostile.gguf"
    path.write_bytes(HOSTILE[case])
    create(pannier, f"FROM {path}\n").fails(2, "hostile.gguf")
    assert pannier.names() == []


@pytest.mark.parametrize(
    "command", [["show"], ["inspect"], ["push"], ["rm", "--yes"], ["cp", "--quiet"]]
)
def test_an_unknown_model(pannier: Pannier, command: list[str]) -> None:
    rest = ["other"] if command[0] == "cp" else []
    pannier(*command, "nothing", *rest).fails(3, "'nothing:latest' not found")


def test_a_near_miss_is_suggested(pannier: Pannier, tiny: Path) -> None:
    pannier.create("smollm2", tiny)
    result = pannier("show", "smolm2")
    result.fails(3, "not found")
    assert "did you mean 'smollm2:latest'" in result.err


@pytest.mark.parametrize("name", ["a b", "UP/../x", "x:y:z", "x@sha256:12", "http://x/y", ""])
def test_an_impossible_name(pannier: Pannier, name: str) -> None:
    pannier("pull", name).fails(2, "invalid model name")


def test_a_registry_that_nobody_answers_for(pannier: Pannier) -> None:
    pannier("pull", f"127.0.0.1:{free_port()}/a/b").fails(5, "Connection refused")


def test_a_server_that_nobody_answers_for(pannier: Pannier) -> None:
    host = f"127.0.0.1:{free_port()}"
    for command in (["ps"], ["stop", "x"], ["run", "x", "hello"]):
        pannier(*command, PANNIER_HOST=host).fails(5, "Connection refused")


def test_an_address_that_others_can_reach_needs_a_flag(pannier: Pannier) -> None:
    pannier("serve", "--listen", f"0.0.0.0:{free_port()}").fails(2, "other machines")


def test_an_address_that_is_taken(pannier: Pannier) -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    with server:
        pannier("serve", "--listen", f"127.0.0.1:{server.server_port}").fails(5, "in use")


@pytest.mark.registry
def test_wrong_credentials_fail_at_once_and_leave_nothing(
    pannier: Pannier, tmp_path: Path, tiny: Path
) -> None:
    with docker_registry(tmp_path / "registry", login=True) as registry:
        flags = ("login", registry.host, "-u", USER, "--password-stdin")
        pannier(*flags, stdin="wrong").fails(5, registry.host)
        pannier.create("tiny", tiny)
        pannier("push", "tiny", f"{registry.host}/a/b").fails(5, "log")
        assert pannier(*flags, stdin=PASSWORD).code == 0
        assert pannier("push", "tiny", f"{registry.host}/a/b").code == 0
        assert pannier("logout", registry.host).code == 0
        pannier("logout", registry.host).fails(3, "no credentials")
        pannier("pull", f"{registry.host}/a/b:other").fails(5, "log")


@contextmanager
def stalled_pull(
    pannier: Pannier, registry: DockerRegistry, model: str
) -> Iterator[subprocess.Popen[str]]:
    """A pull of a model that hangs in the middle of its weights."""
    with stalling_relay(registry.host, after=100_000) as relay:
        process = pannier.start("pull", f"{relay.host}/{model}")
        assert relay.stalled.wait(TIMEOUT_S)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def pushed(registry: DockerRegistry, tmp_path_factory: pytest.TempPathFactory) -> str:
    """SmolLM2 in the registry; its name below the host."""
    publisher = Pannier(tmp_path_factory.mktemp("publisher") / "home")
    publisher.create("smollm2", smollm2())
    assert publisher("push", "smollm2", f"{registry.host}/demo/smollm2").code == 0
    shutil.rmtree(publisher.home)
    return "demo/smollm2:latest"


@pytest.mark.registry
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_pull_that_is_ended_leaves_no_half_model(
    pannier: Pannier, registry: DockerRegistry, pushed: str, number: signal.Signals
) -> None:
    with stalled_pull(pannier, registry, pushed) as process:
        process.send_signal(number)
        out, err = process.communicate(timeout=TIMEOUT_S)
    if number is signal.SIGINT:
        assert process.returncode == 130
        message, hint = err.strip().splitlines()[-2:]
        assert message == "error: interrupted; what has arrived is kept"
        assert hint.startswith("hint: ")
    assert out == ""
    assert "Traceback" not in err
    assert pannier.names() == []
    assert pannier("pull", f"{registry.host}/{pushed}").code == 0
    assert pannier.names() == [f"{registry.host}/{pushed}"]


def full_disk() -> Callable[[Path, list[str]], list[str]] | None:
    """How to run a command over a file system of 20 MB: as root, or in a user's namespace."""
    for flags in (["--mount"], ["--user", "--map-root-user", "--mount"]):
        try:
            probe = subprocess.run(["unshare", *flags, "true"], check=False, capture_output=True)
        except FileNotFoundError:
            return None
        if probe.returncode == 0:
            mount = 'mount -t tmpfs -o size=20m tmpfs "$0" && "$@"; code=$?; "$1" list --json'
            return lambda directory, command: [
                *("unshare", *flags, "sh", "-c", f"{mount}; exit $code"),
                *(str(directory), *command),
            ]
    return None


@pytest.mark.registry
@pytest.mark.slow
@pytest.mark.parametrize("verb", ["create", "pull"])
def test_a_full_disk(
    pannier: Pannier, registry: DockerRegistry, pushed: str, tmp_path: Path, verb: str
) -> None:
    over_small_disk = full_disk()
    if over_small_disk is None:
        pytest.skip("this machine lets us mount no small file system")
    (tmp_path / "Modelfile").write_text(f"FROM {smollm2()}\n")
    pannier.home.mkdir()
    arguments = {
        "create": ["create", "x", "-f", str(tmp_path / "Modelfile")],
        "pull": ["pull", f"{registry.host}/{pushed}"],
    }
    done = subprocess.run(
        over_small_disk(pannier.home, [str(PROGRAM), *arguments[verb]]),
        env=pannier.environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    error, hint = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "[]\n"), done.stderr
    assert error.startswith("error: no space left")
    assert hint.startswith("hint: ")


@pytest.mark.engine
@pytest.mark.slow
def test_a_reader_that_leaves_early(pannier: Pannier) -> None:
    pannier.create("smollm2", smollm2())
    process = pannier.start("run", "smollm2", "Count to a million.")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(1)
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(TIMEOUT_S) == 141


def test_a_registry_that_is_something_else(pannier: Pannier) -> None:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            result = pannier("pull", f"127.0.0.1:{server.server_port}/a/b")
        finally:
            server.shutdown()
            thread.join()
    assert result.code in (4, 5)
    result.fails(result.code, "")
