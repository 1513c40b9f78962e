"""Which template makes the prompt, and the prompts that are no plain conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from support.prompts import Header, spec

from pannier.runtime.demands import constraint_for
from pannier.runtime.errors import TemplateError, UnsupportedRequest
from pannier.runtime.messages import Message
from pannier.runtime.parsers.output import join
from pannier.runtime.prompt import PromptBuilder
from pannier.runtime.request import Segment
from pannier.runtime.template.choice import Engine, Preference

GO = "{{ range .Messages }}[{{ .Role }}]{{ .Content }}{{ end }}[assistant]"
GO_TOOLS = "{{ .Tools }}" + GO
GO_ROUND = (
    '{{ .Tools }}{{ range .Messages }}{{ if eq .Role "tool" }}{{ end }}{{ .ToolCalls }}{{ end }}'
)
JINJA = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
JINJA_TOOLS = "{{ tools }}" + JINJA
JINJA_ROUND = "{{ tools }}{% if m.role == 'tool' %}{{ m.tool_calls }}{% endif %}" + JINJA
USER = Message("user", "u")


def builder(
    go: str | None = None,
    jinja: str = "",
    *,
    preference: Preference = Preference.AUTO,
    **settings: Any,
) -> PromptBuilder:
    metadata: dict[str, Any] = {"tokenizer.chat_template": jinja} if jinja else {}
    return PromptBuilder.for_model(
        spec(template=go, settings=settings), Header(metadata), preference=preference
    )


@pytest.mark.parametrize(
    ("go", "jinja", "engine"),
    [
        (None, "", Engine.PLAIN),
        (GO, "", Engine.GO),
        (None, JINJA, Engine.JINJA),
        (GO, JINJA, Engine.GO),
        (GO, JINJA_TOOLS, Engine.JINJA),
        (GO_TOOLS, JINJA_TOOLS, Engine.GO),
        (GO_TOOLS, JINJA_ROUND, Engine.JINJA),
        (GO_ROUND, JINJA_ROUND, Engine.GO),
        (GO_TOOLS, JINJA, Engine.GO),
    ],
)
def test_the_go_template_goes_first_unless_jinja_can_do_more(
    go: str | None, jinja: str, engine: Engine
) -> None:
    assert builder(go, jinja).choice.engine is engine


def test_the_user_can_choose_the_engine() -> None:
    assert builder(GO, JINJA_TOOLS, preference=Preference.GO).choice.engine is Engine.GO
    assert builder(GO, JINJA, preference=Preference.JINJA).choice.engine is Engine.JINJA
    assert builder(GO, preference=Preference.JINJA).choice.engine is Engine.GO


def test_an_unknown_renderer_falls_back_to_jinja_and_says_so() -> None:
    made = builder(GO, JINJA, renderer="qwen3-coder")
    assert made.choice.engine is Engine.JINJA
    assert "'qwen3-coder' is not built in" in made.choice.warning


def test_a_broken_go_template_yields_to_jinja_or_is_an_error_when_used() -> None:
    assert builder("{{ if }}", JINJA).chat([USER]).text == "<user>u"
    assert "missing value" in builder("{{ if }}", JINJA).choice.warning
    broken = builder("{{ if }}")
    with pytest.raises(TemplateError, match="missing value"):
        broken.chat([USER])


def test_a_template_in_the_request_replaces_the_models() -> None:
    assert builder(GO).generate("p", template="<{{ .Prompt }}>").text == "<p>"
    with pytest.raises(TemplateError, match="line 1, column"):
        builder(GO).generate("p", template="{{ nope }}")


def test_control_tokens_in_user_text_stay_text_in_go_templates() -> None:
    prompt = builder("{{ .Prompt }}<|im_end|>").generate("a<|im_end|>")
    assert prompt.segments == (
        Segment("a"),
        Segment("<|im_end|>", special=False),
        Segment("<|im_end|>"),
    )


def test_a_gap_is_filled_by_the_template_or_by_the_models_tokens() -> None:
    by_template = builder("{{ if .Suffix }}<P>{{ .Prompt }}<S>{{ .Suffix }}<M>{{ end }}")
    assert by_template.generate("a", suffix="b").text == "<P>a<S>b<M>"
    assert "insert" in by_template.capabilities
    tokens = ["x", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
    metadata = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": [1, 3, 3, 3]}
    by_tokens = PromptBuilder.for_model(spec(), Header(metadata))
    prompt = by_tokens.generate("a", suffix="<|fim_middle|>")
    assert prompt.text == "<|fim_prefix|>a<|fim_suffix|><|fim_middle|><|fim_middle|>"
    assert Segment("<|fim_middle|>", special=False) in prompt.segments
    with pytest.raises(UnsupportedRequest, match="insert"):
        builder(GO).generate("a", suffix="b")


THINKER = (
    "{{ range .Messages }}{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}"
    "[{{ .Role }}]{{ .Content }}{{ end }}{{ if not .Think }}off{{ end }}"
)


def test_a_model_that_can_think_does_unless_told_otherwise() -> None:
    thinker = builder(THINKER)
    assert thinker.capabilities == ("completion", "thinking")
    on, off = thinker.chat([USER]), thinker.chat([USER], think=False)
    assert (on.text, off.text) == ("[user]u", "[user]uoff")
    output = on.parser().feed("<think>a</think>b")
    assert [(o.thinking, o.content) for o in output] == [("a", ""), ("", "b")]
    assert off.parser().feed("<think>a")[0].content == "<think>a"


def test_old_reasoning_is_left_out_for_qwen3() -> None:
    made = PromptBuilder.for_model(spec(template=THINKER), Header({}, "qwen3"))
    turns = [USER, Message("assistant", "<think>old</think>\nyes"), USER]
    assert made.chat(turns).text == "[user]u[assistant]yes[user]u"


class CharacterFit:
    """One token for each character."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.sure = 0

    def limit(self) -> int:
        return self._limit

    def count(self, segments: Sequence[Segment]) -> int:
        return sum(len(segment.text) for segment in segments if segment.image is None)

    def count_images(self, images: Sequence[bytes]) -> int:
        return sum(map(len, images))


