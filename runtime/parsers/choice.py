"""Chooses how a model's output is read: by the PARSER that its Modelfile names, else its template.

Unknown parser names are no error: the template tells the same in nearly all models. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from .blocks import Block, EnclosedBlock, JsonBlock, NamedJsonBlock, PythonBlock, TaggedBlock
from .calls import Toolbox
from .dialects import (
    BARE,
    DEEPSEEK_FENCED,
    DIALECTS,
    FUNCTION_JSON,
    GLM,
    LLAMA3_JSON,
    MISTRAL_NAMED,
    NO_DIALECT,
    QWEN_XML,
    Dialect,
    tagged,
)
from .harmony import HarmonyParser
from .loose import read_python
from .output import Chain, MarkDropper, OutputParser, PlainParser
from .thinking import ThinkingParser
from .tools import CallForm, ToolParser


def _enclosed(closing: str, mark: str, tools: Toolbox) -> Block:
    return EnclosedBlock(mark, closing, tools)


def _tagged(closing: str, mark: str, tools: Toolbox) -> Block:
    return TaggedBlock(mark, closing, tools)


def _python(closing: str, mark: str, tools: Toolbox) -> Block:
    return EnclosedBlock(mark, closing, tools, read=read_python)


def _function(mark: str, tools: Toolbox) -> Block:
    return EnclosedBlock(mark, "</function>", tools, marks_count=True)


HERMES = CallForm(
    "<tool_call>", partial(_tagged, "</tool_call>"), between=("</tool_call>",), repeats=True
)
FUNCTION = CallForm("<function=", _function, between=("</tool_call>",))
MISTRAL = CallForm("[TOOL_CALLS]", NamedJsonBlock, between=("[/TOOL_CALLS]",))
LLAMA3 = CallForm("<|python_tag|>", PythonBlock, repeats=True)
DEEPSEEK = CallForm(
    "<｜tool▁call▁begin｜>",
    partial(_enclosed, "<｜tool▁call▁end｜>"),
    before=("<｜tool▁calls▁begin｜>",),
    between=("<｜tool▁calls▁end｜>",),
)
KIMI = CallForm(
    "<|tool_call_begin|>",
    partial(_enclosed, "<|tool_call_end|>"),
    before=("<|tool_calls_section_begin|>",),
    between=("<|tool_calls_section_end|>",),
)
MINIMAX = CallForm("<minimax:tool_call>", partial(_enclosed, "</minimax:tool_call>"))
DSML = CallForm("<｜DSML｜function_calls>", partial(_enclosed, "</｜DSML｜function_calls>"))
COMMAND = CallForm("<|START_ACTION|>", partial(_enclosed, "<|END_ACTION|>"))
LFM2 = CallForm("<|tool_call_start|>", partial(_python, "<|tool_call_end|>"))
OLMO3 = CallForm("<function_calls>", partial(_python, "</function_calls>"))
NEMOTRON = CallForm("<TOOLCALL>", partial(_enclosed, "</TOOLCALL>"))
GRANITE = CallForm("<|tool_call|>", JsonBlock, between=("<|/tool_call|>",), repeats=True)
PHI4 = CallForm("functools", JsonBlock)
_FORMS = (
    *(HERMES, FUNCTION, MISTRAL, LLAMA3, DEEPSEEK, KIMI, MINIMAX, DSML, COMMAND),
    *(LFM2, OLMO3, NEMOTRON, GRANITE, PHI4),
)

_THINKING = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<seed:think>", "</seed:think>"),
)
# Command R7B and Command A put the answer between these.
_RESPONSE = ("<|START_RESPONSE|>", "<|END_RESPONSE|>")
HARMONY_REASONING = ("<|channel|>analysis<|message|>", "<|end|>")
_HARMONY = ("<|start|>", "<|channel|>", "<|message|>")

# PARSER names (Ollama's) → what the template alone would not tell.
_THINKERS = frozenset(
    {
        "qwen3",
        "qwen3-thinking",
        "qwen3.5",
        "qwen3-vl-thinking",
        "cogito",
        "deepseek3",
        "olmo3-think",
    }
    | {"nemotron-3-nano", "nemotron-3.5-nano", "glm-4.7", "lfm2-thinking"}
)
_PARSER_FORMS: Mapping[str, tuple[CallForm, ...]] = {
    "qwen3-coder": (HERMES, FUNCTION),
    "ministral": (MISTRAL,),
    "deepseek3": (DEEPSEEK,),
    "cohere": (COMMAND,),
    "lfm2": (LFM2,),
    "lfm2-thinking": (LFM2,),
    "olmo3": (OLMO3,),
    "olmo3-think": (OLMO3,),
    "glm-4.7": (HERMES,),
    "nemotron-3-nano": (HERMES, FUNCTION),
    "nemotron-3.5-nano": (HERMES, FUNCTION),
}


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """How one model marks what it writes. Immutable; `parser` makes the reader of one answer.

    Attributes:
        thinking: the tags around reasoning; None for models that do not mark any.
        forms: how tool calls are marked.
        dialect: how calls are written, for the grammars of them.
        silent: marks around the answer that are no part of it.
        is_harmony: whether it is gpt-oss's format, which the others do not describe.
        is_plain: whether nothing shall be read out of the text.
    """

    thinking: tuple[str, str] | None = None
    forms: tuple[CallForm, ...] = ()
    dialect: Dialect = NO_DIALECT
    silent: tuple[str, ...] = ()
    is_harmony: bool = False
    is_plain: bool = False

    @property
    def reasoning(self) -> tuple[str, str] | None:
        """What the reasoning stands between in the text as the model writes it."""
        return HARMONY_REASONING if self.is_harmony else self.thinking

    def is_opened_by(self, prompt_end: str) -> bool:
        """Whether a prompt of this end has begun the reasoning, as some do whatever is asked."""
        return self.reasoning is not None and prompt_end.rstrip().endswith(self.reasoning[0])

    @property
    def can_hold_calls(self) -> bool:
        """Whether there is a grammar of the calls, which are known when they begin."""
        return not self.is_plain and (self.is_harmony or bool(self.dialect.body))

    @property
    def marks(self) -> tuple[str, ...]:
        """Marks that must not be lost if they are control tokens of the model."""
        if self.is_harmony:
            return (*_HARMONY, "<|end|>", "<|call|>", "<|return|>", "<|constrain|>")
        marks = [
            mark for form in self.forms for mark in (form.opening, *form.before, *form.between)
        ]
        return (*(self.thinking or ()), *marks, *self.silent)

    def parser(
        self,
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        thinks: bool = True,
        prompt_end: str = "",
        expects_call: bool = False,
    ) -> OutputParser:
        """A parser for one answer.

        Args:
            tools: those of the request; without any, calls are not looked for.
            thinks: whether reasoning is parted from the answer.
            prompt_end: the end of the prompt, which may hold the opening tag already.
            expects_call: whether a call may come as bare JSON, whatever the model's own form.
        """
        if self.is_plain:
            return PlainParser()
        toolbox = Toolbox(tools)
        if self.is_harmony:
            return HarmonyParser(toolbox)
        bare = expects_call or not self.forms or self.dialect.may_be_bare
        inner: OutputParser = PlainParser()
        if tools:
            inner = ToolParser(self.forms, toolbox, bare=bare)
        if self.silent:
            inner = Chain(MarkDropper(self.silent), inner)
        is_open = self.is_opened_by(prompt_end)
        if self.thinking is None or not (thinks or is_open):
            return inner
        thinking = ThinkingParser(*self.thinking, is_open=is_open)
        return Chain(thinking, inner)


def output_format(
    template: str,
    *,
    parser: str = "",
    thinking: tuple[str, str] | None = None,
    tool_tag: str = "",
) -> OutputFormat:
    """The format of a model.

    Args:
        template: its source, Go or Jinja.
        parser: what the model's PARSER says.
        thinking: tags that a Go template's tree tells.
        tool_tag: the mark before calls that a Go template's tree tells; `{` for bare JSON.
    """
    if parser == "passthrough":
        return OutputFormat(is_plain=True)
    if parser == "harmony" or all(mark in template for mark in _HARMONY):
        return OutputFormat(is_harmony=True)
    tags = thinking or next((pair for pair in _THINKING if all(t in template for t in pair)), None)
    if tags is None and parser in _THINKERS:
        tags = _THINKING[0]
    forms = _PARSER_FORMS.get(parser) or _forms_of(template, tool_tag)
    silent = _RESPONSE if _RESPONSE[0] in template or parser == "cohere" else ()
    return OutputFormat(tags, forms, _dialect_of(forms, template, parser), silent)


def _forms_of(template: str, tool_tag: str) -> tuple[CallForm, ...]:
    known = tuple(form for form in _FORMS if form.opening in template)
    if known or tool_tag in ("", "{", "["):
        return known
    name = re.fullmatch(r"<(\w[\w-]*)>\s*\[?", tool_tag)
    if name:
        closing = f"</{name[1]}>"
        form = CallForm(f"<{name[1]}>", partial(_tagged, closing), between=(closing,), repeats=True)
        return (form,)
    mark = tool_tag.rstrip("[ \n")
    return (CallForm(mark, JsonBlock, repeats=True),) if mark else ()


def _dialect_of(forms: tuple[CallForm, ...], template: str, parser: str) -> Dialect:
    """The dialect of the first form; templates tell variants apart by marks that they mention."""
    if not forms:
        return replace(BARE, arguments=_arguments_key(template))
    first = forms[0]
    if first is HERMES and ("<arg_key>" in template or parser == "glm-4.7"):
        return GLM
    if FUNCTION in forms:
        return QWEN_XML if "<parameter=" in template or parser else FUNCTION_JSON
    if first is MISTRAL and ("[ARGS]" in template or parser == "ministral"):
        return MISTRAL_NAMED
    if first is DEEPSEEK and "```json" in template:
        return DEEPSEEK_FENCED
    if first is LLAMA3:
        return replace(LLAMA3_JSON, arguments=_arguments_key(template, "parameters"))
    if first.opening in DIALECTS:
        return DIALECTS[first.opening]
    closing = f"</{first.opening[1:]}" if first.opening.startswith("<") else ""
    return tagged(first.opening, closing)


def _arguments_key(template: str, usual: str = "arguments") -> str:
    """What the template calls a call's arguments."""
    other = "parameters" if usual == "arguments" else "arguments"
    quoted = [f'"{key}":' in template for key in (usual, other)]
    return other if quoted == [False, True] and f'"{other}": {{' in template else usual
