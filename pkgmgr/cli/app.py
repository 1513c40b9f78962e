"""The command line's frame: which module holds which command, and the one place that catches.

A command's module is imported when the command is called, so that `pannier list` pays for nothing
that it does not use. A module of commands has ``register(app: typer.Typer) -> None`` and one row
in `TOPICS`. Commands that need the upper rooms have their rows in `pannier.api.main`.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any

# Before typer is imported: its rich front end costs 100 ms of start-up and colours nothing here.
os.environ["TYPER_USE_RICH"] = "0"

import typer
from typer.core import TyperGroup

from ..errors import NoSpace, PannierError
from . import exits
from .output import print_error

_logger = logging.getLogger(__name__)
_PROGRAM = "pannier"
_MODELS, _REGISTRIES, _BUNDLES, _TRUST = "Models", "Registries", "Bundles", "Trust"
_STORE, _OTHER, RUNNING = "The store", "Other commands", "Running"
_HEADINGS = (_MODELS, RUNNING, _REGISTRIES, _BUNDLES, _TRUST, _STORE, _OTHER)


@dataclass(frozen=True, slots=True)
class Topic:
    """A module of commands, by its full name, and the commands that it registers.

    Two topics may share a group of commands, such as `key`: it has the commands of both.

    Attributes:
        heading: under which the help lists them.
    """

    module: str
    commands: tuple[str, ...]
    heading: str = _OTHER


TOPICS = (
    Topic("pannier.pkgmgr.cli.build", ("create",), _MODELS),
    Topic("pannier.pkgmgr.cli.local", ("list", "ls", "show", "cp", "rm"), _MODELS),
    Topic("pannier.pkgmgr.cli.inspection", ("inspect", "diff", "lint", "fmt"), _MODELS),
    Topic("pannier.pkgmgr.cli.variants", ("convert", "index"), _MODELS),
    Topic("pannier.pkgmgr.cli.transfer", ("push", "pull"), _REGISTRIES),
    Topic("pannier.pkgmgr.cli.remote", ("copy", "tags", "search"), _REGISTRIES),
    Topic("pannier.pkgmgr.cli.login", ("login", "logout"), _REGISTRIES),
    Topic("pannier.pkgmgr.cli.bundle", ("export", "import", "bundle"), _BUNDLES),
    Topic(
        "pannier.pkgmgr.cli.trust",
        ("key", "sign", "verify-signature", "attach", "referrers", "sbom"),
        _TRUST,
    ),
    Topic("pannier.pkgmgr.cli.lock", ("lock", "sync", "outdated", "update"), _TRUST),
    Topic("pannier.pkgmgr.cli.upkeep", ("verify", "prune", "df", "blocks"), _STORE),
    Topic("pannier.pkgmgr.cli.shell", ("completion", "version", "__complete")),
)


class LazyGroup(TyperGroup):
    """A group that imports the module of a command when somebody asks for the command.

    Attributes:
        services: `module:function` of what only a room above can tell, by the name that commands
            here ask for it with.
    """

    topics: tuple[Topic, ...] = ()
    services: Mapping[str, str] = MappingProxyType({})

    def list_commands(self, ctx: Any) -> list[str]:
        """Every command of every topic, in the topics' order."""
        return list(dict.fromkeys(name for topic in self.topics for name in topic.commands))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or None."""
        topics = [topic for topic in self.topics if cmd_name in topic.commands]
        if not topics:
            return None
        command, *others = (_commands_of(topic)[cmd_name] for topic in topics)
        for other in others:
            command.commands.update(other.commands)
            command.help = f"{command.help} {other.help}"
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands under their topics' headings."""
        sections: dict[str, list[str]] = {heading: [] for heading in _HEADINGS}
        for topic in self.topics:
            names = sections[topic.heading]
            names += [name for name in topic.commands if name not in names]
        width = max(len(name) for name in self.list_commands(ctx))
        for heading, names in sections.items():
            commands = ((name, self.get_command(ctx, name)) for name in names)
            rows = [
                (name.ljust(width), command.get_short_help_str(formatter.width - width - 4))
                for name, command in commands
                if not command.hidden
            ]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)


