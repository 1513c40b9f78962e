"""`pannier run`: one answer, or a conversation at a prompt. Needs no server."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from pannier.pkgmgr.cli.output import Output, print_error
from pannier.pkgmgr.errors import InvalidInput, InvalidOption, NetworkError, NotFound, PannierError

from ..client import Client
from .answer import Answer, Plain, Wrapped, figures, print_answer
from .images import take_images
from .local import connect, pull
from .session import Session
from .slash import Commands, Leave

_LEVELS = ("low", "medium", "high", "max")
_LEAVE_HINT = "\nUse Ctrl + d or /bye to exit.\n"


class RunCommand(TyperCommand):
    """A command whose `--think` may stand without a value, as Ollama's may."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give a bare `--think` its value."""
        end = args.index("--") if "--" in args else len(args)
        options = ["--think=true" if arg == "--think" else arg for arg in args[:end]]
        rest: list[str] = super().parse_args(ctx, options + args[end:])
        return rest


@dataclass(frozen=True, slots=True)
class Model:
    """What a model can do, as POST /api/show tells."""

    name: str
    capabilities: tuple[str, ...]

    @property
    def only_embeds(self) -> bool:
        """Whether it answers with vectors only."""
        return self.capabilities == ("embedding",)


def run(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    prompt: Annotated[
        list[str] | None, typer.Argument(metavar="[PROMPT]", help="Without one: a prompt opens.")
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Figures after each answer, on stderr.")
    ] = False,
    format_: Annotated[
        str | None, typer.Option("--format", help="`json`, a JSON schema, or a file with one.")
    ] = None,
    think: Annotated[
        str | None, typer.Option("--think", help="true, false, low, medium or high.")
    ] = None,
    hide_thinking: Annotated[
        bool, typer.Option("--hidethinking", help="Do not show what the model thinks.")
    ] = False,
    keep_alive: Annotated[
        str | None, typer.Option("--keepalive", help="How long the model stays loaded, as in 5m.")
    ] = None,
    no_word_wrap: Annotated[
        bool, typer.Option("--nowordwrap", help="Do not break lines between words.")
    ] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Pull over plain HTTP, where the model is not here.")
    ] = False,
    dimensions: Annotated[
        int, typer.Option("--dimensions", min=0, help="Of an embedding; 0 is all.")
    ] = 0,
    truncate: Annotated[
        bool,
        typer.Option("--truncate/--no-truncate", help="Cut a text to embed that is too long."),
    ] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="The whole answer as one JSON object.")
    ] = False,
) -> None:
    """Ask a model: once, from a pipe, or in a conversation.

    With PANNIER_HOST or OLLAMA_HOST set, the server there answers; otherwise the model runs here.
    A model that is not in the store is pulled first.
    """
    session = Session(
        model,
        format=read_format(format_),
        think=read_think(think),
        keep_alive=keep_alive,
        verbose=verbose,
        hide_thinking=hide_thinking,
        word_wrap=not no_word_wrap,
    )
    text = whole_prompt(prompt or [])
    with connect() as client:
        known = find_model(client, model, insecure=insecure)
        if text is None and not as_json:
            converse(client, session, known)
        elif known.only_embeds:
            options = {"dimensions": dimensions, "truncate": truncate}
            embed(client, session, text or "", options)
        else:
            answer_once(client, session, known, text or "", as_json=as_json)


def whole_prompt(words: list[str]) -> str | None:
    """The prompt of a single answer: standard input, then the arguments. None opens a prompt."""
    text = " ".join(words)
    if not sys.stdin.isatty():
        piped = sys.stdin.read()
        return " ".join(part for part in (piped, text) if part)
    if text or not sys.stdout.isatty():
        return text
    return None


def read_format(text: str | None) -> str | dict[str, Any] | None:
    """What `--format` means: `json`, a schema as JSON text, or the path of a file with one.

    Raises:
        InvalidOption: where it is none of them.
    """
    if text is None or text == "json":
        return text
    try:
        schema = json.loads(text if text.lstrip().startswith("{") else Path(text).read_text())
    except (OSError, ValueError) as error:
        raise InvalidOption(
            f"--format {text}: {getattr(error, 'strerror', None) or error}",
            hint="give `json`, a JSON schema, or a file with one",
        ) from error
    if not isinstance(schema, dict):
        raise InvalidOption(f"--format {text}: a JSON schema is an object")
    return schema


def read_think(text: str | None) -> bool | str | None:
    """What `--think` means.

    Raises:
        InvalidOption: for an unknown word.
    """
    if text is None or text in _LEVELS:
        return text
    if text not in ("true", "false"):
        raise InvalidOption(f"--think {text}: it is true, false, low, medium or high")
    return text == "true"


