from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pannier.runtime.parsers.choice import OutputFormat, output_format
from pannier.runtime.parsers.output import Output, join

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "integer"},
                    "tags": {"type": "array"},
                }
            },
        },
    }
    for name in ("weather", "time", "odd-näme.v2")
]
THINK = "<think></think>"
FORMATS: dict[str, OutputFormat] = {
    "plain": output_format("", parser="passthrough"),
    "thinking": output_format(THINK),
    "bare": output_format("{{ .Tools }}", tool_tag="{"),
    "hermes": output_format(THINK + "<tool_call>"),
    "qwen3-coder": output_format("", parser="qwen3-coder"),
    "glm": output_format("<tool_call><arg_key>" + THINK),
    "mistral": output_format("[TOOL_CALLS]"),
    "llama3": output_format("<|python_tag|>"),
    "deepseek": output_format("<｜tool▁call▁begin｜>" + THINK),
    "harmony": output_format("", parser="harmony"),
    "go-tag": output_format("", tool_tag="<functioncall>"),
    "go-word": output_format("", tool_tag="Action:"),
    "command": output_format("", parser="cohere"),
}


def parse(form: str, *pieces: str, prompt_end: str = "", tools: Any = TOOLS) -> Output:
    parser = FORMATS[form].parser(tools, prompt_end=prompt_end)
    outputs = [output for piece in pieces for output in parser.feed(piece)]
    return join(outputs + parser.finish())


def called(output: Output) -> list[tuple[str, Any]]:
    assert [call.index for call in output.tool_calls] == list(range(len(output.tool_calls)))
    return [(call.name, dict(call.arguments)) for call in output.tool_calls]


W = ("weather", {"city": "Oslo", "days": 2})
T: tuple[str, dict[str, Any]] = ("time", {})
J = '{"name": "weather", "arguments": {"city": "Oslo", "days": 2}}'
K = '{"name": "time", "arguments": {}}'
XML = (
    "<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n"
    "<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>"
)
GLM = (
    "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n"
    "<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>"
)
ARGS = '{"city": "Oslo", "days": 2}'
DEEP = "<｜tool▁call▁begin｜>{}<｜tool▁call▁end｜>"
DEEP_OLD = DEEP.format("function<｜tool▁sep｜>weather\n```json\n" + ARGS + "\n```")
DEEP_NEW = DEEP.format("weather<｜tool▁sep｜>" + ARGS)
HEAD = "<|start|>assistant<|channel|>"

