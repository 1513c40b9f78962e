"""How families of models write tool calls, as facts for the writer of grammars. Pure values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way to write calls.

    Attributes:
        body: how a single call is written: `json` (an object with a name and arguments), `named`
            (the name, a mark, the arguments), `function` (the name in a tag, the arguments),
            `fenced` and `separated` (DeepSeek's two), `xml` (Qwen3-coder), `invoke` (MiniMax),
            `pairs` (GLM), `kimi`; empty where none is known.
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


GLM = Dialect(
    "pairs",
    "mark_0 call mark_1",
    ("<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
    ("<tool_call>",),
    repeats=True,
)
QWEN_XML = Dialect(
    "xml",
    "mark_0 blanks call blanks mark_1 | call",
    ("<tool_call>", "</tool_call>", "\n</parameter>\n"),
    ("<tool_call>", "<function="),
    repeats=True,
)
MISTRAL_LIST = tagged("[TOOL_CALLS]", is_list=True)
MISTRAL_NAMED = Dialect(
    "named", "mark_0 call", ("[TOOL_CALLS]", "[ARGS]"), ("[TOOL_CALLS]",), repeats=True
)
FUNCTION_JSON = Dialect("function", "call", openings=("<function=",), repeats=True)
LLAMA3_JSON = Dialect(
    "json",
    "(mark_0 blanks)? call [[/[;,]?/ blanks call]]",
    ("<|python_tag|>",),
    ("<|python_tag|>",),
    may_be_bare=True,
    arguments="parameters",
)
_DEEPSEEK_MARKS = (
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
)
DEEPSEEK = Dialect(
    "separated",
    "mark_0? mark_1 call mark_3 [[blanks mark_1 call mark_3]] mark_4",
    _DEEPSEEK_MARKS,
    _DEEPSEEK_MARKS[:2],
)
DEEPSEEK_FENCED = replace(DEEPSEEK, body="fenced")
KIMI = Dialect(
    "kimi",
    "mark_0? mark_1 call mark_3 [[blanks mark_1 call mark_3]] mark_4",
    (
        "<|tool_calls_section_begin|>",
        "<|tool_call_begin|>",
        "<|tool_call_argument_begin|>",
        "<|tool_call_end|>",
        "<|tool_calls_section_end|>",
    ),
    ("<|tool_calls_section_begin|>", "<|tool_call_begin|>"),
)
MINIMAX = Dialect(
    "invoke",
    "mark_0 blanks call [[blanks call]] blanks mark_1",
    ("<minimax:tool_call>", "</minimax:tool_call>", "</parameter>\n"),
    ("<minimax:tool_call>",),
)
COMMAND = replace(
    tagged("<|START_ACTION|>", "<|END_ACTION|>", is_list=True),
    name="tool_name",
    arguments="parameters",
)
# By the mark that begins a block. Python calls (LFM2, OLMo 3) and DeepSeek 3.2's have none: their
# values have no one spelling that a grammar of the schema could give.
DIALECTS: Mapping[str, Dialect] = {
    "<tool_call>": tagged("<tool_call>", "</tool_call>"),
    "[TOOL_CALLS]": MISTRAL_LIST,
    "<｜tool▁call▁begin｜>": DEEPSEEK,
    "<|tool_call_begin|>": KIMI,
    "<minimax:tool_call>": MINIMAX,
    "<|START_ACTION|>": COMMAND,
    "<TOOLCALL>": tagged("<TOOLCALL>", "</TOOLCALL>", is_list=True),
    "<|tool_call|>": tagged("<|tool_call|>", is_list=True),
    "functools": tagged("functools", is_list=True),
    "<|tool_call_start|>": NO_DIALECT,
    "<function_calls>": NO_DIALECT,
    "<｜DSML｜function_calls>": NO_DIALECT,
}