def find_model(client: Client, name: str, *, insecure: bool = False) -> Model:
    """What a model can do; it is pulled where it is not there, over plain HTTP for `insecure`.

    Raises:
        PannierError: where it cannot be had.
    """
    body = {"model": name}
    try:
        shown = client.request("POST", "/api/show", body)
    except NotFound as missing:
        try:
            pull(client, name, Output(), insecure=insecure)
        except (NetworkError, NotFound) as error:
            if missing.hint and missing.hint.startswith("did you mean"):
                error.hint = missing.hint
            raise
        shown = client.request("POST", "/api/show", body)
    return Model(name, tuple(shown.get("capabilities", ())))


def answer_once(
    client: Client, session: Session, model: Model, text: str, *, as_json: bool
) -> None:
    """Print one answer."""
    prompt, images = _take_images(model, text)
    chunks = client.stream("/api/generate", session.generate_body(prompt, images))
    if as_json:
        answer = Answer()
        with closing(chunks):
            print_answer(chunks, _Nowhere(), answer, hide_thinking=True)
        Output(as_json=True).result(_record(session, answer))
        return
    _print(chunks, session)


def embed(client: Client, session: Session, text: str, options: Mapping[str, bool | int]) -> None:
    """Print the vector of a text as one JSON array. `options`: fields of POST /api/embed."""
    if not text:
        raise InvalidInput("an embedding model needs a text", hint="pannier run MODEL TEXT")
    body = {"model": session.model, "input": text, **options}
    if session.keep_alive is not None:
        body["keep_alive"] = session.keep_alive
    reply = client.request("POST", "/api/embed", body)
    print(json.dumps(reply["embeddings"][0]))


def converse(client: Client, session: Session, model: Model) -> None:
    """Ask and answer at a terminal until the user leaves."""
    from .terminal import Terminal

    terminal = Terminal(_history_path())
    commands = Commands(session, client, _say, terminal.keep_history)
    client.request("POST", "/api/generate", session.load_body())
    while True:
        try:
            line = terminal.read()
        except KeyboardInterrupt:
            _say(_LEAVE_HINT)
            continue
        except EOFError:
            return
        try:
            if line.startswith("/"):
                commands.run(line)
            elif line.strip():
                _turn(client, session, model, line)
        except Leave:
            return
        except PannierError as error:
            print_error(error.message, error.hint)


def _take_images(model: Model, text: str) -> tuple[str, list[str]]:
    """A prompt without its images' paths, and the images; each is named to the user."""
    if "vision" not in model.capabilities:
        return text, []
    prompt, images = take_images(text)
    for path in images:
        sys.stderr.write(f"Added image '{path}'\n")
    return prompt, list(images.values())


def _turn(client: Client, session: Session, model: Model, line: str) -> None:
    text, images = _take_images(model, line)
    session.ask(text, images)
    answer = Answer()
    try:
        _print(client.stream("/api/chat", session.chat_body()), session, answer)
    except KeyboardInterrupt:
        _say("\n")
    finally:
        session.settle(answer.content, answer.thinking)
    _say("\n")


def _print(
    chunks: Generator[dict[str, Any], None, None], session: Session, answer: Answer | None = None
) -> None:
    answer = answer or Answer()
    out: Plain | Wrapped = Plain()
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns if session.word_wrap else sys.maxsize
        out = Wrapped(sys.stdout, width)
    with closing(chunks):
        print_answer(chunks, out, answer, hide_thinking=session.hide_thinking)
    if isinstance(out, Wrapped):
        out.finish()
    if not answer.content.endswith("\n"):
        print()
    if session.verbose and answer.final is not None:
        for line in figures(answer.final):
            print(line, file=sys.stderr)


def _record(session: Session, answer: Answer) -> dict[str, Any]:
    final = answer.final or {}
    return {
        "model": session.model,
        "response": answer.content,
        "thinking": answer.thinking,
        **{
            name: final[name]
            for name in ("done_reason", "prompt_eval_count", "eval_count", "total_duration")
            if name in final
        },
    }


def _history_path() -> Path | None:
    from pannier.pkgmgr.cli.names import load_settings

    if os.environ.get("PANNIER_NOHISTORY") or os.environ.get("OLLAMA_NOHISTORY"):
        return None
    return load_settings().home / "history"


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


class _Nowhere:
    def write(self, text: str) -> None:
        pass

    def flush(self) -> None:
        pass
