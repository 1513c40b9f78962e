"""Every named template over the conversations that chats are made of, and what detects it.

The goldens were written by this engine and agree byte for byte with what Ollama 0.32.0 makes of its
own templates of these names; `pytest --update-golden` writes them anew.
"""

from __future__ import annotations

import json
import re
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


# What a Jinja template of each format writes within its loop over the messages.
LOOPS = {
    "alfred": "{{ '<start_user>' + m.content + '<end_message>' }}",
    "alpaca": "{{ '### Instruction:\\n' + m.content }}{{ '### Response:' }}",
    "chatml": "{{'<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' + '\\n'}}",
    "chatqa": "{{ 'User: ' + m.content + '\\n\\n' }}{{ 'Assistant: ' + m.content }}",
    "codellama-70b-instruct": "{{ 'Source: ' + m.role + m.content + ' <step> ' }}",
    "command-r": "{% if m.x %}{% elif false == true %}You are Command-R{% else %}{% endif %}"
    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{{ m.content }}",
    "falcon-instruct": "{{ 'User: ' + m.content + 'Falcon: ' }}",
    "gemma-instruct": "{{ '<start_of_turn>' + m.role + '\\n' + m.content + '<end_of_turn>\\n' }}",
    "gemma3-instruct": "{{ '<start_of_turn>' + first_user_prefix + m.content + '<end_of_turn>' }}",
    "granite-instruct": "{{ 'Question:\\n' + m.content + 'Answer:\\n' }}",
    "llama2-chat": "{{ '[INST] <<SYS>>\\n' + m.content + ' [/INST]' }}",
    "llama3-instruct": "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content "
    "+ '<|eot_id|>' }}",
    "magicoder": "@@ Instruction\n{{ m.content }}@@ Response\n",
    "mistral-instruct": "{{ '[INST] ' + m.content + ' [/INST]' }}",
    "openchat": "{{ 'GPT4 Correct User: ' + m.content + '<|end_of_turn|>' }}",
    "phi-3": "{{ '<|user|>\\n' + m.content + '<|end|>\\n<|assistant|>\\n' }}",
    "solar-instruct": "### User:\n{{ m.content }}### Assistant:\n",
    "starcoder2-instruct": "{{ '### Instruction\\n' + m.content }}{{ '### Response\\n' }}",
    "vicuna": "{{ 'USER: ' + m.content + ' ASSISTANT:' }}",
    "zephyr": "{{ '<|user|>\\n' + m.content + eos_token }}{{ '<|assistant|>\\n' + m.content }}",
}
JINJA = {
    name: f"{{{{ bos_token }}}}{{% for m in messages %}}{loop}{{% endfor %}}"
    for name, loop in LOOPS.items()
}


@pytest.mark.parametrize("name", sorted(NAMED_TEMPLATES))
def test_a_plain_jinja_template_is_recognised_however_it_is_spelled(name: str) -> None:
    jinja = JINJA[name]
    for spelled in (
        jinja,
        jinja.replace("m.content", "message['content']").replace("m.role", 'message["role"]'),
        jinja.replace("{%", "{%-").replace("\\n", "\n"),
        "{# a comment #}" + jinja.replace(" + ", "+").replace("m.content", "m['content'] | trim"),
    ):
        found = detect(spelled)
        assert found is not None
        assert found.name == name
        assert found.stop


TURN = "{{ '<|user|>\n' + m.content + '\n<|assistant|>\n' + m.content + eos_token }}"


@pytest.mark.parametrize(
    "jinja",
    [
        TURN,
        "[gMASK]<sop><|{{ m.role }}|>\n{{ m.content }}<|assistant|>",
        "<|im_start|>user<|im_sep|>{{ m.content }}<|im_end|>",
        "[INST]{{ m.content }}[/INST][SYSTEM_PROMPT]{{ m.content }}[/SYSTEM_PROMPT]",
        "<|start_of_role|>{{ m.role }}<|end_of_role|>{{ m.content }}<|end_of_text|>",
        "<｜User｜>{{ m.content }}<｜Assistant｜>{{ m.content }}<｜end▁of▁sentence｜>",
        "<|header_start|>{{ m.role }}<|header_end|>{{ m.content }}<|eot|>",
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_RESPONSE|>{{ m.content }}",
        "<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>",
    ],
)
def test_a_format_that_only_looks_like_one_of_them_is_not_mistaken_for_it(jinja: str) -> None:
    assert detect("{% for m in messages %}" + jinja + "{% endfor %}") is None


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


_MARKS = re.compile(r"<[^<>\s{}]+>|\[/?[A-Z]+\]")


@pytest.mark.parametrize("name", sorted(NAMED_TEMPLATES))
def test_no_user_text_becomes_a_control_token(name: str) -> None:
    named = NAMED_TEMPLATES[name]
    marks = [*named.stop, *_MARKS.findall(named.source), "<s>", "<|im_start|>", "[INST]"]
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
