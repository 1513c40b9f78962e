"""Turns conversations into prompts, by the template that a model brings.

One `PromptBuilder` serves one model and any number of threads. It knows templates and messages,
not how they came in and not how tokens are made.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Protocol

from pannier.pkgmgr.modelspec import ModelSpec, Role

from .errors import TemplateError, UnsupportedRequest
from .messages import Message, Think
from .parsers.choice import OutputFormat, output_format
from .parsers.output import OutputParser
from .parsers.thinking import ThinkingParser
from .request import Segment
from .template.abilities import capabilities
from .template.choice import Engine, Preference, choose, go_abilities, jinja_abilities
from .template.collate import mark_images, placed_images
from .template.fim import GapMarks
from .template.jinjachat import client_texts, jinja_names, shielded
from .template.ollama import OllamaTemplate
from .template.pool import RenderPool, shared_pool
from .template.shield import ControlTokens, Shield
from .template.style import Style, style_of
from .trimming import Fit, Trimmed, trim

_LOG = logging.getLogger(__name__)


class ModelHeader(Protocol):
    """What is needed of a GGUF header (`pannier.pkgmgr.gguf.Header` has it).

    With long arrays left out of `metadata`, control tokens are known by their usual forms only.
    """

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Key → value."""

    @property
    def architecture(self) -> str:
        """`general.architecture`."""


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """A prompt ready for tokenising, and how to read what the model answers.

    Attributes:
        stop: texts that the template's format needs as ends, beside the request's own.
        images: encoded files in the order of their marks `[img-0]`, `[img-1]` … in the text.
        control_tokens: whether control tokens must be part of the output for it to be parsed.
        trimmed: what was left out to fit; None where all messages are in.
    """

    segments: tuple[Segment, ...]
    stop: tuple[str, ...] = ()
    images: tuple[bytes, ...] = ()
    control_tokens: bool = False
    trimmed: Trimmed | None = None
    output: OutputFormat = field(default_factory=lambda: OutputFormat(is_plain=True))
    tools: tuple[Mapping[str, Any], ...] = ()
    thinks: bool = False

    @property
    def text(self) -> str:
        """The whole prompt as one text, for showing."""
        return "".join(segment.text for segment in self.segments)

    def parser(self, *, expects_call: bool = False) -> OutputParser:
        """A parser for one answer to this prompt, which may be forced to be a tool call."""
        end = self.segments[-1].text[-100:] if self.segments else ""
        return self.output.parser(
            self.tools, thinks=self.thinks, prompt_end=end, expects_call=expects_call
        )


@dataclass(frozen=True, slots=True)
class _Templates:
    """What a model brings. `broken` is the error of a Go template that cannot be used."""

    go: OllamaTemplate | None
    jinja: str
    broken: TemplateError | None


