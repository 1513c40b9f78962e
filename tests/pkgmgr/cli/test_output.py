"""Output: results on stdout, the rest on stderr, a bar only for people."""

from __future__ import annotations

import io
import json

import pytest

from pannier.pkgmgr.cli import output
from pannier.pkgmgr.cli.output import Output
from pannier.pkgmgr.descriptor import Descriptor
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.transfer.events import (
    Advanced,
    Finished,
    Noticed,
    Planned,
    Retried,
    Skipped,
    Started,
)

BLOB = Descriptor("x/y", Digest.of(b"blob"), 1000)
OTHER = Descriptor("x/y", Digest.of(b"other"), 500)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_result_is_lines_or_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    Output().result({"name": "a"}, lines=["it is a"])
    assert capsys.readouterr() == ("it is a\n", "")
    Output(as_json=True).result({"name": "ä"}, lines=["it is a"])
    assert json.loads(capsys.readouterr().out) == {"name": "ä"}


def test_an_empty_table_is_an_empty_array(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=True).table(("NAME",), [], records=[])
    assert json.loads(capsys.readouterr().out) == []


def test_notices_go_to_stderr_unless_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    Output().notice("done")
    Output(quiet=True).notice("done too")
    assert capsys.readouterr() == ("", "done\n")


def test_errors_are_one_line_and_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_error("two\nlines \x1b[31m", "try\nthis")
    assert capsys.readouterr().err == "error: two\\nlines \\x1b[31m\nhint: try\\nthis\n"


def test_no_progress_is_drawn_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Output().progress("pulling") as on_event:
        on_event(Planned((BLOB,)))
        on_event(Advanced(BLOB, 10))
        on_event(Noticed("the mirror is slow"))
        on_event(Retried(BLOB, "connection reset", 2.0))
    err = capsys.readouterr().err
    assert err.splitlines()[0] == "note: the mirror is slow"
    assert "connection reset; trying again in 2 s" in err


def test_the_bar_counts_each_blob_once(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with Output().progress("pulling x") as on_event:
        on_event(Planned((BLOB, OTHER)))
        on_event(Skipped(OTHER))
        on_event(Started(BLOB))
        on_event(Advanced(BLOB, 600))
        on_event(Started(BLOB, resumed=400))
        on_event(Advanced(BLOB, 600))
        on_event(Finished(BLOB))
    assert "pulling x: 100%" in terminal.getvalue()
    assert "1.50k/1.50k" in terminal.getvalue()


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (999_950, "1.0 MB")]
)
def test_sizes_never_have_four_digits(size: int, text: str) -> None:
    assert output.human_size(size) == text
