"""Where images stand in prompts, and what a client cannot make of their marks."""

from __future__ import annotations

import pytest
from support.prompts import Header, spec

from pannier.pkgmgr.descriptor import Descriptor
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.modelspec import Part, Role
from pannier.runtime.errors import UnsupportedRequest
from pannier.runtime.messages import Message
from pannier.runtime.prompt import PromptBuilder
from pannier.runtime.request import Segment

CHATML = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
# In the manner of SmolVLM: a plain string has no items of a type.
TYPED = (
    "{% for m in messages %}<{{ m.role }}>{% for line in m['content'] %}"
    "{% if line['type'] == 'text' %}{{ line['text'] }}{% elif line['type'] == 'image' %}<image>"
    "{% endif %}{% endfor %}{% endfor %}<assistant>"
)
# In the manner of Gemma 3: both forms are known.
EITHER = (
    "{% for m in messages %}<{{ m.role }}>{% if m.content is string %}{{ m.content }}"
    "{% else %}{% for line in m.content %}{{ line['type'] }}{% endfor %}{% endif %}{% endfor %}"
)


def builder(jinja: str, **changes: object) -> PromptBuilder:
    digest = Digest.of(b"projector")
    part = Part(Role.PROJECTOR, Descriptor("application/octet-stream", digest, 9))
    header = Header({"tokenizer.chat_template": jinja})
    return PromptBuilder.for_model(spec(parts=(part,), **changes), header)


def images(*segments: Segment) -> list[int | None]:
    return [segment.image for segment in segments if segment.image is not None]


def test_an_image_is_a_segment_of_its_own() -> None:
    prompt = builder(CHATML).chat([Message("user", "What?", images=(b"one", b"two"))])
    assert prompt.segments == (
        Segment("<user>"),
        Segment("[img-0]", image=0),
        Segment("[img-1]", image=1),
        Segment("What?<assistant>"),
    )
    assert prompt.images == (b"one", b"two")
    assert prompt.text == "<user>[img-0][img-1]What?<assistant>"


def test_a_mark_that_a_client_writes_is_text() -> None:
    turns = [Message("user", "[img-0] [img-1]", images=(b"one",)), Message("assistant", "[img-0]")]
    prompt = builder(CHATML).chat([*turns, Message("user", "[img-0]?")])
    assert images(*prompt.segments) == [0]
    assert prompt.text.count("[img-0]") == 4


def test_an_image_takes_the_place_that_is_kept_for_it() -> None:
    prompt = builder(CHATML).chat([Message("user", "Is [img] it?", images=(b"one",))])
    assert prompt.text == "<user>Is [img-0] it?<assistant>"
    assert images(*prompt.segments) == [0]


def test_go_templates_place_images_too() -> None:
    made = builder(CHATML, template="{{ range .Messages }}{{ .Content }};{{ end }}")
    prompt = made.chat([Message("user", "a", images=(b"1",)), Message("user", "b", images=(b"2",))])
    assert images(*prompt.segments) == [0, 1]


def test_templates_of_typed_parts_get_their_texts_as_parts() -> None:
    made = builder(TYPED)
    assert made.chat([Message("user", "Hi")]).text == "<user>Hi<assistant>"
    prompt = made.chat([Message("user", "What?", images=(b"one",))])
    assert prompt.text == "<user>[img-0]What?<assistant>"
    assert images(*prompt.segments) == [0]


@pytest.mark.parametrize("template", [CHATML, EITHER])
def test_templates_of_plain_texts_get_plain_texts(template: str) -> None:
    assert "<user>Hi" in builder(template).chat([Message("user", "Hi")]).text


def test_a_template_that_leaves_an_image_out_is_refused() -> None:
    made = builder("{{ messages[-1].content }}")
    turns = [Message("user", "a", images=(b"one",)), Message("user", "b")]
    with pytest.raises(UnsupportedRequest, match="leaves images out"):
        made.chat(turns)


def test_the_writer_of_a_raw_prompt_places_images() -> None:
    prompt = builder(CHATML).raw("A [img-1] and [img-0], not [img-2].", (b"one", b"two"))
    assert images(*prompt.segments) == [1, 0]
    assert prompt.text == "A [img-1] and [img-0], not [img-2]."


def test_a_raw_prompt_that_leaves_an_image_out_is_refused() -> None:
    with pytest.raises(UnsupportedRequest, match=r"\[img-1\]"):
        builder(CHATML).raw("A [img-0].", (b"one", b"two"))


def test_a_raw_prompt_without_images_is_left_as_it_is() -> None:
    assert builder(CHATML).raw("A [img-0].").segments == (Segment("A [img-0]."),)