class PromptBuilder:
    """Makes the prompts of one model. Any thread may call."""

    def __init__(
        self,
        spec: ModelSpec,
        header: ModelHeader,
        *,
        preference: Preference = Preference.AUTO,
        pool: RenderPool | None = None,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        """Choose the template of a model; see `for_model`."""
        metadata = header.metadata
        settings = spec.settings
        renderer, parser = _text(settings.get("renderer")), _text(settings.get("parser"))
        templates = _templates(spec, metadata, now)
        self._spec = spec
        self._architecture = header.architecture
        self._pool = pool
        self._now = now
        self._jinja, self._go, self._broken = templates.jinja, templates.go, templates.broken
        self._control = ControlTokens.of(metadata)
        self._tokens = _special_tokens(metadata)
        self._gap = GapMarks.of(metadata)
        self.choice = choose(self._go, self._jinja, renderer=renderer, preference=preference)
        if self._broken and self._go is None and self._jinja:
            self.choice = replace(self.choice, warning=self._broken.message)
        if self.choice.warning:
            _LOG.warning("%s", self.choice.warning)
        self._format = self._output_format(parser)
        self.capabilities: tuple[str, ...] = capabilities(
            metadata,
            header.architecture,
            has_projector=bool(spec.select(Role.PROJECTOR)),
            template=self._abilities(),
            parser=parser,
            thinks=self._format.thinking is not None or self._format.is_harmony,
        )

    @classmethod
    def for_model(
        cls,
        spec: ModelSpec,
        header: ModelHeader,
        *,
        preference: Preference = Preference.AUTO,
        pool: RenderPool | None = None,
        now: Callable[[], datetime] = datetime.now,
    ) -> PromptBuilder:
        """The builder for a model. Templates that turn out broken are errors when they are used.

        Args:
            spec: the model.
            header: of its weights, best with arrays.
            preference: which template to take where the model brings both kinds.
            pool: renders Jinja; None takes the one that this process shares.
            now: the clock that templates see.
        """
        return cls(spec, header, preference=preference, pool=pool, now=now)

    @property
    def source(self) -> str:
        """The source of the template in use; empty for a model without one."""
        if self.choice.engine is Engine.GO and self._go:
            return self._go.source
        return self._jinja if self.choice.engine is Engine.JINJA else ""

    def chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        think: Think = None,
        fit: Fit | None = None,
    ) -> ChatPrompt:
        """The prompt for a conversation, with the model's own SYSTEM and MESSAGEs in front.

        A last message of role assistant is continued, not answered.

        Args:
            messages: the request's, oldest first.
            tools: as the wire gives them: `{"type": "function", "function": {…}}`.
            think: whether and how much to think; ignored by models that cannot.
            fit: how long the prompt may be; the oldest messages are left out to keep to it.

        Raises:
            UnsupportedRequest: where the model has no such capability.
            TemplateError: where the template refuses the conversation.
        """
        turns = [Message(message.role, message.content) for message in self._spec.messages]
        turns += messages
        if self._spec.system and not (messages and messages[0].role == "system"):
            turns.insert(0, Message("system", self._spec.system))

        def render(some: Sequence[Message]) -> ChatPrompt:
            return self._render(some, tools=tools, think=think)

        prompt = render(turns)
        if fit is None:
            return prompt
        prompt, trimmed = trim(turns, prompt, render, fit)
        return replace(prompt, trimmed=trimmed)

    def generate(
        self,
        prompt: str,
        *,
        system: str | None = None,
        suffix: str = "",
        template: str | None = None,
        images: Sequence[bytes] = (),
        think: Think = None,
        examples: bool = True,
    ) -> ChatPrompt:
        """The prompt for one user text.

        Args:
            prompt: what the user says.
            system: None or empty takes the model's own.
            suffix: text after the place to fill, for models that can insert.
            template: a Go template to use instead of the model's.
            images: encoded files that belong to the text.
            think: as for `chat`.
            examples: whether the model's own MESSAGEs go before the text.

        Raises:
            UnsupportedRequest, TemplateError: as for `chat`.
        """
        go = OllamaTemplate(template, now=self._now) if template else None
        if suffix:
            return self._insert(prompt, suffix, go or self._go)
        turns = []
        first = system or self._spec.system
        if first:
            turns.append(Message("system", first))
        if examples:
            turns += [Message(message.role, message.content) for message in self._spec.messages]
        turns.append(Message("user", prompt, images=tuple(images)))
        return self._render(turns, think=think, go=go)

    def raw(self, prompt: str, images: Sequence[bytes] = ()) -> ChatPrompt:
        """A prompt that its writer formatted: control tokens in it are meant, and `[img-N]`.

        Raises:
            UnsupportedRequest: the model does not look at images, or the prompt places one not.
        """
        self._refuse_what_is_missing([Message("user", images=tuple(images))], ())
        return ChatPrompt(placed_images(prompt, len(images)), images=tuple(images))

    def _insert(self, prompt: str, suffix: str, go: OllamaTemplate | None) -> ChatPrompt:
        by_template = go is not None and "suffix" in go.identifiers
        source = go.source if go else ""
        shield = Shield(self._control, (source, prompt, suffix))
        if go is not None and by_template:
            text = go.insert(shield.protect(prompt), shield.protect(suffix))
        elif self._gap:
            text = self._gap.fill(prompt, suffix, shield)
        else:
            raise UnsupportedRequest("this model does not support insert")
        return ChatPrompt(shield.split(text))

    def _render(
        self,
        turns: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        think: Think = None,
        go: OllamaTemplate | None = None,
    ) -> ChatPrompt:
        self._refuse_what_is_missing(turns, tools)
        thinks = "thinking" in self.capabilities and think is not False
        think = True if think is None and thinks else think
        shield = Shield(self._control, (self.source, *client_texts(turns, tools)))
        if self._forgets_thoughts:
            turns = _without_old_thoughts(turns, self._format)
        turns, images = mark_images([shielded(turn, shield) for turn in turns], shield.image)
        offered = tuple(shield.protect_all(tool) for tool in tools)
        text = self._text(turns, shield, tools=offered, think=think, go=go)
        segments = shield.split(text)
        if {segment.image for segment in segments} - {None} != set(range(len(images))):
            raise UnsupportedRequest("the template of this model leaves images out")
        return ChatPrompt(
            segments,
            images=images,
            control_tokens=any(mark in self._control for mark in self._format.marks),
            output=self._format,
            tools=tuple(tools),
            thinks=thinks or self._format.is_opened_by(text[-100:]),
        )

    def _text(
        self,
        turns: list[Message],
        shield: Shield,
        *,
        tools: Sequence[Mapping[str, Any]],
        think: Think,
        go: OllamaTemplate | None,
    ) -> str:
        """The rendered text, with the shield's marks in it."""
        if go or self.choice.engine is Engine.GO:
            template = go or self._go
            assert template is not None
            return template.chat(turns, tools=tools, think=think)
        if self.choice.engine is Engine.PLAIN:
            if self._broken:
                raise self._broken
            return "\n\n".join(turn.content for turn in turns if turn.content)
        continues = bool(turns) and turns[-1].role == "assistant" and not turns[-1].tool_calls
        if continues:
            turns[-1] = replace(turns[-1], content=turns[-1].content + shield.fence)
        names = jinja_names(
            turns, tools=tools, think=think, tokens=self._tokens, continues=continues
        )
        names["messages"] = self._style.applied(names["messages"])
        text = self._render_jinja(names)
        # The template closes the turn that is to be continued: what stands after it is cut.
        return text[: text.rindex(shield.fence)] if continues and shield.fence in text else text

    @cached_property
    def _style(self) -> Style:
        """How the Jinja template wants its messages."""
        names = jinja_names((), tools=(), think=None, tokens=self._tokens, continues=False)
        return style_of(self._jinja, lambda probe: self._render_jinja({**names, "messages": probe}))

    def _render_jinja(self, names: Mapping[str, Any]) -> str:
        return (self._pool or shared_pool()).render(self._jinja, names, now=self._now())

    def _refuse_what_is_missing(
        self, turns: Sequence[Message], tools: Sequence[Mapping[str, Any]]
    ) -> None:
        if "vision" not in self.capabilities and any(turn.images for turn in turns):
            raise UnsupportedRequest("this model does not support images")
        if tools and "tools" not in self.capabilities:
            raise UnsupportedRequest("this model does not support tools")

    @property
    def _forgets_thoughts(self) -> bool:
        """Whether reasoning in earlier answers is taken out; Jinja templates do it themselves."""
        if self.choice.engine is not Engine.GO or self._format.thinking is None:
            return False
        return self._architecture.startswith("qwen3") or "<｜Assistant｜>" in self.source

    def _abilities(self) -> frozenset[str]:
        found: frozenset[str] = frozenset()
        if self.choice.engine is Engine.GO and self._go:
            found = go_abilities(self._go)
        elif self.choice.engine is Engine.JINJA:
            found = jinja_abilities(self._jinja)
        return found | {"insert"} if self._gap else found

    def _output_format(self, parser: str) -> OutputFormat:
        if self.choice.engine is Engine.GO and self._go:
            go = self._go
            return output_format(
                go.source, parser=parser, thinking=go.thinking_tags, tool_tag=go.tool_tag
            )
        return output_format(self.source, parser=parser)


