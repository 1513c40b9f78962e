"""Jinja chat templates in the styles of well-known families, from the conversation to the prompt.

The goldens were written by this engine and agree with what Transformers 5 renders from the same
names; `pytest --update-golden` writes them anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from support.chatformats import FAMILIES
from support.prompts import Header, spec

from pannier.runtime.errors import TemplateError
from pannier.runtime.messages import Message, ToolCall
from pannier.runtime.prompt import ChatPrompt, PromptBuilder
from pannier.runtime.template.pool import RenderPool

GOLDEN = Path(__file__).parents[2] / "golden" / "templates" / "jinja.json"
SYSTEM, ASK = Message("system", "Be <brief>."), Message("user", "Hi")
REPLY, AGAIN = Message("assistant", "Hello."), Message("user", "é😀 Bye")
CALL = ToolCall("time", MappingProxyType({"zone": "UTC", "at": {"b": 1, "a": None}}), "call_1")
RESULT = Message("tool", '{"now": "<12:00>"}', tool_name="time", tool_call_id="call_1")
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "time",
        "description": "What time it is & where",
        "parameters": {
            "type": "object",
            "required": ["zone"],
            "properties": {"zone": {"type": "string"}, "at": {"type": "object"}},
        },
    },
}
CONVERSATIONS: dict[str, list[Message]] = {
    "one question": [ASK],
    "system": [SYSTEM, ASK],
    "several turns": [ASK, REPLY, AGAIN],
    "tools": [ASK],
    "tool results": [ASK, Message("assistant", tool_calls=(CALL,)), RESULT],
    "thinking": [ASK, Message("assistant", "Hello.", thinking="They\ngreet."), AGAIN],
    "thinking in text": [ASK, Message("assistant", "<think>\nhm\n</think>\n\nHello."), AGAIN],
    "no thinking": [ASK],
    "prefill": [ASK, Message("assistant", "Hel")],
    "two users": [ASK, AGAIN],
    "tool result without a call": [ASK, RESULT],
    "assistant first": [REPLY, ASK],
}


@pytest.fixture(scope="module")
def pool() -> Iterator[RenderPool]:
    pool = RenderPool()
    yield pool
    pool.close()


def builder(family: str, pool: RenderPool) -> PromptBuilder:
    source, control = FAMILIES[family]
    tokens = ["<pad>", *control, "plain"]
    metadata: dict[str, Any] = {
        "tokenizer.chat_template": source,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3] * (len(tokens) - 1) + [1],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
    now = datetime(2026, 1, 2)
    return PromptBuilder.for_model(spec(), Header(metadata), pool=pool, now=lambda: now)


def text_or_refusal(family: str, conversation: str, pool: RenderPool) -> str:
    made = builder(family, pool)
    tools = [TOOL] if conversation.startswith("tool") and "tools" in made.capabilities else []
    think = False if conversation == "no thinking" else None
    try:
        return made.chat(CONVERSATIONS[conversation], tools=tools, think=think).text
    except TemplateError as error:
        return f"refused: {error.reason}"


def test_each_family_writes_the_golden_prompts(
    request: pytest.FixtureRequest, pool: RenderPool
) -> None:
    prompts = {
        family: {key: text_or_refusal(family, key, pool) for key in CONVERSATIONS}
        for family in FAMILIES
    }
    if request.config.getoption("--update-golden"):
        GOLDEN.write_text(json.dumps(prompts, indent=1, ensure_ascii=False) + "\n")
    assert prompts == json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("family", FAMILIES)
def test_what_clients_send_never_becomes_a_control_token(family: str, pool: RenderPool) -> None:
    _, control = FAMILIES[family]
    attack = "".join(f"x{mark}{mark[:-1]} {mark}" for mark in control)
    made = builder(family, pool)

    def conversation(text: str) -> ChatPrompt:
        call = ToolCall(f"f{text}", MappingProxyType({f"k{text}": [text]}), f"id{text}")
        system = [Message("system", text)] if family != "gemma2" else []
        turns = [*system, Message("user", text)]
        if "tools" in made.capabilities:
            turns += [Message("assistant", tool_calls=(call,)), Message("tool", text)]
        tool = {**TOOL, "function": {**TOOL["function"], "description": text}}
        return made.chat(turns, tools=[tool] if "tools" in made.capabilities else [])

    def specials(prompt: ChatPrompt) -> list[int]:
        text = "\0".join(part.text for part in prompt.segments if part.special)
        return [text.count(mark) for mark in control if mark not in ("<think>", "</think>")]

    honest, attacked = conversation("t"), conversation(attack)
    assert specials(attacked) == specials(honest)
    assert attack in attacked.text
