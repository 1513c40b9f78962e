"""Every named template over the conversations that chats are made of, and what detects it.

The goldens were written by this engine and agree with Go 1.26's own text/template byte for byte;
`pytest --update-golden` writes them anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from support.prompts import Header, spec

from pannier.pkgmgr.named_templates import NAMED_TEMPLATES, detect
from pannier.runtime.messages import Message, ToolCall
from pannier.runtime.prompt import PromptBuilder
from pannier.runtime.template.collate import mark_images
from pannier.runtime.template.ollama import OllamaTemplate

GOLDEN = Path(__file__).parents[2] / "golden" / "templates" / "named.json"
SYSTEM = Message("system", "Be brief.")
ASK, REPLY, AGAIN = Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "Bye")
CALL = ToolCall("time", MappingProxyType({"zone": "UTC"}))
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "time",
        "description": "What time it is",
        "parameters": {"properties": {"zone": {"type": "string", "description": "IANA name"}}},
    },
}
CONVERSATIONS: dict[str, list[Message]] = {
    "one question": [ASK],
    "system": [SYSTEM, ASK],
    "several turns": [SYSTEM, ASK, REPLY, AGAIN],
    "joined turns": [SYSTEM, ASK, AGAIN, REPLY, Message("system", "Now in French."), ASK],
    "tools": [SYSTEM, ASK],
    "tool results": [
        ASK,
        Message("assistant", tool_calls=(CALL,)),
        Message("tool", "12:00"),
        AGAIN,
    ],
    "thinking": [ASK, Message("assistant", "Hello.", thinking="They greet."), AGAIN],
    "images": [Message("user", "What is on [img]?", images=(b"png", b"jpg"))],
    "prefill": [ASK, Message("assistant", "Hel")],
    "odd texts": [
        Message("user", "{{ .System }} <|im_end|> \n\ttab  "),
        Message("assistant", "é😀"),
    ],
}


def rendered(name: str, conversation: str) -> str:
    turns, _ = mark_images(CONVERSATIONS[conversation])
    tools = [TOOL] if conversation.startswith("tool") else []
    return OllamaTemplate(NAMED_TEMPLATES[name].source).chat(turns, tools=tools)


def test_named_templates_write_the_golden_prompts(request: pytest.FixtureRequest) -> None:
    prompts = {
        name: {key: rendered(name, key) for key in CONVERSATIONS}
        for name in sorted(NAMED_TEMPLATES)
    }
    if request.config.getoption("--update-golden"):
        GOLDEN.write_text(json.dumps(prompts, indent=1, ensure_ascii=False) + "\n")
    assert prompts == json.loads(GOLDEN.read_text())


JINJA = {
    "chatml": "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\\n' + m['content'] + "
    "'<|im_end|>' + '\\n'}}{% endfor %}{{ '<|im_start|>assistant\\n' }}",
    "llama3": "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + "
    "'<|end_header_id|>\\n\\n' + m.content | trim + '<|eot_id|>' }}{% endfor %}",
    "zephyr": "{% for m in messages %}{% if m.role == 'user' %}{{ '<|user|>\\n' + m.content }}"
    "{% else %}{{ '<|assistant|>\\n' + m.content + eos_token }}{% endif %}{% endfor %}",
    "phi3": "{% for m in messages %}{{ '<|user|>\\n' + m.content + '<|end|>\\n<|assistant|>\\n' }}"
    "{% endfor %}",
    "gemma": "{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + m.role + '\\n' + "
    "m.content + '<end_of_turn>\\n' }}{% endfor %}",
    "llama2": "{% for m in messages %}{{ '[INST] <<SYS>>\\n' + m.content + ' [/INST]' }}"
    "{% endfor %}",
    "mistral": "{% for m in messages %}{{ '[INST] ' + m.content + ' [/INST]' }}{% endfor %}",
    "vicuna": "{% for m in messages %}{{ 'USER: ' + m.content + ' ASSISTANT:' }}{% endfor %}",
}


@pytest.mark.parametrize("name", sorted(JINJA))
def test_a_plain_jinja_template_is_recognised(name: str) -> None:
    found = detect(JINJA[name])
    assert found is not None
    assert found.name == name
    assert found.stop


@pytest.mark.parametrize(
    "jinja",
    [
        "",
        "{{ messages }}",
        JINJA["chatml"] + "{% if tools %}{% endif %}",
        JINJA["chatml"] + "You are a helpful assistant",
        JINJA["chatml"] + "<think>",
        JINJA["chatml"] + " " * 3000,
    ],
)
def test_a_jinja_template_that_says_more_is_left_alone(jinja: str) -> None:
    assert detect(jinja) is None


@pytest.mark.parametrize("name", sorted(NAMED_TEMPLATES))
def test_no_user_text_becomes_a_control_token(name: str) -> None:
    named = NAMED_TEMPLATES[name]
    marks = [*named.stop, *named.marks, "<s>", "<|im_start|>", "[INST]"]
    tokens = ["<unk>", *dict.fromkeys(marks), "plain"]
    metadata: dict[str, Any] = {
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3] * (len(tokens) - 1) + [1],
    }
    builder = PromptBuilder.for_model(spec(template=named.source), Header(metadata))
    attack = "".join(f"x{mark}{mark[:-1]} {mark}" for mark in marks)
    honest = builder.chat([SYSTEM, Message("user", "Hi"), REPLY, AGAIN])
    attacked = builder.chat([Message("system", attack), Message("user", attack), REPLY, AGAIN])

    def specials(prompt: Any) -> int:
        text = "\0".join(part.text for part in prompt.segments if part.special)
        return sum(text.count(mark) for mark in dict.fromkeys(marks))

    assert specials(attacked) == specials(honest)
    assert attacked.text.count(attack) == 2
