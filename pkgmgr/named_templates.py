"""Prompt formats that many models share, as Go templates with the texts that end an answer.

Each is written from the format's own description. `detect` finds the one that a Jinja template
stands for, and only where nothing would be lost: a Jinja template that knows tools, reasoning or a
system prompt of its own says more than any of these. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

# A Jinja template longer than this does more than put marks around turns.
_MAX_PLAIN = 2_500


@dataclass(frozen=True, slots=True)
class NamedTemplate:
    """A prompt format.

    Attributes:
        source: Go text/template.
        stop: texts that end an answer.
        marks: what a Jinja template of this format writes; empty for formats known by name only.
        params: further parameters that models of this format are run with.
    """

    name: str
    source: str
    stop: tuple[str, ...]
    marks: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


def detect(jinja: str) -> NamedTemplate | None:
    """The format that a Jinja chat template writes; None where it does more, or is unknown."""
    if not jinja or len(jinja) > _MAX_PLAIN or _says_more(jinja):
        return None
    fitting = [
        template
        for template in NAMED_TEMPLATES.values()
        if template.marks and all(mark in jinja for mark in template.marks)
    ]
    return max(fitting, key=lambda template: len("".join(template.marks)), default=None)


def _says_more(jinja: str) -> bool:
    lower = jinja.lower()
    return any(word in lower for word in ("tool", "<think", "you are", "date", "namespace"))


# For formats without a place for a system prompt: it goes before the next user turn.
_HOLD_SYSTEM = """\
{{- $system := "" }}
{{- range .Messages }}
{{- if eq .Role "system" }}
{{- if $system }}{{ $system = printf "%s\\n\\n%s" $system .Content }}
{{- else }}{{ $system = .Content }}
{{- end }}
{{- continue }}
{{- end }}
"""


def _turns(
    system: str, user: str, assistant: str, *, after: str = "\n\n", end: str = "\n\n"
) -> str:
    """A range over messages with a heading for each role: `heading text after`, then the answer's.

    An empty heading for the system leaves its text alone.
    """
    return (
        (
            "{{- range .Messages }}"
            f'{{{{- if eq .Role "system" }}}}{system}{{{{ .Content }}}}{after}'
            f'{{{{- else if eq .Role "user" }}}}{user}{{{{ .Content }}}}{after}'
            f'{{{{- else if eq .Role "assistant" }}}}{assistant}{{{{ .Content }}}}{end}'
            f"{{{{- end }}}}{{{{- end }}}}{assistant}"
        )
        .replace(after + "{{- ", after + "{{ ")
        .replace(end + "{{- ", end + "{{ ")
    )


_CHATML = """\
{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
_LLAMA3 = """\
{{- range .Messages }}<|start_header_id|>{{ .Role }}<|end_header_id|>

{{ .Content }}<|eot_id|>
{{- end }}<|start_header_id|>assistant<|end_header_id|>

"""
_PHI3 = """\
{{- range .Messages }}<|{{ .Role }}|>
{{ .Content }}<|end|>
{{ end }}<|assistant|>
"""
_ZEPHYR = """\
{{- range .Messages }}<|{{ .Role }}|>
{{ .Content }}</s>
{{ end }}<|assistant|>
"""
_GEMMA = (
    _HOLD_SYSTEM
    + """\
{{- if eq .Role "user" }}<start_of_turn>user
{{ if $system }}{{ $system }}

{{ $system = "" }}{{ end }}{{ .Content }}<end_of_turn>
{{ else if eq .Role "assistant" }}<start_of_turn>model
{{ .Content }}<end_of_turn>
{{ end }}
{{- end }}<start_of_turn>model
"""
)
_GEMMA3 = """\
{{- range $i, $_ := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 }}
{{- if eq .Role "user" }}<start_of_turn>user
{{ if and $.System (eq $i 1) }}{{ $.System }}

{{ end }}{{ .Content }}<end_of_turn>
{{ if $last }}<start_of_turn>model
{{ end }}
{{- else if eq .Role "assistant" }}<start_of_turn>model
{{ .Content }}{{ if not $last }}<end_of_turn>
{{ end }}
{{- end }}
{{- end }}"""
_LLAMA2 = (
    _HOLD_SYSTEM
    + """\
{{- if eq .Role "user" }}<s>[INST] {{ if $system }}<<SYS>>
{{ $system }}
<</SYS>>

{{ $system = "" }}{{ end }}{{ .Content }} [/INST]
{{- else if eq .Role "assistant" }} {{ .Content }} </s>
{{- end }}
{{- end }}"""
)
_MISTRAL = (
    _HOLD_SYSTEM
    + """\
{{- if eq .Role "user" }}[INST] {{ if $system }}{{ $system }}

{{ $system = "" }}{{ end }}{{ .Content }}[/INST]
{{- else if eq .Role "assistant" }} {{ .Content }}</s>
{{- end }}
{{- end }}"""
)
_ALPACA = (
    _HOLD_SYSTEM
    + """\
{{- if eq .Role "user" }}{{ if $system }}{{ $system }}

{{ $system = "" }}{{ end }}### Instruction:
{{ .Content }}

{{ else if eq .Role "assistant" }}### Response:
{{ .Content }}

{{ end }}
{{- end }}### Response:
"""
)
_VICUNA = (
    _HOLD_SYSTEM
    + """\
{{- if eq .Role "user" }}{{ if $system }}{{ $system }}

{{ $system = "" }}{{ end }}USER: {{ .Content }}
{{ else if eq .Role "assistant" }}ASSISTANT: {{ .Content }}</s>
{{ end }}
{{- end }}ASSISTANT:"""
)
_COMMAND_R = """\
{{- if or .Tools .System }}<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>
{{- .System }}
{{- if .Tools }}

## Available Tools
{{- range .Tools }}
{{ .Function.Name }}: {{ .Function.Description }}
{{- range $name, $property := .Function.Parameters.Properties }}
- {{ $name }} ({{ $property.Type }}): {{ $property.Description }}
{{- end }}
{{- end }}

Answer with `Action:` and a JSON list of objects with "tool_name" and "parameters" to call tools.
{{- end }}<|END_OF_TURN_TOKEN|>
{{- end }}
{{- range .Messages }}
{{- if eq .Role "system" }}{{ continue }}{{ end }}<|START_OF_TURN_TOKEN|>
{{- if eq .Role "user" }}<|USER_TOKEN|>{{ .Content }}
{{- else if eq .Role "tool" }}<|SYSTEM_TOKEN|><results>
{{ .Content }}</results>
{{- else }}<|CHATBOT_TOKEN|>{{ .Content }}
{{- if .ToolCalls }}Action: [
{{- range $i, $call := .ToolCalls }}{{ if $i }}, {{ end -}}
{"tool_name": "{{ .Function.Name }}", "parameters": {{ .Function.Arguments }}}
{{- end }}]
{{- end }}
{{- end }}<|END_OF_TURN_TOKEN|>
{{- end }}<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"""
_OPENCHAT = """\
{{- range .Messages }}{{ if eq .Role "system" }}{{ .Content }}
{{- else if eq .Role "user" }}GPT4 Correct User: {{ .Content }}
{{- else }}GPT4 Correct Assistant: {{ .Content }}
{{- end }}<|end_of_turn|>
{{- end }}GPT4 Correct Assistant:"""
_CODELLAMA_70B = """\
{{- range .Messages }}Source: {{ .Role }}

 {{ .Content }} <step> {{ end }}Source: assistant
Destination: user

 """
_FALCON = """\
{{- range .Messages }}
{{- if eq .Role "system" }}{{ .Content }}
{{ else if eq .Role "user" }}User: {{ .Content }}
{{ else }}Falcon: {{ .Content }}
{{ end }}
{{- end }}Falcon:"""
_ALFRED = """\
{{- range .Messages }}<start_{{ .Role }}>{{ .Content }}<end_message>{{ end }}<start_assistant>"""

_PHI_STOP = ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
_INSTRUCT_STOP = ("### Instruction", "### Response")

_ALL = (
    NamedTemplate("alfred", _ALFRED, ("<start_system>", "<end_message>", "<start_user>")),
    NamedTemplate("alpaca", _ALPACA, _INSTRUCT_STOP, ("### Instruction:", "### Response:")),
    NamedTemplate(
        "chatml", _CHATML, ("<|im_start|>", "<|im_end|>"), ("<|im_start|>", "<|im_end|>")
    ),
    NamedTemplate(
        "chatqa",
        _turns("System: ", "User: ", "Assistant: "),
        ("System:", "User:", "Assistant:", "<|begin_of_text|>"),
    ),
    NamedTemplate(
        "codellama-70b",
        _CODELLAMA_70B,
        ("Source:", "Destination:", "<step>"),
        ("Source:", "<step>"),
    ),
    NamedTemplate(
        "command-r",
        _COMMAND_R,
        ("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
        ("<|START_OF_TURN_TOKEN|>", "<|CHATBOT_TOKEN|>"),
    ),
    NamedTemplate("falcon", _FALCON, ("User:", "Falcon:"), ("User: ", "Falcon:")),
    NamedTemplate(
        "gemma", _GEMMA, ("<start_of_turn>", "<end_of_turn>"), ("<start_of_turn>", "<end_of_turn>")
    ),
    NamedTemplate(
        "gemma3", _GEMMA3, ("<end_of_turn>",), params=MappingProxyType({"temperature": 0.1})
    ),
    NamedTemplate(
        "granite",
        _turns("System:\n", "Question:\n", "Answer:\n"),
        ("System:", "Question:", "Answer:"),
        ("Question:\\n", "Answer:\\n"),
    ),
    NamedTemplate(
        "llama2",
        _LLAMA2,
        ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"),
        ("[INST]", "[/INST]", "<<SYS>>"),
    ),
    NamedTemplate(
        "llama3",
        _LLAMA3,
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        ("<|start_header_id|>", "<|eot_id|>"),
    ),
    NamedTemplate(
        "magicoder",
        _turns("", "@@ Instruction\n", "@@ Response\n"),
        ("@@ Instruction", "@@ Response"),
        ("@@ Instruction", "@@ Response"),
    ),
    NamedTemplate("mistral", _MISTRAL, ("[INST]", "[/INST]"), ("[INST]", "[/INST]")),
    NamedTemplate("openchat", _OPENCHAT, ("<|end_of_turn|>",), ("GPT4 Correct", "<|end_of_turn|>")),
    NamedTemplate("phi3", _PHI3, _PHI_STOP, ("<|user|>", "<|assistant|>", "<|end|>")),
    NamedTemplate(
        "solar",
        _turns("### System:\n", "### User:\n", "### Assistant:\n"),
        ("### System:", "### User:", "### Assistant:"),
        ("### User:", "### Assistant:"),
    ),
    NamedTemplate(
        "starcoder2",
        _turns("", "### Instruction\n", "### Response\n", end="<|endoftext|>\n\n"),
        (*_INSTRUCT_STOP, "<|endoftext|>"),
        ("### Instruction\\n", "### Response\\n"),
    ),
    NamedTemplate("vicuna", _VICUNA, ("USER:", "ASSISTANT:"), ("USER:", "ASSISTANT:")),
    NamedTemplate(
        "zephyr",
        _ZEPHYR,
        ("<|system|>", "<|user|>", "<|assistant|>", "</s>"),
        ("<|user|>", "<|assistant|>"),
    ),
)
NAMED_TEMPLATES: Mapping[str, NamedTemplate] = MappingProxyType({one.name: one for one in _ALL})