def turns(count: int) -> list[Message]:
    roles = ("user", "assistant")
    return [Message("system", "S"), *(Message(roles[i % 2], str(i) * 5) for i in range(count))]


@pytest.mark.parametrize("limit", range(20, 140, 7))
def test_the_oldest_messages_go_first(limit: int) -> None:
    made = builder("{{ range .Messages }}{{ .Content }},{{ end }}")
    prompt = made.chat(turns(9), fit=CharacterFit(limit))
    whole = "S,00000,11111,22222,33333,44444,55555,66666,77777,88888,"
    room = (limit - 2) // 6
    expected = "S," + "".join(f"{str(i) * 5}," for i in range(9 - min(9, max(1, room)), 9))
    assert prompt.text == expected
    if expected == whole:
        assert prompt.trimmed is None
    else:
        assert prompt.trimmed is not None
        assert prompt.trimmed.messages == 9 - min(9, room)
        assert prompt.trimmed.tokens == len(whole) - len(expected)


def test_system_and_last_message_stay_even_where_they_do_not_fit() -> None:
    made = builder("{{ range .Messages }}{{ .Content }},{{ end }}")
    assert made.chat(turns(5), fit=CharacterFit(3)).text == "S,44444,"


def test_a_template_that_refuses_some_beginnings_is_trimmed_past_them() -> None:
    strict = (
        "{% for m in messages if m.role != 'system' %}{% if loop.first and m.role != 'user' %}"
        "{{ raise_exception('user first') }}{% endif %}{{ m.content }},{% endfor %}"
    )
    made = builder(None, strict)
    for limit in range(6, 54):
        # With the limit's last position free, as many turns as begin with a user's.
        room = next(count for count in (9, 7, 5, 3, 1) if count == 1 or 6 * count <= limit)
        expected = "".join(f"{str(i) * 5}," for i in range(9 - room, 9))
        assert made.chat(turns(9), fit=CharacterFit(limit)).text == expected, limit


def test_reasoning_that_a_template_begins_unasked_is_parted_from_the_answer() -> None:
    always = builder(jinja=JINJA + "<think>\n{# </think> #}")
    prompt = always.chat([USER], think=False)
    parser = prompt.parser()
    output = join(parser.feed("hm</think>\n\nyes") + parser.finish())
    assert (output.thinking, output.content) == ("hm", "yes")
    constraint = constraint_for(prompt, form="json")
    assert constraint is not None
    assert constraint.is_open
