"""Exit codes: every error class has one that somebody chose."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pannier.api import main
from pannier.pkgmgr import errors
from pannier.pkgmgr.cli.exits import exit_code

ROOT = Path(__file__).resolve().parents[3]


def subclasses(kind: type[errors.PannierError]) -> Iterator[type[errors.PannierError]]:
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


def every_error() -> list[type[errors.PannierError]]:
    for room in ("pkgmgr", "runtime"):
        for module in pkgutil.walk_packages([str(ROOT / room)], f"pannier.{room}."):
            if module.name.rpartition(".")[2] in ("errors", "exits"):
                importlib.import_module(module.name)
    return sorted(
        {
            kind
            for kind in subclasses(errors.PannierError)
            if kind.__module__.startswith(("pannier.pkgmgr", "pannier.runtime"))
        },
        key=lambda kind: kind.__name__,
    )


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_every_error_class_has_a_row_of_its_own_or_of_a_base(
    kind: type[errors.PannierError],
) -> None:
    rows = [base for base in kind.__mro__ if base in main.EXIT_CODES]
    assert rows, f"{kind.__name__} needs a row in EXIT_CODES"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidReference("A B", "spaces"), 2),
        (errors.ModelfileError("no FROM"), 2),
        (errors.InvalidGGUF("x.gguf", "bad magic"), 2),
        (errors.ModelNotFound("a:latest"), 3),
        (errors.DigestMismatch("sha256:a", "sha256:b"), 4),
        (errors.UnknownDialect("an image"), 4),
        (errors.NetworkError("no answer"), 5),
        (errors.Unauthorized("wrong password", status=401), 5),
        (errors.NoSpace(Path("/x")), 1),
        (errors.Cancelled(), 130),
        (errors.PannierError("something"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_codes_are_those_of_the_documentation(error: errors.PannierError, code: int) -> None:
    assert exit_code(error, main.EXIT_CODES) == code
