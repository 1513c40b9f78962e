"""Tool calls as families of models write them, after their published chat templates."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pannier.runtime.parsers.choice import OutputFormat, output_format

Call = tuple[str, Mapping[str, Any]]

FORECAST: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "unit": {"enum": ["C", "F"]},
    },
    "required": ["city"],
}
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "weather", "parameters": FORECAST}},
    {"type": "function", "function": {"name": "time"}},
    {"type": "function", "function": {"name": "odd-näme.v2", "parameters": FORECAST}},
]


def dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def plain(value: Any) -> str:
    """A value between tags: a string as it is, else JSON."""
    return value if isinstance(value, str) else dumps(value)


def as_json(call: Call, arguments: str = "arguments", name: str = "name") -> str:
    return dumps({name: call[0], arguments: call[1]})


def as_list(calls: Sequence[Call], arguments: str = "arguments", name: str = "name") -> str:
    return "[" + ", ".join(as_json(call, arguments, name) for call in calls) + "]"


def hermes(calls: Sequence[Call]) -> str:
    return "\n".join(f"<tool_call>\n{as_json(call)}\n</tool_call>" for call in calls)


def qwen_xml(calls: Sequence[Call]) -> str:
    def one(call: Call) -> str:
        pairs = "".join(
            f"<parameter={key}>\n{plain(value)}\n</parameter>\n" for key, value in call[1].items()
        )
        return f"<tool_call>\n<function={call[0]}>\n{pairs}</function>\n</tool_call>"

    return "\n".join(map(one, calls))


def llama3_tag(calls: Sequence[Call]) -> str:
    return "\n".join(f"<function={name}>{dumps(arguments)}</function>" for name, arguments in calls)


def glm(calls: Sequence[Call]) -> str:
    def one(call: Call) -> str:
        pairs = "".join(
            f"<arg_key>{key}</arg_key>\n<arg_value>{plain(value)}</arg_value>\n"
            for key, value in call[1].items()
        )
        return f"<tool_call>{call[0]}\n{pairs}</tool_call>"

    return "\n".join(map(one, calls))


def mistral_list(calls: Sequence[Call]) -> str:
    return "[TOOL_CALLS] " + as_list(calls)


def mistral_named(calls: Sequence[Call]) -> str:
    return "".join(f"[TOOL_CALLS]{name}[ARGS]{dumps(arguments)}" for name, arguments in calls)


def llama3(calls: Sequence[Call]) -> str:
    return "<|python_tag|>" + "; ".join(as_json(call, "parameters") for call in calls)


def bare(calls: Sequence[Call]) -> str:
    return "\n".join(as_json(call) for call in calls)


def _deepseek(calls: Sequence[Call], form: str) -> str:
    blocks = "".join(
        "<｜tool▁call▁begin｜>" + form.format(name, dumps(arguments)) + "<｜tool▁call▁end｜>"
        for name, arguments in calls
    )
    return f"<｜tool▁calls▁begin｜>{blocks}<｜tool▁calls▁end｜>"


def deepseek(calls: Sequence[Call]) -> str:
    return _deepseek(calls, "{}<｜tool▁sep｜>{}")


def deepseek_r1(calls: Sequence[Call]) -> str:
    return _deepseek(calls, "function<｜tool▁sep｜>{}\n```json\n{}\n```")


def harmony(calls: Sequence[Call]) -> str:
    return "<|start|>assistant".join(
        f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>"
        f"{dumps(arguments)}<|call|>"
        for name, arguments in calls
    )


def kimi(calls: Sequence[Call]) -> str:
    blocks = "".join(
        f"<|tool_call_begin|>functions.{name}:{number}<|tool_call_argument_begin|>"
        f"{dumps(arguments)}<|tool_call_end|>"
        for number, (name, arguments) in enumerate(calls)
    )
    return f"<|tool_calls_section_begin|>{blocks}<|tool_calls_section_end|>"


def _invokes(calls: Sequence[Call], mark: str = "") -> str:
    def one(call: Call) -> str:
        pairs = "".join(
            f'<{mark}parameter name="{key}">{plain(value)}</{mark}parameter>\n'
            for key, value in call[1].items()
        )
        return f'<{mark}invoke name="{call[0]}">\n{pairs}</{mark}invoke>\n'

    return "".join(map(one, calls))


def minimax(calls: Sequence[Call]) -> str:
    return f"<minimax:tool_call>\n{_invokes(calls)}</minimax:tool_call>"


def deepseek_v32(calls: Sequence[Call]) -> str:
    mark = "｜DSML｜"
    return f"<{mark}function_calls>\n{_invokes(calls, mark)}</{mark}function_calls>"


def command(calls: Sequence[Call]) -> str:
    return f"<|START_ACTION|>{as_list(calls, 'parameters', 'tool_name')}<|END_ACTION|>"


def nemotron(calls: Sequence[Call]) -> str:
    return f"<TOOLCALL>{as_list(calls)}</TOOLCALL>"


def granite(calls: Sequence[Call]) -> str:
    return f"<|tool_call|>{as_list(calls)}"


def phi4(calls: Sequence[Call]) -> str:
    return f"functools{as_list(calls)}"


def _python(call: Call) -> str:
    return f"{call[0]}({', '.join(f'{key}={value!r}' for key, value in call[1].items())})"


def lfm2(calls: Sequence[Call]) -> str:
    return f"<|tool_call_start|>[{', '.join(map(_python, calls))}]<|tool_call_end|>"


def olmo3(calls: Sequence[Call]) -> str:
    lines = "\n".join(map(_python, calls))
    return f"<function_calls>\n{lines}\n</function_calls>"


THINK = "<think></think>"
FAMILIES: dict[str, tuple[OutputFormat, Callable[[Sequence[Call]], str]]] = {
    "hermes": (output_format(THINK + "<tool_call>"), hermes),
    "qwen3-coder": (output_format("", parser="qwen3-coder"), qwen_xml),
    "glm": (output_format("<tool_call><arg_key>" + THINK), glm),
    "mistral-list": (output_format("[TOOL_CALLS]"), mistral_list),
    "mistral-named": (output_format("[TOOL_CALLS][ARGS][THINK][/THINK]"), mistral_named),
    "llama3": (output_format("<|python_tag|>"), llama3),
    "llama3-tag": (output_format("<function="), llama3_tag),
    "bare": (output_format("{{ .Tools }}", tool_tag="{"), bare),
    "deepseek": (output_format("<｜tool▁call▁begin｜>" + THINK), deepseek),
    "deepseek-r1": (output_format("<｜tool▁call▁begin｜>```json" + THINK), deepseek_r1),
    "deepseek-v3.2": (output_format("<｜DSML｜function_calls>" + THINK), deepseek_v32),
    "harmony": (output_format("", parser="harmony"), harmony),
    "kimi": (output_format("<|tool_call_begin|>" + THINK), kimi),
    "minimax": (output_format("<minimax:tool_call>" + THINK), minimax),
    "command": (output_format("<|START_ACTION|>"), command),
    "nemotron": (output_format("<TOOLCALL>" + THINK), nemotron),
    "granite": (output_format("<|tool_call|>"), granite),
    "phi4": (output_format("functools"), phi4),
    "lfm2": (output_format("<|tool_call_start|>"), lfm2),
    "olmo3": (output_format("<function_calls>" + THINK), olmo3),
    "go-tag": (
        output_format("", tool_tag="<functioncall>"),
        lambda calls: "\n".join(f"<functioncall>{as_json(c)}</functioncall>" for c in calls),
    ),
}
PYTHON = ("lfm2", "olmo3")
# Those that have no grammar: what Python spells a value as is not one thing.
UNHELD = (*PYTHON, "deepseek-v3.2")
