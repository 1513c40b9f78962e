"""How long a 20-message chat takes to render: Go and Jinja templates.

    python tests/bench/render.py

Prints milliseconds per rendering, best of several rounds, for one pass of everything that a request
goes through: shielding, collation, rendering, splitting; Jinja with its way to the child and back.
"""

from __future__ import annotations

import sys
import timeit
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.prompts import Header, spec

from pannier.pkgmgr.named_templates import NAMED_TEMPLATES
from pannier.runtime.messages import Message
from pannier.runtime.prompt import PromptBuilder

JINJA = """{%- for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}
{%- if message.tool_calls %}{% for call in message.tool_calls %}{{ call | tojson }}{% endfor %}
{%- endif %}{{ message['content'] + '<|im_end|>\\n' }}{% endfor %}<|im_start|>assistant
"""
ROUNDS, TIMES = 60, 5


def chat() -> list[Message]:
    """Twenty messages of about 60 words."""
    roles = ("user", "assistant")
    return [Message(roles[number % 2], f"{number} lorem ipsum " * 20) for number in range(20)]


def main() -> None:
    """Print one line per template."""
    turns = chat()
    jinja = Header({"tokenizer.chat_template": JINJA})
    builders = {
        "go chatml": PromptBuilder.for_model(
            spec(template=NAMED_TEMPLATES["chatml"].source), Header()
        ),
        "go command-r": PromptBuilder.for_model(
            spec(template=NAMED_TEMPLATES["command-r"].source), Header()
        ),
        "go gemma3": PromptBuilder.for_model(
            spec(template=NAMED_TEMPLATES["gemma3-instruct"].source), Header()
        ),
        "jinja chatml": PromptBuilder.for_model(spec(), jinja),
    }
    for name, builder in builders.items():
        builder.chat(turns)
        best = min(timeit.repeat(partial(builder.chat, turns), number=TIMES, repeat=ROUNDS))
        print(f"{name:14} {best / TIMES * 1000:.3f} ms per 20-message chat (bound: 1 ms)")


if __name__ == "__main__":
    main()
