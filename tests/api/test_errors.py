"""Statuses and public texts of exceptions."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pannier.api.errors import STATUSES, RequestError, failure_of
from pannier.pkgmgr import errors as pkgmgr
from pannier.pkgmgr.errors import PannierError
from pannier.runtime import errors as runtime


def tree(kind: type[PannierError]) -> Iterator[type[PannierError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from tree(child)


def test_every_error_class_has_a_row_by_itself_or_by_a_parent_below_the_root() -> None:
    for kind in tree(PannierError):
        if kind.__module__ in (pkgmgr.__name__, runtime.__name__):
            rows = [base for base in kind.__mro__ if base in STATUSES]
            assert rows[0] is not PannierError or kind is PannierError, kind


def test_no_public_text_names_a_file() -> None:
    path = Path("/home/someone/.pannier/index.json")
    for error in (
        pkgmgr.CorruptStore(path, "it is not JSON"),
        pkgmgr.StoreBusy(path),
        pkgmgr.NoSpace(path, needed=5, free=1),
        runtime.LoadError(f"cannot load {path}: no tensors"),
    ):
        assert "someone" not in failure_of(error).message


def test_a_place_in_a_schema_is_not_taken_for_a_file() -> None:
    text = "the JSON schema uses 'not' at #/properties/a/items, see https://example.com/x.json#/$defs/b"
    assert failure_of(pkgmgr.InvalidOption(text)).message == text


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (pkgmgr.ModelNotFound("x", place="store /a/b"), 404, "model 'x' not found"),
        (RequestError(418, "tea"), 418, "tea"),
        (ValueError("secret"), 500, "internal server error"),
        (runtime.ContextOverflow(10, 5), 400, "the prompt is longer than the context length"),
    ],
)
def test_texts(error: Exception, status: int, text: str) -> None:
    failure = failure_of(error)
    assert failure.status == status
    assert failure.message.startswith(text)
