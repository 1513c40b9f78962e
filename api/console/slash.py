"""The slash commands of the prompt, by the names that Ollama's users know."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pannier.pkgmgr.cli.output import plain
from pannier.pkgmgr.errors import InvalidInput, InvalidOption
from pannier.pkgmgr.modelfile.parameters import PARAMETERS, parse_value

from ..client import Client
from .session import Session

HELP = """\
Commands:
  /set            Set session variables
  /show           Show model information
  /load <model>   Load a model, and forget this conversation
  /save <model>   Save this conversation as a model
  /clear          Forget this conversation
  /list           List the models
  /bye            Leave
  /?, /help       This help; /? shortcuts tells the keys

Use \"\"\" to begin and end a message of several lines.
"""
HELP_SET = """\
Commands:
  /set parameter <name> <value>   Set a parameter; /? parameters tells their names
  /set system <text>              Set the system prompt
  /set format json                Have the answer in JSON
  /set noformat                   Have the answer in free form
  /set think [low|medium|high]    Have the model think
  /set nothink                    Have it not think
  /set verbose, /set quiet        Show figures after each answer, or do not
  /set wordwrap, /set nowordwrap  Break lines between words, or do not
  /set history, /set nohistory    Keep what is typed, or do not
"""
HELP_SHOW = """\
Commands:
  /show info         What the model is
  /show license      Its licence
  /show modelfile    The Modelfile it can be made from
  /show parameters   Its parameters, and those set here
  /show system       Its system prompt, or the one set here
  /show template     Its prompt template
"""
HELP_SHORTCUTS = """\
Keys:
  Ctrl + a, Ctrl + e   Begin and end of the line
  Alt + b, Alt + f     One word back and forward
  Ctrl + k, Ctrl + u   Delete to the end and to the begin of the line
  Ctrl + w             Delete the word before the cursor
  Ctrl + l             Clear the screen
  Ctrl + g             Write the message in $VISUAL or $EDITOR
  Ctrl + c             Stop the answer
  Ctrl + d             Leave