def _templates(
    spec: ModelSpec, metadata: Mapping[str, Any], now: Callable[[], datetime]
) -> _Templates:
    jinja = spec.jinja_template or _text(metadata.get("tokenizer.chat_template"))
    if not spec.template:
        return _Templates(None, jinja, None)
    try:
        return _Templates(OllamaTemplate(spec.template, now=now), jinja, None)
    except TemplateError as error:
        return _Templates(None, jinja, error)


def _without_old_thoughts(turns: Sequence[Message], output: OutputFormat) -> list[Message]:
    """Messages whose assistant turns before the last user turn have lost their reasoning."""
    assert output.thinking is not None
    last = max((i for i, turn in enumerate(turns) if turn.role == "user"), default=0)
    result = []
    for index, turn in enumerate(turns):
        if index < last and turn.role == "assistant":
            parser = ThinkingParser(*output.thinking)
            outputs = parser.feed(turn.content) + parser.finish()
            turn = replace(turn, content="".join(output.content for output in outputs))
        result.append(turn)
    return result


def _special_tokens(metadata: Mapping[str, Any]) -> dict[str, str]:
    """`bos_token`, `eos_token` and their like, as texts."""
    tokens = metadata.get("tokenizer.ggml.tokens")
    names = {"bos": "bos_token", "eos": "eos_token", "padding": "pad_token", "unknown": "unk_token"}
    found = {"bos_token": "", "eos_token": ""}
    for key, name in names.items():
        index = metadata.get(f"tokenizer.ggml.{key}_token_id")
        if isinstance(tokens, Sequence) and isinstance(index, int) and index < len(tokens):
            found[name] = str(tokens[index])
    return found


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
