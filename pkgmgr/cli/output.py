"""How commands speak: results on stdout, for people or as JSON; everything else on stderr.

The only printer of the command line and the only importer of tqdm. A command decides what to say
and hands it over with both forms: lines for people, and the record that ``--json`` prints.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..digest import Digest
from ..transfer.events import (
    Advanced,
    Event,
    Finished,
    Noticed,
    OnEvent,
    Planned,
    Retried,
    Skipped,
    Started,
)

if TYPE_CHECKING:
    from tqdm import tqdm

_UNITS = ("B", "KB", "MB", "GB", "TB", "PB")
_AGES = (
    (86400 * 365, "year"),
    (86400 * 30, "month"),
    (86400 * 7, "week"),
    (86400, "day"),
    (3600, "hour"),
    (60, "minute"),
    (1, "second"),
)


class Output:
    """Where one command's words go.

    Args:
        as_json: print records as JSON instead of lines for people.
        quiet: leave out notes and progress; results and errors stay.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet

    def result(self, record: Mapping[str, Any], *, lines: Iterable[str] = ()) -> None:
        """Print one result: the record as one JSON object, or the lines."""
        if self.as_json:
            print_json(record)
        else:
            for line in lines:
                print(line)

    def table(
        self,
        headings: Sequence[str],
        rows: Iterable[Sequence[str]],
        *,
        records: Iterable[Mapping[str, Any]],
    ) -> None:
        """Print many results: the records as one JSON array, or the rows under headings."""
        if self.as_json:
            print_json(list(records))
            return
        for line in table_lines(headings, rows):
            print(line)

    def notice(self, text: str) -> None:
        """Tell people something that is no result."""
        if not self.quiet:
            print(one_line(text), file=sys.stderr)

    def is_interactive(self) -> bool:
        """Whether somebody watches stderr, so that progress may be drawn there."""
        return not self.quiet and sys.stderr.isatty()

    @contextmanager
    def progress(self, title: str) -> Iterator[OnEvent]:
        """A watcher of transfer events: a bar on a terminal, elsewhere only what must be read.

        The watcher may be called from several threads.
        """
        if not self.is_interactive():
            yield self.note_event
            return
        bar = _Bar(title, self.notice)
        try:
            yield bar.on_event
        finally:
            bar.close()

    def steps(self, status: str, done: int, total: int) -> None:
        """Draw how far something has come that moves no blobs; on a terminal only."""
        if total and self.is_interactive():
            end = "\n" if done == total else ""
            print(f"\r{status}: {done * 100 // total} %", end=end, file=sys.stderr, flush=True)

    def note_event(self, event: Event) -> None:
        """Tell people of an event what must be read, if anything."""
        note = event_note(event)
        if note is not None:
            self.notice(note)


class _Bar:
    """One line of progress over all bytes of a transfer."""

    def __init__(self, title: str, notice: Callable[[str], None]) -> None:
        self._title = one_line(title)
        self._notice = notice
        self._lock = threading.Lock()
        self._sizes: dict[Digest, int] = {}
        self._done: dict[Digest, int] = {}
        self._bar: tqdm[Any] | None = None

    def on_event(self, event: Event) -> None:
        """Take in one event and draw."""
        with self._lock:
            note = event_note(event)
            if note is not None:
                self._clear()
                self._notice(note)
            self._count(event)
            self._draw()

    def close(self) -> None:
        """Leave the line as it stands, so that it can be read afterwards."""
        with self._lock:
            if self._bar is not None:
                self._bar.close()
                self._bar = None

    def _count(self, event: Event) -> None:
        match event:
            case Planned(descriptors):
                self._sizes |= {item.digest: item.size for item in descriptors}
            case Started(item, resumed):
                self._sizes[item.digest] = item.size
                self._done[item.digest] = resumed
            case Advanced(item, count):
                self._done[item.digest] = self._done.get(item.digest, 0) + count
            case Skipped(item) | Finished(item):
                self._sizes[item.digest] = item.size
                self._done[item.digest] = item.size
            case _:
                pass

    def _draw(self) -> None:
        if not self._sizes:
            return
        total = sum(self._sizes.values())
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                desc=self._title,
                total=total,
                unit="B",
                unit_scale=True,
                dynamic_ncols=True,
                file=sys.stderr,
            )
        self._bar.total = total
        self._bar.update(min(total, sum(self._done.values())) - self._bar.n)

    def _clear(self) -> None:
        if self._bar is not None:
            self._bar.clear()


def event_note(event: Event) -> str | None:
    """What people must read of an event even without a progress bar; None for most."""
    match event:
        case Noticed(message):
            return f"note: {message}"
        case Retried(item, error, wait_s):
            return f"note: {item.digest.short}: {error}; trying again in {wait_s:.0f} s"
        case _:
            return None


def print_json(value: Any) -> None:
    """One JSON value on stdout, readable and stable."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def print_error(message: str, hint: str | None = None) -> None:
    """The error line, and what to do next, on stderr."""
    print(f"error: {one_line(message)}", file=sys.stderr)
    if hint:
        print(f"hint: {one_line(hint)}", file=sys.stderr)


def one_line(text: str) -> str:
    r"""Text with every line break and control character made visible.

    What a registry or a file says must not move a terminal's cursor.

    >>> one_line("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return "".join(char if char.isprintable() else _visible(char) for char in text)


def plain(text: str) -> str:
    """Text of several lines, without control characters other than line breaks and tabs."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else _visible(char) for char in text
    )


def _visible(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def human_size(size: int) -> str:
    """Bytes for people, in powers of 1000 with at most three digits.

    >>> human_size(999), human_size(98_100_000), human_size(4_700_000_000)
    ('999 B', '98 MB', '4.7 GB')
    """
    value, unit = float(size), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    digits = 0 if unit == 0 or value >= 9.95 else 1
    return f"{value:.{digits}f} {_UNITS[unit]}"


def human_age(then: float, now: float | None = None) -> str:
    """A moment in seconds since the epoch, as people put it.

    >>> human_age(0, 7200), human_age(100, 100)
    ('2 hours ago', 'just now')
    """
    seconds = (time.time() if now is None else now) - then
    for length, name in _AGES:
        count = int(seconds // length)
        if count > 0:
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "just now"


def table_lines(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Rows under headings in columns, without trailing blanks.

    >>> table_lines(("NAME", "SIZE"), [("smollm2:latest", "98 MB")])
    ['NAME            SIZE', 'smollm2:latest  98 MB']
    """
    cells = [tuple(headings), *(tuple(one_line(cell) for cell in row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headings))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
