"""Turns conversations into prompts, by the template that a model brings.

One `PromptBuilder` serves one model and any number of threads. It knows templates and messages,
not how they came in and not how tokens are made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pannier.pkgmgr.modelspec import ModelSpec, Role

from .errors import UnsupportedRequest
from .messages import Message, Think, ToolCall
from .request import Segment
from .template.jinja import JinjaTemplate
from .template.shield import ControlTokens, Shield

# Top-level names of Jinja chat templates; client text never chooses a name.
_TOOL_WORDS = re.compile(r"\btools?\b|tool_call")


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
    """A prompt ready for tokenising.

    Attributes:
        stop: texts that the template's format needs as ends, beside the request's own.
        images: encoded files in the order of their marks in the text.
    """

    segments: tuple[Segment, ...]
    stop: tuple[str, ...] = ()
    images: tuple[bytes, ...] = ()

    @property
    def text(self) -> str:
        """The whole prompt as one text, for showing."""
        return "".join(segment.text for segment in self.segments)


class PromptBuilder:
    """Makes the prompts of one model. Any thread may call."""

    def __init__(
        self,
        *,
        spec: ModelSpec,
        template: JinjaTemplate | None,
        source: str,
        control: ControlTokens,
        tokens: Mapping[str, str],
        capabilities: tuple[str, ...],
    ) -> None:
        """Use `for_model`."""
        self._spec = spec
        self._template = template
        self._source = source
        self._control = control
        self._tokens = tokens
        self._capabilities = capabilities

    @classmethod
    def for_model(cls, spec: ModelSpec, header: ModelHeader) -> PromptBuilder:
        """Choose and compile the model's template.

        Raises:
            TemplateError: where the template is broken.
        """
        metadata = header.metadata
        source = spec.jinja_template or _text(metadata.get("tokenizer.chat_template"))
        return cls(
            spec=spec,
            template=JinjaTemplate(source) if source else None,
            source=source,
            control=ControlTokens.of(metadata),
            tokens=_special_tokens(metadata),
            capabilities=_capabilities(spec, header, source),
        )

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What the model can do, as `show` says it: `completion`, `vision`, `tools` and so on."""
        return self._capabilities

    def chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        think: Think = None,
    ) -> ChatPrompt:
        """The prompt for a conversation, with the model's own SYSTEM and MESSAGEs in front.

        A last message of role assistant is continued, not answered.

        Args:
            messages: the request's, oldest first.
            tools: as the wire gives them: `{"type": "function", "function": {…}}`.
            think: whether and how much to think; ignored by models that cannot.

        Raises:
            UnsupportedRequest: where the model has no such capability.
            TemplateError: where the template refuses the conversation.
        """
        turns = [Message(message.role, message.content) for message in self._spec.messages]
        turns += messages
        if self._spec.system and not (messages and messages[0].role == "system"):
            turns.insert(0, Message("system", self._spec.system))
        return self._render(turns, tools=tools, think=think)

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
            template: one to use instead of the model's.
            images: encoded files that belong to the text.
            think: as for `chat`.
            examples: whether the model's own MESSAGEs go before the text.

        Raises:
            UnsupportedRequest, TemplateError: as for `chat`.
        """
        if suffix:
            raise UnsupportedRequest("this model does not support insert")
        if template:
            raise UnsupportedRequest("a template in the request is not supported")
        turns = []
        first = system or self._spec.system
        if first:
            turns.append(Message("system", first))
        if examples:
            turns += [Message(message.role, message.content) for message in self._spec.messages]
        turns.append(Message("user", prompt, images=tuple(images)))
        return self._render(turns, tools=(), think=think)

    def raw(self, prompt: str) -> ChatPrompt:
        """A prompt that its writer formatted: control tokens in it are meant."""
        return ChatPrompt((Segment(prompt),) if prompt else ())

    def _render(
        self, turns: Sequence[Message], *, tools: Sequence[Mapping[str, Any]], think: Think
    ) -> ChatPrompt:
        images = tuple(image for turn in turns for image in turn.images)
        if images and "vision" not in self._capabilities:
            raise UnsupportedRequest("this model does not support images")
        if tools and "tools" not in self._capabilities:
            raise UnsupportedRequest("this model does not support tools")
        shield = Shield(self._control, (self._source, *_texts([*turns], tools)))
        if self._template is None:
            return ChatPrompt(shield.split(_plain(turns, shield)), images=images)
        return ChatPrompt(
            shield.split(self._render_jinja(self._template, turns, shield, tools, think)),
            images=images,
        )

    def _render_jinja(
        self,
        template: JinjaTemplate,
        turns: Sequence[Message],
        shield: Shield,
        tools: Sequence[Mapping[str, Any]],
        think: Think,
    ) -> str:
        messages = [_jinja_message(turn, shield) for turn in turns]
        prefill = bool(turns) and turns[-1].role == "assistant" and not turns[-1].tool_calls
        if prefill:
            messages[-1]["content"] += shield.fence
        names: dict[str, Any] = {
            **self._tokens,
            "messages": messages,
            "tools": shield.protect_all(tools) or None,
            "documents": None,
            "add_generation_prompt": not prefill,
        }
        if think is not None:
            names["enable_thinking"] = names["thinking"] = think is not False
        if isinstance(think, str):
            names["reasoning_effort"] = think
        text = template.render(names)
        # The template closes the turn that is to be continued: what stands after it is cut.
        return text[: text.rindex(shield.fence)] if prefill and shield.fence in text else text


def _jinja_message(message: Message, shield: Shield) -> dict[str, Any]:
    """A message with the keys that Transformers' templates look for; absent is absent."""
    out: dict[str, Any] = {
        "role": shield.protect(message.role),
        "content": shield.protect(message.content),
    }
    if message.thinking:
        out["reasoning_content"] = out["thinking"] = shield.protect(message.thinking)
    if message.tool_calls:
        out["tool_calls"] = [_jinja_call(call, shield) for call in message.tool_calls]
    if message.tool_name:
        out["name"] = shield.protect(message.tool_name)
    if message.tool_call_id:
        out["tool_call_id"] = shield.protect(message.tool_call_id)
    return out


