"""The frame of the command line: what every command shares."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from pannier.pkgmgr.cli import app
from pannier.pkgmgr.cli.app import Topic
from pannier.pkgmgr.errors import ModelNotFound

MODULE = "support.commands"
_action: Callable[[], None] = lambda: None  # noqa: E731


def register(application: typer.Typer) -> None:
    application.command("act")(act)
    application.command("other")(act)


def register_more(application: typer.Typer) -> None:
    group = typer.Typer(help="More things.")
    group.command("third")(act)
    group.command("fourth")(act)
    application.add_typer(group, name="group")


def register_group(application: typer.Typer) -> None:
    group = typer.Typer(help="Things.")
    group.command("first")(act)
    group.command("second")(act)
    application.add_typer(group, name="group")


def act(number: int = 0) -> None:
    """Do what the test wants."""
    _action()


@pytest.fixture(autouse=True)
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, MODULE, sys.modules[__name__])
    yield
    set_action(lambda: None)


def set_action(action: Callable[[], None]) -> None:
    global _action
    _action = action


def run(*arguments: str) -> int:
    return app.run(app.build([Topic(MODULE, ("act", "other"))]), arguments)


def fails_with(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def test_two_modules_may_share_a_group(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, function in (("one", register_group), ("two", register_more)):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(register=function))
    group = app.build([Topic("one", ("group",)), Topic("two", ("group",))])
    assert app.run(group, ["group", "--help"]) == 0
    out = capsys.readouterr().out
    assert "Things. More things." in out
    assert app.run(group, ["group", "first"]) == 0
    assert app.run(group, ["group", "fourth"]) == 0


def test_without_a_command_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    assert "act" in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_a_command_explains_itself(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("act", flag) == 0
    assert "Do what the test wants." in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [("nothing",), ("act", "--nothing"), ("act", "--number", "x"), ("--nothing",)]
)
def test_wrong_usage_is_an_error_line_and_exit_2(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert hint.startswith("hint: pannier")
    assert hint.endswith("--help")


def test_our_errors_show_message_and_hint(capsys: pytest.CaptureFixture[str]) -> None:
    set_action(fails_with(ModelNotFound("a:latest", hint="pannier pull a")))
    assert run("act") == 3
    captured = capsys.readouterr()
    assert captured.err == "error: model 'a:latest' not found\nhint: pannier pull a\n"
    assert captured.out == ""


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 1, "no space left for /x"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 1, "/x: Permission denied"),
        (ValueError("odd"), 1, "unexpected ValueError: odd"),
        (EOFError(), 1, "nothing was answered"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_exception_becomes_a_traceback(
    error: BaseException, code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    set_action(fails_with(error))
    assert run("act") == code
    captured = capsys.readouterr()
    assert text in captured.err
    assert "Traceback" not in captured.err


def test_a_reader_that_leaves_ends_the_command_quietly(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        result = subprocess.run(
            [sys.executable, "-m", "pannier.api.main", "--help"],
            stdout=closed,
            stderr=subprocess.PIPE,
            env={**os.environ, "PANNIER_HOME": str(tmp_path)},
            check=False,
        )
    assert result.returncode == 141
    assert result.stderr == b""
