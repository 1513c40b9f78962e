"""Reading what the user types: history, keys, pasted and quoted messages of several lines.

The only importer of prompt_toolkit.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PROMPT = ">>> "
_CONTINUATION = "... "
_PLACEHOLDER = "Send a message (/? for help)"
QUOTES = '"""'


class Terminal:
    """The prompt of one session."""

    def __init__(self, history: Path | None) -> None:
        # Only menus need the cursor's position; a terminal that cannot say it would be warned of.
        os.environ.setdefault("PROMPT_TOOLKIT_NO_CPR", "1")
        from prompt_toolkit import PromptSession

        self._path = history
        self._session: PromptSession[str] = PromptSession(key_bindings=_keys())
        self.keep_history(history is not None)

    def keep_history(self, wanted: bool) -> None:
        """Write what is typed from now on to the history file, or do not."""
        from prompt_toolkit.history import FileHistory, InMemoryHistory

        if wanted and self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._session.default_buffer.history = FileHistory(str(self._path))
        else:
            self._session.default_buffer.history = InMemoryHistory()

    def read(self) -> str:
        r'''One message, of several lines where it begins with `"""`.

        Raises:
            KeyboardInterrupt: for Ctrl-C.
            EOFError: for Ctrl-D on an empty line.
        '''
        from prompt_toolkit.formatted_text import FormattedText

        shown = FormattedText([("fg:ansibrightblack", _PLACEHOLDER)])

        def more() -> str:
            return self._session.prompt(_CONTINUATION, placeholder="")

        return read_message(self._session.prompt(_PROMPT, placeholder=shown), more)


def read_message(first: str, more: Callable[[], str]) -> str:
    r"""A message that begins with `first`; further lines come from `more` until the quotes end.

    >>> lines = iter(["two", 'three' + QUOTES])
    >>> read_message(QUOTES + "one", lambda: next(lines))
    'one\ntwo\nthree'
    """
    head, opened, text = first.partition(QUOTES)
    if not opened or head.strip() not in ("", "/set system"):
        return first
    lines = [text]
    while QUOTES not in lines[-1]:
        lines.append(more())
    lines[-1] = lines[-1].partition(QUOTES)[0]
    return head + "\n".join(lines).strip("\n")


def _keys() -> Any:
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()

    @keys.add("c-g")
    def _edit(event: Any) -> None:
        editor = os.environ.get("OLLAMA_EDITOR")
        if editor:
            # prompt_toolkit looks at VISUAL and EDITOR only.
            os.environ["VISUAL"] = editor
        event.current_buffer.open_in_editor(validate_and_handle=False)

    return keys
