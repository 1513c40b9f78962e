"""What `run` makes of its arguments, its input and the images that a prompt names."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.tinyvision import png

from pannier.api.console.images import take_images
from pannier.api.console.run import embed, find_model, read_format, read_think, whole_prompt
from pannier.api.console.session import Session
from pannier.api.console.terminal import QUOTES, read_message
from pannier.pkgmgr.errors import InvalidOption, NotFound
from pannier.runtime.errors import InvalidImage

PNG = png()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("piped", "words", "prompt"),
    [
        ("text", [], "text"),
        ("text", ["sum", "up"], "text sum up"),
        ("", ["sum", "up"], "sum up"),
        ("", [], ""),
    ],
)
def test_a_pipe_goes_before_the_arguments(
    monkeypatch: pytest.MonkeyPatch, piped: str, words: list[str], prompt: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(piped))
    assert whole_prompt(words) == prompt


def test_a_terminal_without_a_prompt_opens_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("sys.stdout", Terminal())
    assert whole_prompt([]) is None
    assert whole_prompt(["hello"]) == "hello"


def test_format_is_json_or_a_schema_or_a_file_with_one(tmp_path: Path) -> None:
    schema = {"type": "object"}
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(schema))
    assert read_format(None) is None
    assert read_format("json") == "json"
    assert read_format(json.dumps(schema)) == schema
    assert read_format(str(path)) == schema


@pytest.mark.parametrize("text", ["xml", "{broken", "[1]"])
def test_other_formats_are_errors(text: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidOption):
        read_format(text)
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(InvalidOption):
        read_format(str(tmp_path / "list.json"))


@pytest.mark.parametrize(
    ("text", "value"), [(None, None), ("true", True), ("false", False), ("high", "high")]
)
def test_think(text: str | None, value: Any) -> None:
    assert read_think(text) == value


def test_think_knows_no_other_words() -> None:
    with pytest.raises(InvalidOption):
        read_think("hard")


def test_images_are_taken_out_of_the_prompt(tmp_path: Path) -> None:
    path = tmp_path / "a llama.png"
    path.write_bytes(PNG)
    escaped = str(path).replace(" ", "\\ ")
    text, images = take_images(f"What is in {escaped} here?")
    assert text == "What is in  here?"
    assert images == {str(path): base64.b64encode(PNG).decode()}


@pytest.mark.parametrize("quote", ["'", '"'])
def test_images_are_taken_out_of_quotes(tmp_path: Path, quote: str) -> None:
    paths = [tmp_path / "it's one (2).JPG", tmp_path / "two.gif"]
    for path in paths:
        path.write_bytes(PNG)
    first = (
        f'"{paths[0]}"' if quote == "'" else str(paths[0]).replace(" ", "\\ ").replace("'", "\\'")
    )
    text, images = take_images(f"Compare {first} with {quote}{paths[1]}{quote}.")
    assert text == "Compare  with ."
    assert list(images) == [str(path) for path in paths]


def test_paths_of_nothing_stay_text() -> None:
    assert take_images("see /nothing/there.png") == ("see /nothing/there.png", {})


def test_files_that_are_no_images_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_text("secret")
    with pytest.raises(InvalidImage):
        take_images(f"look at {path}")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["one line"], "one line"),
        ([f"{QUOTES}one{QUOTES}"], "one"),
        ([f"{QUOTES}one", f"two{QUOTES}"], "one\ntwo"),
        ([QUOTES, "", "two", QUOTES], "two"),
        ([f"say {QUOTES} aloud"], f"say {QUOTES} aloud"),
        ([f"/set system {QUOTES}one", f"two{QUOTES}"], "/set system one\ntwo"),
    ],
)
def test_quotes_make_messages_of_several_lines(lines: list[str], message: str) -> None:
    rest = iter(lines)
    assert read_message(next(rest), lambda: next(rest)) == message
    assert list(rest) == []


class Asked:
    """A server that has no model until it pulled it; remembers what it was asked."""

    def __init__(self) -> None:
        self.bodies: list[tuple[str, dict[str, Any]]] = []

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        self.bodies.append((path, dict(body or {})))
        if path == "/api/show" and len(self.bodies) == 1:
            raise NotFound("model 'x' not found")
        return {"capabilities": ["embedding"], "embeddings": [[0.5]]}

    def stream(self, path: str, body: Mapping[str, Any]) -> Generator[dict[str, Any], None, None]:
        self.bodies.append((path, dict(body)))
        yield {"status": "success"}


@pytest.mark.parametrize("insecure", [True, False])
def test_a_model_that_is_not_there_is_pulled_as_the_flag_says(insecure: bool) -> None:
    asked = Asked()
    assert find_model(asked, "x", insecure=insecure).only_embeds
    assert asked.bodies[1] == ("/api/pull", {"model": "x", "insecure": insecure})


def test_flags_for_embeddings_reach_the_server(capsys: pytest.CaptureFixture[str]) -> None:
    asked = Asked()
    session = Session("x", keep_alive="5m")
    embed(asked, session, "text", {"dimensions": 2, "truncate": False})
    body = {"model": "x", "input": "text", "dimensions": 2, "truncate": False, "keep_alive": "5m"}
    assert asked.bodies == [("/api/embed", body)]
    assert capsys.readouterr().out == "[0.5]\n"