def build(topics: Sequence[Topic] = TOPICS) -> LazyGroup:
    """The whole command line over these topics."""
    app = typer.Typer(
        name=_PROGRAM,
        cls=LazyGroup,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        invoke_without_command=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    group = typer.main.get_group(app)
    assert isinstance(group, LazyGroup)
    group.topics = tuple(topics)
    return group


def run(
    group: LazyGroup,
    arguments: Sequence[str],
    *,
    exit_codes: Mapping[type[PannierError], int] = exits.EXIT_CODES,
) -> int:
    """Run one command and return its exit code; errors are printed, none is raised."""
    try:
        return _invoke(group, arguments)
    except PannierError as error:
        print_error(error.message, error.hint)
        _logger.debug("where it happened", exc_info=True)
        return exits.exit_code(error, exit_codes)
    except BrokenPipeError:
        _drop_stdout()
        return exits.BROKEN_PIPE
    except KeyboardInterrupt:
        print_error("interrupted")
        return exits.INTERRUPTED
    except OSError as error:
        print_error(_system_message(error), _system_hint(error))
        _logger.debug("where it happened", exc_info=True)
        return exits.FAILED
    except Exception as error:
        # The process's outermost frame: a fault of ours, not of the input.
        print_error(
            f"unexpected {type(error).__name__}: {error}",
            "this is a bug in pannier; `pannier -v …` shows where",
        )
        _logger.debug("unexpected error", exc_info=True)
        return exits.FAILED


def _invoke(group: LazyGroup, arguments: Sequence[str]) -> int:
    try:
        with group.make_context(_PROGRAM, list(arguments)) as ctx:
            group.invoke(ctx)
        sys.stdout.flush()
    except typer.Exit as stop:
        sys.stdout.flush()
        return stop.exit_code
    except (typer.Abort, EOFError):
        print_error("nothing was answered")
        return exits.FAILED
    except typer.TyperException as error:
        print_error(error.format_message().rstrip("."), _usage_hint(error))
        return exits.USAGE
    return exits.DONE


def _root(
    ctx: typer.Context,
    verbose: Annotated[
        int,
        typer.Option("--verbose", "-v", count=True, help="Log to stderr; twice: libraries too."),
    ] = 0,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Models as OCI artifacts: create, push, pull, run and serve them."""
    _configure_logging(verbose)
    if version:
        from .shell import version_text

        print(version_text())
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


def _commands_of(topic: Topic) -> Mapping[str, Any]:
    app = typer.Typer(rich_markup_mode=None)
    importlib.import_module(topic.module).register(app)
    commands = typer.main.get_group(app).commands
    for command in _and_below(commands):
        command.context_settings.setdefault("help_option_names", ["-h", "--help"])
        command.collect_usage_pieces = _without_braces(command.collect_usage_pieces)
    return commands


def _and_below(commands: Mapping[str, Any]) -> Iterator[Any]:
    for command in commands.values():
        yield command
        yield from _and_below(getattr(command, "commands", {}))


def _without_braces(pieces: Callable[[Any], list[str]]) -> Callable[[Any], list[str]]:
    """The usage line as manual pages write it: NAME, where typer writes {NAME}."""
    return lambda ctx: [piece.strip("{}") for piece in pieces(ctx)]


def _configure_logging(verbose: int) -> None:
    if not verbose:
        logging.getLogger().addHandler(logging.NullHandler())
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger() if verbose > 1 else logging.getLogger(_PROGRAM)
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)


def _usage_hint(error: typer.TyperException) -> str:
    ctx = getattr(error, "ctx", None)
    path = ctx.command_path if ctx is not None else _PROGRAM
    return f"{path} --help"


def _system_message(error: OSError) -> str:
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        from pathlib import Path

        return NoSpace(Path(str(error.filename or "the output"))).message
    what = f"{error.filename}: " if error.filename else ""
    return f"{what}{error.strerror or error}"


def _system_hint(error: OSError) -> str | None:
    if isinstance(error, PermissionError):
        return "check who owns it, or set PANNIER_HOME to a directory of your own"
    return None


def _drop_stdout() -> None:
    """Give the interpreter's last flush a place to go, now that the reader has left."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
