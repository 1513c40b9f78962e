"""How families of models write tool calls, as facts for the writer of grammars. Pure values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way to write calls.

    Attributes:
        body: how a single call is written: `json` (an object with a name and arguments), `named`
            (the name, a mark, the arguments), `fenced` and `separated` (DeepSeek's two), `xml`
            (Qwen3-coder), `invoke` (MiniMax), `pairs` (GLM), `kimi`; empty where none is known.
        block: a block of calls in Lark, with what may follow the first call in `[[` and `]]`;
            `mark_0` … are `marks`, `call` a single call, `list` a JSON list of them.
        marks: see `Constraint.marks`.
        openings: what announces a block in free text.
        repeats: whether another block may follow.
        may_be_bare: whether calls may come as JSON without a mark, at the beginning.
        name, arguments: keys of a JSON call.
    """

    body: str = ""
    block: str = ""
    marks: tuple[str, ...] = ()
    openings: tuple[str, ...] = ()
    repeats: bool = False
    may_be_bare: bool = False
    name: str = "name"
    arguments: str = "arguments"


NO_DIALECT = Dialect()
BARE = Dialect("json", "blanks (list | call [[/[,;]?/ blanks call]])", may_be_bare=True)


def tagged(opening: str, closing: str = "", *, is_list: bool = False) -> Dialect:
    """JSON behind an opening mark, before a closing one if there is any."""
    inner = "list" if is_list else "call"
    if closing:
        block = f"mark_0 blanks {inner} blanks mark_1"
        return Dialect("json", block, (opening, closing), (opening,), repeats=not is_list)
    block = f"mark_0 blanks {inner}" if is_list else "mark_0 blanks (list | call)"
    return Dialect("json", block, (opening,), (opening,))