CASES: list[tuple[str, str, str, str, list[tuple[str, Any]]]] = [
    # form, text, content, thinking, calls
    ("plain", "<think>x</think>", "<think>x</think>", "", []),
    ("command", "<|START_RESPONSE|>Hi <|END<|END_RESPONSE|>", "Hi <|END", "", []),
    ("command", "<|START_RESPONSE|>cut <|END_RESP", "cut <|END_RESP", "", []),
    ("thinking", " \n<think>\nhm\n</think>\n\nyes", "yes", "hm\n", []),
    ("thinking", "  no tags <think>", "  no tags <think>", "", []),
    ("thinking", "<think>cut off </thi", "", "cut off </thi", []),
    ("thinking", "<think></think>a</think>", "a</think>", "", []),
    ("bare", J, "", "", [W]),
    ("bare", f" \n{J}\n{K}", "", "", [W, T]),
    ("bare", f"{J}; {K}", "", "", [W, T]),
    ("bare", f"[{J}, {K}]", "", "", [W, T]),
    ("bare", '{"name": "weather", "parameters": ' + ARGS + "}", "", "", [W]),
    ("bare", '{"type":"function","function":' + J + "}", "", "", [W]),
    ("bare", '{"name": "weather", "arguments": ' + json.dumps(ARGS) + "}", "", "", [W]),
    ("bare", f"text {J}", f"text {J}", "", []),
    ("bare", '{"answer": 42} ok', '{"answer": 42} ok', "", []),
    ("bare", '{"name": "nope", "arguments": {}}', '{"name": "nope", "arguments": {}}', "", []),
    ("bare", '{"name": "time", ', '{"name": "time", ', "", []),
    ("bare", '{"name": "odd-näme.v2"}', "", "", [("odd-näme.v2", {})]),
    ("hermes", f"<tool_call>\n{J}\n</tool_call>", "", "", [W]),
    ("hermes", f"<think>a</think>Let me.\n<tool_call>{J}</tool_call>", "Let me.\n", "a", [W]),
    ("hermes", f"<tool_call>{J}</tool_call>\n<tool_call>{K}</tool_call>", "", "", [W, T]),
    ("hermes", f"<tool_call>\n{J}\n{K}\n</tool_call>", "", "", [W, T]),
    ("hermes", f"<tool_call>{J}", "", "", [W]),
    ("hermes", f"<tool_call>{J}</tool_call> done", "done", "", [W]),
    ("hermes", "a <tool_call>{'x': 1}</tool_call>", "a <tool_call>{'x': 1}</tool_call>", "", []),
    ("hermes", "a <tool_call>{not", "a <tool_call>{not", "", []),
    ("hermes", "1 < 2 <tool", "1 < 2 <tool", "", []),
    (
        "hermes",
        '<tool_call>{"name": "weather", "arguments": {"city": "\\"}</tool_call>"}}</tool_call>',
        "",
        "",
        [("weather", {"city": '"}</tool_call>'})],
    ),
    ("qwen3-coder", f"Sure.\n{XML}", "Sure.\n", "", [W]),
    ("qwen3-coder", f"{XML}\n{XML}", "", "", [W, W]),
    ("qwen3-coder", XML.removeprefix("<tool_call>\n"), "", "", [W]),
    ("qwen3-coder", XML.removesuffix("</tool_call>"), "", "", [W]),
    ("qwen3-coder", XML.replace("weather", "nope"), XML.replace("weather", "nope"), "", []),
    (
        "qwen3-coder",
        XML.replace("2", "[1, {").replace("days", "tags"),
        "",
        "",
        [("weather", {"city": "Oslo", "tags": "[1, {"})],
    ),
    ("glm", f"<think>x</think>{GLM}", "", "x", [W]),
    ("glm", "<tool_call>time\n</tool_call>", "", "", [T]),
    ("mistral", f"[TOOL_CALLS] [{J}]", "", "", [W]),
    ("mistral", f"[TOOL_CALLS]weather[ARGS]{ARGS}[TOOL_CALLS]time{{}}", "", "", [W, T]),
    ("mistral", f"[TOOL_CALLS]weather[CALL_ID]abc[ARGS]{ARGS}", "", "", [W]),
    ("mistral", "[TOOL_CALLS] nothing here", "[TOOL_CALLS] nothing here", "", []),
    ("llama3", f"<|python_tag|>{J}", "", "", [W]),
    ("llama3", f"<|python_tag|>{J}; {K}", "", "", [W, T]),
    ("llama3", '<|python_tag|>weather.call(city="Oslo", days=2)', "", "", [W]),
    ("llama3", "<|python_tag|>import os", "<|python_tag|>import os", "", []),
    ("deepseek", f"<｜tool▁calls▁begin｜>{DEEP_OLD}<｜tool▁calls▁end｜>", "", "", [W]),
    (
        "deepseek",
        f"a<｜tool▁calls▁begin｜>{DEEP_NEW}\n{DEEP_NEW}<｜tool▁calls▁end｜>",
        "a",
        "",
        [W, W],
    ),
    ("deepseek", "<｜tool▁call▁begin｜>junk<｜tool▁call▁end｜>", DEEP.format("junk"), "", []),
    (
        "harmony",
        "<|channel|>analysis<|message|>hm<|end|>" + HEAD + "final<|message|>hi<|return|>",
        "hi",
        "hm",
        [],
    ),
    (
        "harmony",
        "<|channel|>commentary to=functions.weather <|constrain|>json<|message|>"
        + ARGS
        + "<|call|>",
        "",
        "",
        [W],
    ),
    (
        "harmony",
        f"{HEAD[:-11]} to=functions.time<|channel|>commentary<|message|>{{}}<|call|>",
        "",
        "",
        [T],
    ),
    ("harmony", "<|channel|>commentary to=functions.time<|message|>oops<|call|>", "oops", "", []),
    ("harmony", "just text", "just text", "", []),
    ("harmony", "<b>html</b>", "<b>html</b>", "", []),
    ("harmony", "<|channel|>analysis<|message|>cut", "", "cut", []),
    ("go-tag", f"<functioncall>{J}</functioncall>", "", "", [W]),
    ("go-word", f"so Action: {J}", "so ", "", [W]),
]


@pytest.mark.parametrize(("form", "text", "content", "thinking", "calls"), CASES)
def test_each_format_is_understood(
    form: str, text: str, content: str, thinking: str, calls: list[tuple[str, Any]]
) -> None:
    output = parse(form, text)
    assert (output.content, output.thinking, called(output)) == (content, thinking, calls)
    by_character = parse(form, *text)
    assert by_character == output


MARKS = [
    *("<think>", "</think>", "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>"),
    *("<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"),
    *("<|channel|>", "<|message|>", "<|end|>", "<|call|>", "<|start|>", "analysis", "final"),
    *(" to=functions.time", "<function=time>", "</function>", "<parameter=city>", "</parameter>"),
    *("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "[ARGS]", "time", "weather"),
    *(J, K, ARGS, "{", "}", "[", "]", '"', "\\", ",", ";", " ", "\n", "<", "x", "Action:"),
    *("<functioncall>", "</functioncall>", "<｜tool▁calls▁end｜>", "```json", "```", "y(a=1)"),
]


@given(
    form=st.sampled_from(sorted(FORMATS)),
    parts=st.lists(st.sampled_from(MARKS), max_size=14),
    data=st.data(),
)
def test_any_split_gives_the_same_output(form: str, parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    whole = parse(form, text)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert parse(form, *pieces) == whole
    assert parse(form, *text) == whole


@given(form=st.sampled_from(sorted(FORMATS)), text=st.text(max_size=60))
def test_text_without_marks_goes_through_untouched(form: str, text: str) -> None:
    text = "a" + text.replace("<", "(")
    output = parse(form, text)
    assert (output.content, output.thinking, output.tool_calls) == (text, "", ())


def test_a_prompt_that_opens_the_thinking_is_known() -> None:
    output = parse("thinking", "hm</think>yes", prompt_end="assistant\n<think>\n")
    assert output == Output("yes", "hm")


def test_calls_are_text_where_no_tools_were_offered() -> None:
    assert parse("hermes", f"<tool_call>{J}", tools=()).content == f"<tool_call>{J}"


def test_long_arguments_are_read_in_linear_time() -> None:
    text = '{"name": "weather", "arguments": {"city": "' + "x" * 200_000 + '"}}'
    assert len(called(parse("bare", *text))[0][1]["city"]) == 200_000
