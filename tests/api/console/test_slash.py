"""The slash commands: what Ollama's users type at the prompt."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import pytest

from pannier.api.console.session import Session
from pannier.api.console.slash import Commands, Leave
from pannier.pkgmgr.errors import InvalidInput, NotFound

SHOWN = {
    "modelfile": "FROM x",
    "parameters": "temperature 0",
    "template": "{{ .Prompt }}",
    "system": "Be brief.",
    "license": "MIT",
    "details": {"family": "llama", "parameter_size": "134.52M", "quantization_level": "Q4_1"},
    "capabilities": ["completion", "tools", "thinking"],
}

ANSWERS: dict[str, dict[str, Any]] = {
    "/api/show": SHOWN,
    "/api/tags": {"models": [{"name": "a:latest"}]},
}


class Server:
    """Answers what the commands ask, and remembers it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Mapping[str, Any] | None]] = []

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        self.asked.append((path, body))
        if body and body.get("model") == "nothing":
            raise NotFound("model 'nothing' not found")
        if body and body.get("model") == "llama":
            return {"capabilities": ["completion"]}
        return ANSWERS.get(path, {})

    def stream(self, path: str, body: Mapping[str, Any]) -> Generator[dict[str, Any], None, None]:
        yield from ()


class Prompt:
    """A prompt with one session."""

    def __init__(self) -> None:
        self.server = Server()
        self.session = Session("tiny")
        self.said: list[str] = []
        self.history: list[bool] = []
        self._commands = Commands(self.session, self.server, self.said.append, self.history.append)

    def __call__(self, line: str) -> str:
        self.said.clear()
        self._commands.run(line)
        return "".join(self.said)


@pytest.fixture
def prompt() -> Prompt:
    return Prompt()


@pytest.mark.parametrize("line", ["/bye", "/exit"])
def test_leaving(prompt: Prompt, line: str) -> None:
    with pytest.raises(Leave):
        prompt(line)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("/?", "/bye"),
        ("/help set", "/set parameter"),
        ("/? /show", "/show modelfile"),
        ("/? shortcuts", "Ctrl + d"),
        ("/? parameters", "temperature"),
        ("/set", "/set parameter"),
        ("/show", "/show modelfile"),
        ("/list", "a:latest"),
        ("/show info", "134.52M"),
        ("/show modelfile", "FROM x"),
        ("/show license", "MIT"),
        ("/show template", "{{ .Prompt }}"),
        ("/show system", "Be brief."),
    ],
)
def test_what_commands_say(prompt: Prompt, line: str, text: str) -> None:
    assert text in prompt(line)


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("/set parameter num_ctx 8192", "options", {"num_ctx": 8192}),
        ("/set parameter temperature 0.5", "options", {"temperature": 0.5}),
        ('/set parameter stop "a b" c', "options", {"stop": ["a b", "c"]}),
        ("/set system You are a llama.", "system", "You are a llama."),
        ('/set system """two\nlines"""', "system", "two\nlines"),
        ("/set format json", "format", "json"),
        ("/set think", "think", True),
        ("/set think high", "think", "high"),
        ("/set nothink", "think", False),
        ("/set verbose", "verbose", True),
        ("/set nowordwrap", "word_wrap", False),
    ],
)
def test_settings(prompt: Prompt, line: str, name: str, value: Any) -> None:
    prompt(line)
    assert getattr(prompt.session, name) == value


def test_a_model_that_cannot_think_is_not_told_to(prompt: Prompt) -> None:
    prompt("/load llama")
    for line in ("/set think", "/set think high"):
        with pytest.raises(InvalidInput, match='"llama" does not support thinking'):
            prompt(line)
    prompt("/set think false")
    assert prompt.session.think is False


def test_history_can_be_kept_or_not(prompt: Prompt) -> None:
    prompt("/set nohistory")
    prompt("/set history")
    assert prompt.history == [False, True]


@pytest.mark.parametrize(
    "line",
    [
        "/nonsense",
        "/set parameter",
        "/set parameter nonsense 1",
        "/set parameter num_ctx many",
        "/set format xml",
        "/set think hard",
        "/load",
        "/save",
    ],
)
def test_mistakes_change_nothing(prompt: Prompt, line: str) -> None:
    with pytest.raises(InvalidInput):
        prompt(line)
    assert prompt.session == Session("tiny")


def test_own_settings_are_shown_beside_the_models(prompt: Prompt) -> None:
    prompt("/set parameter seed 42")
    text = prompt("/show parameters")
    assert "temperature 0" in text
    assert "seed" in text
    prompt("/set system Other.")
    assert prompt("/show system") == "Other.\n"


def test_loading_another_model_forgets_the_conversation(prompt: Prompt) -> None:
    prompt.session.ask("hello", [])
    with pytest.raises(NotFound):
        prompt("/load nothing")
    assert (prompt.session.model, len(prompt.session.messages)) == ("tiny", 1)
    prompt("/load other")
    assert (prompt.session.model, prompt.session.messages) == ("other", [])


def test_saving_makes_a_model_of_the_conversation(prompt: Prompt) -> None:
    prompt("/set system Be a llama.")
    prompt("/set parameter seed 42")
    prompt.session.ask("hello", ["aW1hZ2U="])
    prompt.session.settle("hi", "well")
    prompt("/save mine")
    assert prompt.server.asked[-1] == (
        "/api/create",
        {
            "model": "mine",
            "from": "tiny",
            "stream": False,
            "system": "Be a llama.",
            "parameters": {"seed": 42},
            "messages": [
                {"role": "user", "content": "hello"},
                {"role": "assistant", "content": "hi"},
            ],
        },
    )


def test_clearing_forgets_what_was_said_and_keeps_what_was_set(prompt: Prompt) -> None:
    prompt("/set system Be a llama.")
    prompt.session.ask("hello", [])
    prompt("/clear")
    assert prompt.session.messages == []
    assert prompt.session.system == "Be a llama."


def test_a_question_without_any_answer_is_taken_back(prompt: Prompt) -> None:
    prompt.session.ask("hello", [])
    prompt.session.settle("", "")
    assert prompt.session.messages == []


def test_bodies_hold_only_what_was_set(prompt: Prompt) -> None:
    session = prompt.session
    session.ask("hello", [])
    assert session.chat_body() == {
        "model": "tiny",
        "stream": True,
        "messages": [{"role": "user", "content": "hello"}],
    }
    session.system, session.think, session.keep_alive = "Be brief.", False, "5m"
    body = session.chat_body()
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (body["think"], body["keep_alive"]) == (False, "5m")
    assert session.generate_body("x", ["aQ=="])["images"] == ["aQ=="]
