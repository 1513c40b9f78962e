"""Prompt formats that many models share, as Go templates with the texts that end an answer.

Each is written anew and gives the bytes that Ollama's template of that name gives. `detect` finds
the one that a Jinja template stands for, and only where nothing would be lost: a Jinja template
that knows tools, reasoning or a system prompt of its own says more than any of these. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from . import named_sources

# A Jinja template longer than this does more than put marks around turns.
_MAX_PLAIN = 2_500
# What no format of these has: tools, reasoning, a date or a system prompt of the template's own,
# and marks of formats that look much like one of these.
_SAYS_MORE = ("tool", "<think", "you are", "date", "namespace")
_OTHER_MARKS = (
    "<|im_sep|>",
    "[system_prompt]",
    "<|start_response|>",
    "<|header_start|>",
    "[gmask]",
)
# A branch that is never taken, as some templates keep their default system prompt.
_NEVER = re.compile(r"\{%-?\s*elif\s+false\s*==\s*true\s*-?%\}.*?(?=\{%-?\s*else\b)", re.DOTALL)
_FIELD = re.compile(
    r"""\w+(?:\.(role|content)\b|\[\s*['"](role|content)['"]\s*\])(?:\s*\|\s*trim)?"""
)


@dataclass(frozen=True, slots=True)
class NamedTemplate:
    """A prompt format.

    Attributes:
        source: Go text/template.
        stop: texts that end an answer.
        marks: regular expressions that all match a Jinja template of this format, in the form that
            `_plain` brings it into.
        params: further parameters that models of this format are run with.
    """

    name: str
    source: str
    stop: tuple[str, ...]
    marks: tuple[str, ...]
    params: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


def detect(jinja: str) -> NamedTemplate | None:
    """The format that a Jinja chat template writes; None where it does more, or is unknown."""
    plain = _plain(jinja) if len(jinja) <= _MAX_PLAIN else ""
    lower = plain.lower()
    if not plain or any(word in lower for word in (*_SAYS_MORE, *_OTHER_MARKS)):
        return None
    fitting = [
        template
        for template in NAMED_TEMPLATES.values()
        if all(re.search(mark, plain) for mark in template.marks)
    ]
    return max(fitting, key=lambda template: len("".join(template.marks)), default=None)


def _plain(jinja: str) -> str:
    """The template with one spelling for what can be spelled in many ways."""
    text = _NEVER.sub("", jinja).replace("\\n", "\n").replace('"', "'")
    text = _FIELD.sub(lambda match: (match[1] or match[2]).upper(), text)
    return re.sub(r"\s*([+~])\s*", "+", text)


_ALL = (
    NamedTemplate(
        "alfred",
        named_sources.ALFRED,
        ("<start_system>", "<end_message>", "<start_user>", "<start_assistant>"),
        ("<start_user>", "<end_message>"),
    ),
    NamedTemplate(
        "alpaca",
        named_sources.ALPACA,
        ("### Instruction:", "### Response"),
        ("### Instruction:", "### Response:"),
    ),
    NamedTemplate(
        "chatml",
        named_sources.CHATML,
        ("<|im_start|>", "<|im_end|>"),
        (r"<\|im_start\|>", r"<\|im_end\|>"),
    ),
    NamedTemplate(
        "chatqa",
        named_sources.CHATQA,
        ("System:", "User:", "Assistant:", "<|begin_of_text|>"),
        (r"'User: '\+CONTENT\+'\n\n'", r"'Assistant: '\+CONTENT"),
    ),
    NamedTemplate(
        "codellama-70b-instruct",
        named_sources.CODELLAMA_70B,
        ("Source:", "Destination:", "<step>"),
        ("Source: ", "<step>"),
    ),
    NamedTemplate(
        "command-r",
        named_sources.COMMAND_R,
        ("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
        (r"<\|START_OF_TURN_TOKEN\|>", r"<\|CHATBOT_TOKEN\|>"),
    ),
    NamedTemplate(
        "falcon-instruct", named_sources.FALCON, ("User:", "Assistant:"), ("User:", "Falcon:")
    ),
    NamedTemplate(
        "gemma-instruct",
        named_sources.GEMMA,
        ("<start_of_turn>", "<end_of_turn>"),
        ("<start_of_turn>", "<end_of_turn>"),
    ),
    NamedTemplate(
        "gemma3-instruct",
        named_sources.GEMMA3,
        ("<end_of_turn>",),
        ("<start_of_turn>", "<end_of_turn>", "first_user_prefix"),
        MappingProxyType({"temperature": 0.1}),
    ),
    NamedTemplate(
        "granite-instruct",
        named_sources.GRANITE,
        ("System:", "Question:", "Answer:"),
        ("Question:\n", "Answer:\n"),
    ),
    NamedTemplate(
        "llama2-chat",
        named_sources.LLAMA2,
        ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"),
        (r"\[INST\]", r"\[/INST\]", "<<SYS>>"),
    ),
    NamedTemplate(
        "llama3-instruct",
        named_sources.LLAMA3,
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        (r"<\|start_header_id\|>", r"<\|eot_id\|>"),
    ),
    NamedTemplate(
        "magicoder",
        named_sources.MAGICODER,
        ("@@ Instruction", "@@ Response"),
        ("@@ Instruction", "@@ Response"),
    ),
    NamedTemplate(
        "mistral-instruct",
        named_sources.MISTRAL,
        ("<|im_start|>", "<|im_end|>"),
        (r"\[INST\]", r"\[/INST\]"),
    ),
    NamedTemplate(
        "openchat",
        named_sources.OPENCHAT,
        ("<|end_of_turn|>",),
        ("GPT4 Correct", r"<\|end_of_turn\|>"),
    ),
    NamedTemplate(
        "phi-3",
        named_sources.PHI3,
        ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>"),
        (r"<\|user\|>|'<\|'\+ROLE\+'\|>'", r"<\|assistant\|>", r"<\|end\|>"),
    ),
    NamedTemplate(
        "solar-instruct",
        named_sources.SOLAR,
        ("### System:", "### User:", "### Assistant"),
        ("### User:", "### Assistant:"),
    ),
    NamedTemplate(
        "starcoder2-instruct",
        named_sources.STARCODER2,
        ("### Instruction", "### Response", "<|endoftext|>"),
        ("### Instruction\n", "### Response\n"),
    ),
    NamedTemplate("vicuna", named_sources.VICUNA, ("USER:", "ASSISTANT:"), ("USER:", "ASSISTANT:")),
    NamedTemplate(
        "zephyr",
        named_sources.ZEPHYR,
        ("<|system|>", "</s>", "<|user|>", "<|assistant|>"),
        (
            r"<\|user\|>\n'\+CONTENT\+(?:eos_token|'</s>)|'<\|'\+ROLE\+'\|>\n'\+CONTENT\+eos_token",
            r"<\|assistant\|>",
        ),
    ),
)
NAMED_TEMPLATES: Mapping[str, NamedTemplate] = MappingProxyType({one.name: one for one in _ALL})