def _jinja_call(call: ToolCall, shield: Shield) -> dict[str, Any]:
    return {
        "id": shield.protect(call.id),
        "type": "function",
        "function": {
            "name": shield.protect(call.name),
            "arguments": shield.protect_all(call.arguments),
        },
    }


def _plain(turns: Sequence[Message], shield: Shield) -> str:
    """The prompt for a model without a template: the texts alone, a blank line between turns."""
    return "\n\n".join(shield.protect(turn.content) for turn in turns if turn.content)


def _texts(turns: Iterable[Message], tools: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """All client texts that a template can print."""
    for turn in turns:
        yield from (turn.role, turn.content, turn.thinking, turn.tool_name, turn.tool_call_id)
        for call in turn.tool_calls:
            yield from (call.id, call.name)
            yield from _strings(call.arguments)
    yield from _strings(tools)


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield str(key)
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def _special_tokens(metadata: Mapping[str, Any]) -> dict[str, str]:
    """`bos_token`, `eos_token` and their like, as texts."""
    tokens = metadata.get("tokenizer.ggml.tokens")
    names = {"bos": "bos_token", "eos": "eos_token", "padding": "pad_token", "unknown": "unk_token"}
    found = {"bos_token": "", "eos_token": ""}
    for key, name in names.items():
        index = metadata.get(f"tokenizer.ggml.{key}_token_id")
        if isinstance(tokens, list | tuple) and isinstance(index, int) and index < len(tokens):
            found[name] = str(tokens[index])
    return found


def _capabilities(spec: ModelSpec, header: ModelHeader, source: str) -> tuple[str, ...]:
    family = header.architecture
    embeds = f"{family}.pooling_type" in header.metadata
    sees = f"{family}.vision.block_count" in header.metadata or spec.select(Role.PROJECTOR)
    found = {
        "completion": not embeds,
        "embedding": embeds,
        "vision": bool(sees),
        "tools": _TOOL_WORDS.search(source) is not None,
        "thinking": "<think>" in source and "</think>" in source,
    }
    return tuple(name for name, has in found.items() if has)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