"""
_HELP = {"": HELP, "set": HELP_SET, "show": HELP_SHOW, "shortcuts": HELP_SHORTCUTS}
_THINK = {"": True, "true": True, "false": False}
_LEVELS = ("low", "medium", "high", "max")


class Leave(Exception):
    """The user wants to leave the prompt."""


@dataclass(slots=True)
class Commands:
    """Carries out slash commands on a session; everything it says goes to `say`."""

    session: Session
    client: Client
    say: Callable[[str], None]
    keep_history: Callable[[bool], None]

    def run(self, line: str) -> None:
        """Carry out one line that begins with a slash.

        Raises:
            Leave: for /bye and its like.
            PannierError: where the command cannot be carried out; the session is as it was.
        """
        name, _, rest = line[1:].strip().partition(" ")
        handlers: Mapping[str, Callable[[str], None]] = {
            "set": self._set,
            "show": self._show,
            "load": self._load,
            "save": self._save,
            "clear": self._clear,
            "list": self._list,
            "?": self._help,
            "help": self._help,
            "bye": self._leave,
            "exit": self._leave,
        }
        handler = handlers.get(name)
        if handler is None:
            raise InvalidInput(f"unknown command /{name}", hint="/? lists the commands")
        handler(rest.strip())

    def _help(self, topic: str) -> None:
        if topic == "parameters":
            self.say("Parameters: " + ", ".join(PARAMETERS) + "\n")
            return
        self.say(_HELP.get(topic.lstrip("/"), HELP))

    def _leave(self, rest: str) -> None:
        raise Leave

    def _clear(self, rest: str) -> None:
        self.session.messages.clear()
        self.say("The conversation is forgotten.\n")

    def _list(self, rest: str) -> None:
        for model in self.client.request("GET", "/api/tags").get("models", []):
            self.say(f"{plain(str(model.get('name')))}\n")

    def _load(self, name: str) -> None:
        _require(name, "/load <model>")
        self.client.request("POST", "/api/show", {"model": name})
        self.session.switch(name)
        self.say(f"Now talking with {name}.\n")

    def _save(self, name: str) -> None:
        _require(name, "/save <model>")
        self.client.request("POST", "/api/create", self.session.save_body(name))
        self.say(f"Saved as {name}.\n")

    def _show(self, topic: str) -> None:
        if topic not in ("info", "license", "modelfile", "parameters", "system", "template"):
            self.say(HELP_SHOW)
            return
        shown = self.client.request("POST", "/api/show", {"model": self.session.model})
        for line in _show_lines(topic, shown, self.session):
            self.say(plain(line) + "\n")

    def _set(self, rest: str) -> None:
        what, _, value = rest.partition(" ")
        value = value.strip()
        session = self.session
        switches: Mapping[str, Callable[[], None]] = {
            "verbose": lambda: setattr(session, "verbose", True),
            "quiet": lambda: setattr(session, "verbose", False),
            "wordwrap": lambda: setattr(session, "word_wrap", True),
            "nowordwrap": lambda: setattr(session, "word_wrap", False),
            "history": lambda: self.keep_history(True),
            "nohistory": lambda: self.keep_history(False),
            "noformat": lambda: setattr(session, "format", None),
            "nothink": lambda: setattr(session, "think", False),
            "parameter": lambda: self._set_parameter(value),
            "system": lambda: self._set_system(value),
            "format": lambda: self._set_format(value),
            "think": lambda: self._set_think(value),
        }
        if what not in switches:
            self.say(HELP_SET)
            return
        switches[what]()
        self.say(f"Set {what}{' ' + plain(value) if value else ''}.\n")

    def _set_parameter(self, text: str) -> None:
        name, _, value = text.partition(" ")
        _require(value.strip(), "/set parameter <name> <value>")
        self.session.options[name] = parameter_value(name, value.strip())

    def _set_system(self, text: str) -> None:
        _require(text, "/set system <text>")
        self.session.system = _unquoted(text)

    def _set_format(self, value: str) -> None:
        if value != "json":
            raise InvalidOption(f"unknown format {value!r}", hint="/set format json")
        self.session.format = value

    def _set_think(self, value: str) -> None:
        if value not in _THINK and value not in _LEVELS:
            raise InvalidOption(f"unknown level {value!r}", hint="/set think low, medium or high")
        think = _THINK.get(value, value)
        if think:
            shown = self.client.request("POST", "/api/show", {"model": self.session.model})
            if "thinking" not in shown.get("capabilities", []):
                raise InvalidOption(f'"{self.session.model}" does not support thinking')
        self.session.think = think


def parameter_value(name: str, text: str) -> Any:
    """The value of an option as the API wants it, from what was typed.

    Raises:
        InvalidOption: for an unknown name or a value of another kind.
    """
    if PARAMETERS.get(name) is list:
        return _words(text)
    return parse_value(name, text)


def _words(text: str) -> list[str]:
    import shlex

    try:
        return shlex.split(text)
    except ValueError:
        return [text]


def _show_lines(topic: str, shown: Mapping[str, Any], session: Session) -> Iterator[str]:
    if topic == "info":
        details = shown.get("details", {})
        for name in ("family", "parameter_size", "quantization_level"):
            yield f"  {name.replace('_', ' '):<20}{details.get(name) or 'unknown'}"
        yield f"  {'capabilities':<20}{', '.join(shown.get('capabilities', []))}"
        return
    if topic == "system" and session.system is not None:
        yield session.system
        return
    yield str(shown.get(topic) or f"The model has no {topic}.").rstrip("\n")
    if topic == "parameters" and session.options:
        yield "Set here:"
        yield from (f"{name:<30} {json.dumps(item)}" for name, item in session.options.items())


def _unquoted(text: str) -> str:
    for quote in ('"""', '"'):
        if len(text) >= 2 * len(quote) and text.startswith(quote) and text.endswith(quote):
            return text[len(quote) : -len(quote)]
    return text


def _require(value: str, usage: str) -> None:
    if not value:
        raise InvalidInput(f"usage: {usage}")
