"""Go templates as Ollama fills them.

golden/templates/ollama.jsonl and tags.jsonl were made by the `template`, `thinking` and `tools`
packages of Ollama 0.32.0 from templates, conversations and tools composed at random.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from pannier.runtime.errors import TemplateError
from pannier.runtime.messages import Message, ToolCall
from pannier.runtime.template.collate import collate, mark_images
from pannier.runtime.template.ollama import OllamaTemplate

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "now & here",
        "parameters": {
            "type": "object",
            "required": ["city"],
            "properties": {
                "unit": {"type": ["string", "null"], "enum": ["c", "f"]},
                "city": {"type": "string", "description": "<name>"},
                "days": {"anyOf": [{"type": "integer"}, {"type": "array"}]},
            },
        },
    },
}
# The one line that a plain {{ .Tools }} must print: struct fields in order, map keys sorted.
TOOL_JSON = (
    '[{"type":"function","function":{"name":"weather","description":"now \\u0026 here",'
    '"parameters":{"type":"object","required":["city"],"properties":{"city":{"type":"string",'
    '"description":"\\u003cname\\u003e"},"days":{"anyOf":[{"type":"integer"},{"type":"array"}]},'
    '"unit":{"type":["string","null"],"enum":["c","f"]}}}}}]'
)
USER = Message("user", "u")
GOLDEN = Path(__file__).parents[2] / "golden" / "templates"


def vectors(name: str) -> Iterator[dict[str, Any]]:
    with (GOLDEN / name).open() as lines:
        yield from map(json.loads, lines)


def message(wire: dict[str, Any]) -> Message:
    calls = tuple(
        ToolCall(call["function"]["name"], call["function"]["arguments"], call["id"], number)
        for number, call in enumerate(wire.get("tool_calls", ()))
    )
    return Message(
        wire["role"],
        wire["content"],
        wire.get("thinking", ""),
        (b"x",) * len(wire.get("images", ())),
        calls,
        wire.get("tool_name", ""),
        wire.get("tool_call_id", ""),
    )


def test_every_conversation_gives_the_bytes_that_ollama_gives() -> None:
    wrong = []
    for vector in vectors("ollama.jsonl"):
        template = OllamaTemplate(vector["template"])
        if vector["suffix"]:
            made = template.insert(vector["prompt"], vector["suffix"], think=vector["think"])
        else:
            turns = [message(wire) for wire in vector["messages"]]
            made = template.chat(turns, tools=vector["tools"], think=vector["think"])
        if made != vector["out"]:
            wrong.append((vector, made))
    assert wrong == []


def test_tags_are_found_where_ollama_finds_them() -> None:
    wrong = []
    for vector in vectors("tags.jsonl"):
        template = OllamaTemplate(vector["template"])
        thinking = template.thinking_tags
        found = {"thinking": thinking and list(thinking), "tool": template.tool_tag}
        if found != {"thinking": vector["thinking"], "tool": vector["tool"]}:
            wrong.append((vector, found))
    assert wrong == []


def chat(source: str, messages: list[Message], **more: Any) -> str:
    return OllamaTemplate(source).chat(messages, **more)


def test_tools_print_as_compact_json() -> None:
    assert chat("{{ .Tools }}{{ .Messages | len }}", [USER], tools=[TOOL]) == TOOL_JSON + "1"
    assert chat("{{ json .Tools }}{{ .Messages | len }}", [USER], tools=[TOOL]) == TOOL_JSON + "1"
    assert chat("{{ .Tools }}{{ .Messages | len }}", [USER]) == "null1"


def test_tools_can_be_walked_in_sorted_order() -> None:
    source = (
        "{{ range .Tools }}{{ range $n, $p := .Function.Parameters.Properties }}"
        "{{ $n }}:{{ toTypeScriptType $p }}:{{ $p.Type }};{{ end }}{{ end }}{{ .Messages | len }}"
    )
    expected = "city:string:string;days:number | any[]:;unit:string | null:[string null];1"
    assert chat(source, [USER], tools=[TOOL]) == expected


def test_tool_calls_print_their_arguments_as_json() -> None:
    call = ToolCall("weather", MappingProxyType({"city": "<b>", "a": 1}), id="call_1")
    source = (
        "{{ range .Messages }}{{ range .ToolCalls }}{{ .ID }} {{ .Function.Name }} "
        "{{ .Function.Arguments }} {{ json . }}{{ end }}{{ end }}"
    )
    assert chat(source, [Message("assistant", tool_calls=(call,))]) == (
        'call_1 weather {"a":1,"city":"\\u003cb\\u003e"} {"ID":"call_1","Function":'
        '{"Index":0,"Name":"weather","Arguments":{"a":1,"city":"\\u003cb\\u003e"}}}'
    )


def test_neighbours_of_one_role_are_joined_but_tool_results_are_not() -> None:
    turns = [Message("system", "a"), Message("user", "b"), Message("user", "c")]
    turns += [Message("tool", "d"), Message("tool", "e"), Message("system", "f")]
    system, joined = collate(turns)
    assert system == "a\n\nf"
    assert [turn.content for turn in joined] == ["a", "b\n\nc", "d", "e", "f"]


def test_images_are_numbered_through_the_conversation() -> None:
    turns = [Message("user", "see [img] and", images=(b"1", b"2")), Message("user", "x")]
    marked, images = mark_images([*turns, Message("user", "y", images=(b"3",))])
    assert [turn.content for turn in marked] == ["[img-1]see [img-0] and", "x", "[img-2]y"]
    assert images == (b"1", b"2", b"3")


LEGACY = (
    "{{ if .System }}S:{{ .System }} {{ end }}{{ if .Prompt }}U:{{ .Prompt }} {{ end }}"
    "A:{{ .Response }}."
)


def test_an_old_template_is_filled_turn_by_turn_and_cut_at_the_response() -> None:
    turns = [Message("system", "s"), USER, Message("assistant", "a"), Message("user", "v")]
    assert chat(LEGACY, turns) == "S:s U:u A:a.U:v A:"
    assert chat(LEGACY, [USER, Message("assistant", "pre")]) == "U:u A:pre"
    assert chat("{{ .Prompt }}", [USER]) == "u"


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        ("{{ .Response }} tail", "Ua"),
        ('{{ printf "<%s>" .Response }} tail', "U<a>"),
        ("{{ .Response | len }} tail", "U"),
        ("{{ (print .Response `!`) }} tail", "Ua"),
        ("{{ if .Response }}{{ .Response }} more{{ end }} tail", "Ua"),
        ("{{ $.Response }} tail", "Ua tail"),
    ],
)
def test_nothing_stands_after_the_response_of_the_last_turn(ending: str, expected: str) -> None:
    assert chat("U" + ending, [USER, Message("assistant", "a")]) == expected


def test_what_a_template_lacks_prints_as_go_prints_it() -> None:
    assert (
        chat("{{ .Prompt }}{{ range .Messages }}{{ .Role }}{{ end }}", [USER]) == "<no value>user"
    )


def test_an_absent_field_of_a_message_is_an_error() -> None:
    with pytest.raises(TemplateError, match="Nope"):
        chat("{{ range .Messages }}{{ .Nope }}{{ end }}", [USER])


def test_a_gap_is_filled_by_prompt_and_suffix() -> None:
    template = OllamaTemplate("{{ if .Suffix }}<P>{{ .Prompt }}<S>{{ .Suffix }}{{ end }}")
    assert template.insert("a", "b") == "<P>a<S>b"
    assert "suffix" in template.identifiers


def test_thinking_is_told_to_the_template() -> None:
    source = "{{ if .IsThinkSet }}{{ .Think }}{{ .ThinkLevel }}{{ end }}{{ .Messages | len }}"
    assert chat(source, [USER]) == "1"
    assert chat(source, [USER], think=False) == "false1"
    assert chat(source, [USER], think="high") == "truehigh1"
    assert chat(source, [USER], think=True) == "truemedium1"


THOUGHT = "{{ if .Thinking }}\n<think>{{ .Thinking }}</think>\n{{ end }}"
THROUGH_A_VARIABLE = "{{ with $m.Thinking }}<think>{{ $m.Thinking }}</think>{{ end }}"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ range .Messages }}" + THOUGHT + "{{ end }}", ("<think>", "</think>")),
        ("{{ range .Messages }}a" + THOUGHT + "b{{ end }}", ("<think>", "</think>")),
        (
            "{{ range $i, $m := .Messages }}" + THROUGH_A_VARIABLE + "{{ end }}",
            ("<think>", "</think>"),
        ),
        ("{{ range .Messages }}{{ .Content }}{{ end }}", None),
        (THOUGHT, None),
    ],
)
def test_thinking_tags_are_read_off_the_tree(source: str, expected: tuple[str, str] | None) -> None:
    assert OllamaTemplate(source).thinking_tags == expected


@pytest.mark.parametrize(
    ("source", "tag"),
    [
        ("{{ range .Messages }}{{ if .ToolCalls }}<tool_call>\n{{ end }}{{ end }}", "<tool_call>"),
        ('{{ if .ToolCalls }}[TOOL_CALLS] [{"name": {{ end }}', "[TOOL_CALLS] ["),
        ('{{ if .ToolCalls }}{{ range .ToolCalls }}\n{"name": 1}{{ end }}{{ end }}', "{"),
        ("{{ range .Messages }}{{ end }}", "{"),
        ("{{ if .ToolCalls }}{{ .Role }}<call>{{ end }}", "{"),
        ("{{ range $m := .Messages }}{{ if $m.ToolCalls }}<call>{{ end }}{{ end }}", "<call>"),
    ],
)
def test_the_tool_tag_is_read_off_the_tree(source: str, tag: str) -> None:
    assert OllamaTemplate(source).tool_tag == tag
