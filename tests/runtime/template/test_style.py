"""Jinja templates get calls and their results in the form that they ask for."""

from __future__ import annotations

import pytest
from support.prompts import Header, spec

from pannier.runtime.messages import Message, ToolCall
from pannier.runtime.prompt import PromptBuilder

OBJECT = """{% for m in messages %}{% for c in m.tool_calls or [] %}<call>{{ c.function.name }}
{%- for key, value in c.function.arguments.items() %} {{ key }}={{ value }}{% endfor %}{% endfor %}
{%- if m.role != 'assistant' %}<{{ m.role }}>{{ m.content }}{% endif %}{% endfor %}"""
JSON = """{% for m in messages %}{% if m.tool_calls %}{% for c in m.tool_calls -%}
{{ '<call>' + c.function.name + ' ' + c.function.arguments }}{% endfor %}{% endif %}
{%- if m.role != 'assistant' %}<{{ m.role }}>{{ m.content }}{% endif %}{% endfor %}"""
NONE = """{% for m in messages %}{% if m.role == 'assistant' and m.content is none -%}
{% for c in m.tool_calls %}{{ '<call>' + c.function.name + ' ' + c.function.arguments }}{% endfor %}
{%- else %}<{{ m.role }}>{{ m.content }}{% endif %}{% endfor %}"""
SHORT = """{% for m in messages %}{% for c in m.tool_calls or [] -%}
{% if c.id | length != 9 %}{{ raise_exception('nine!') }}{% endif -%}
<call>{{ c.function.name }} {{ c.function.arguments | tojson }} {{ c.id }}{% endfor -%}
{% if m.role == 'tool' -%}
{% if m.tool_call_id | length != 9 %}{{ raise_exception('nine!') }}{% endif -%}
<tool {{ m.tool_call_id }}>{{ m.content }}{% elif m.role == 'user' %}<user>{{ m.content }}
{%- endif %}{% endfor %}"""


ONE = """{% for m in messages %}{% if m.content and m.thinking and m.tool_calls -%}
{{ raise_exception('either!') }}{% endif %}<{{ m.role }}>{{ m.thinking }}{{ m.content }}
{%- for c in m.tool_calls or [] %}<call>{{ c.function.arguments }}{% endfor %}{% endfor %}"""


def prompt(template: str, first: str = "", second: str = "") -> str:
    builder = PromptBuilder.for_model(spec(), Header({"tokenizer.chat_template": template}))
    calls = (ToolCall("sky", {"city": "Oslo é"}, first), ToolCall("sea", {}, second))
    turns = [
        Message("user", "Hi"),
        Message("assistant", "", tool_calls=calls),
        Message("tool", "blue", tool_name="sky", tool_call_id=first),
        Message("tool", "calm", tool_name="sea", tool_call_id=second),
    ]
    return builder.chat(turns).text


@pytest.mark.parametrize(
    ("template", "calls"),
    [
        (OBJECT, "<call>sky city=Oslo é<call>sea"),
        (JSON, '<call>sky {"city": "Oslo é"}<call>sea {}'),
        (NONE, '<call>sky {"city": "Oslo é"}<call>sea {}'),
    ],
)
def test_arguments_are_what_the_template_takes(template: str, calls: str) -> None:
    assert prompt(template) == f"<user>Hi{calls}<tool>blue<tool>calm"


def test_ids_are_shortened_where_the_template_counts_their_letters() -> None:
    text = prompt(SHORT, "call_k2x9p0qa", "call-7")
    assert '<call>sky {"city": "Oslo é"} lk2x9p0qa<call>sea {} 0000call7' in text
    assert text.endswith("<tool lk2x9p0qa>blue<tool 0000call7>calm")


def test_calls_without_ids_get_some_where_the_template_wants_them() -> None:
    text = prompt(SHORT)
    assert text.endswith("<call>sea {} 000000001<tool 000000000>blue<tool 000000001>calm")


def test_reasoning_goes_where_a_template_wants_no_content_beside_it() -> None:
    builder = PromptBuilder.for_model(spec(), Header({"tokenizer.chat_template": ONE}))
    calls = (ToolCall("sky", {}),)
    for content, shown in (("said", "said"), ("", "thought")):
        turn = Message("assistant", content, thinking="thought", tool_calls=calls)
        turns = [Message("user", "Hi"), turn, Message("tool", "blue")]
        assert builder.chat(turns).text == f"<user>Hi<assistant>{shown}<call>{{}}<tool>blue"
