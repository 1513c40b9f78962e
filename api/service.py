"""Service: the one object that every HTTP surface and `pannier run` see.

It puts store, prompts and runtime together: a call by model name in, an `Answer` of pieces out. It
knows no HTTP and no wire format. All methods may be called from any thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from pannier.pkgmgr.errors import InvalidOption
from pannier.pkgmgr.settings import Settings
from pannier.pkgmgr.store.store import Store
from pannier.pkgmgr.transfer.events import OnEvent, ignore
from pannier.runtime.demands import FREE_CHOICES, constraint_for
from pannier.runtime.errors import UnsupportedRequest
from pannier.runtime.images import check_images
from pannier.runtime.interface import (
    Caller,
    Embeddings,
    GenerationStream,
    LoadedModel,
    Runtime,
    never,
)
from pannier.runtime.messages import Message, Think
from pannier.runtime.options import Options, split_options
from pannier.runtime.prompt import ChatPrompt
from pannier.runtime.request import GenerationRequest
from pannier.runtime.trimming import Fit

from .answer import Answer
from .fitting import RuntimeFit
from .library import Library, StoredModel
from .waiting import Gone, before, unless_gone


@dataclass(frozen=True, slots=True)
class Call:
    """What every request to a model has in common.

    Attributes:
        model: a name, as typed.
        options: Ollama's names; they go before the model's own parameters.
        keep_alive_s: as in `pannier.runtime.interface`.
        truncate: whether a prompt that is too long loses its middle; False makes it an error.
        shift: whether a full context makes room and goes on, instead of ending the answer.
        think: whether and how much to think.
        thinking_budget: tokens of reasoning after which the model has to answer.
        logprobs: None for none; else how many likely tokens to name beside each drawn one.
        logit_bias: token id → value added to its logit.
        format: what the answer must be: "json" for any object, a JSON schema, None for any text.
        tool_choice: "auto", "none", "required", or the name of the one tool to call.
        many_calls: whether several tools may be called in one answer.
        client: whose it is; clients that wait for one model get equal shares.
        priority: of those that wait for one model, lower goes first.
        deadline: the moment, on the monotonic clock, after which nobody waits for it any more.
    """

    model: str
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    keep_alive_s: float | None = None
    truncate: bool = True
    shift: bool = True
    think: Think = None
    thinking_budget: int | None = None
    logprobs: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))
    format: str | Mapping[str, Any] | None = None
    tool_choice: str = "auto"
    many_calls: bool = True
    client: str = ""
    priority: int = 0
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation to be continued."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """One text to be answered or continued; the fields are those of `PromptBuilder.generate`.

    Attributes:
        raw: the prompt goes to the model as it is.
        context: tokens of earlier turns, which go before the prompt.
    """

    prompt: str
    system: str | None = None
    suffix: str = ""
    template: str | None = None
    images: tuple[bytes, ...] = ()
    raw: bool = False
    context: tuple[int, ...] = ()


class Service:
    """Answers calls with the models of one store.

    Args:
        store: where the models are.
        settings: the user's; names are read by their defaults.
        runtime: loads and runs models; the caller closes it.
        on_event: told what the trust policy warns of when a model is used for the first time.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        runtime: Runtime,
        *,
        on_event: OnEvent = ignore,
    ) -> None:
        self.store = store
        self.settings = settings
        self.runtime = runtime
        self.library = Library(store, settings, on_event=on_event)

    def chat(self, call: Call, chat: Chat, *, gone: Gone = never) -> Answer:
        """Start to answer a conversation.

        Raises:
            ModelNotFound, UnsupportedRequest, TemplateError, LoadError, ContextOverflow, QueueFull.
            ClientGone, DeadlinePassed: where the caller went away before the start, or is late.
        """
        gone = before(call.deadline, gone)
        model, options = self.find(call, "chat")
        fit = RuntimeFit(
            self.runtime,
            model.source,
            lambda: self._load(model, options, call.keep_alive_s, gone),
            num_ctx=options.load.num_ctx if options.load else 0,
        )
        prompt = self.chat_prompt(model, call, chat, fit=fit if call.truncate else None)
        answer = self._start(call, model, prompt, gone=gone, tools=chat.tools)
        load_ns = answer.model.load_ns or fit.load_ns
        answer.model = replace(answer.model, load_ns=load_ns)
        return answer

    def complete(self, call: Call, completion: Completion, *, gone: Gone = never) -> Answer:
        """Start to answer or continue one text; raises as `chat` does."""
        gone = before(call.deadline, gone)
        model, _ = self.find(call, "generate")
        prompt = self.completion_prompt(model, call, completion)
        return self._start(
            call,
            model,
            prompt,
            context=completion.context,
            want_context=not completion.raw,
            gone=gone,
        )

    def find(self, call: Call, verb: str) -> tuple[StoredModel, Options]:
        """A call's model, which must be able to write text, and its options.

        Raises:
            ModelNotFound, InvalidOption, UnsupportedRequest.
        """
        model = self.library.find(call.model)
        options = self._options(model, call)
        if "completion" not in model.prompts.capabilities:
            raise UnsupportedRequest(f'"{call.model}" does not support {verb}')
        if call.think and "thinking" not in model.prompts.capabilities:
            raise UnsupportedRequest(f'"{call.model}" does not support thinking')
        return model, options

    def chat_prompt(
        self, model: StoredModel, call: Call, chat: Chat, *, fit: Fit | None = None
    ) -> ChatPrompt:
        """The prompt of a conversation, without its oldest messages where `fit` asks for that."""
        if any(message.images for message in chat.messages):
            _require(model, "vision")
        if chat.tools:
            _require(model, "tools")
        tools = () if call.tool_choice == "none" else chat.tools
        return model.prompts.chat(chat.messages, tools=tools, think=call.think, fit=fit)

    def completion_prompt(
        self, model: StoredModel, call: Call, completion: Completion
    ) -> ChatPrompt:
        """The prompt of one text."""
        if completion.images:
            _require(model, "vision")
        if completion.raw:
            return model.prompts.raw(completion.prompt, completion.images)
        if completion.suffix:
            _require(model, "insert")
            if completion.images:
                raise UnsupportedRequest("a gap cannot be filled with images beside it")
        return model.prompts.generate(
            completion.prompt,
            system=completion.system,
            suffix=completion.suffix,
            template=completion.template,
            images=completion.images,
            think=call.think,
            examples=not completion.context,
        )

    def embed(self, call: Call, texts: Sequence[str], *, gone: Gone = never) -> Embeddings:
        """A vector of length 1 for each text; none for no text, and the model is loaded.

        Raises:
            ModelNotFound, LoadError, UnsupportedRequest, ClientGone, DeadlinePassed.
            ContextOverflow: a text is too long and `call.truncate` is off.
        """
        gone = before(call.deadline, gone)
        model = self.library.find(call.model)
        options = self._options(model, call)
        if not texts:
            loaded = self._load(model, options, call.keep_alive_s, gone)
            return Embeddings([], 0, loaded)
        return _vectors(
            call,
            gone,
            lambda caller: self.runtime.embed(
                model.source,
                texts,
                truncate=call.truncate,
                options=options.load,
                keep_alive_s=call.keep_alive_s,
                caller=caller,
            ),
        )

    def rank(
        self, call: Call, query: str, texts: Sequence[str], *, gone: Gone = never
    ) -> Embeddings:
        """How relevant each text is to a query, one score per row; raises as `embed` does."""
        gone = before(call.deadline, gone)
        model = self.library.find(call.model)
        options = self._options(model, call)
        return _vectors(
            call,
            gone,
            lambda caller: self.runtime.rank(
                model.source,
                query,
                texts,
                options=options.load,
                keep_alive_s=call.keep_alive_s,
                caller=caller,
            ),
        )

    def count_tokens(self, model: StoredModel, prompt: ChatPrompt) -> int:
        """How many tokens a prompt has; loads the model where needed.

        Raises:
            LoadError: where it cannot be loaded.
        """
        fit = RuntimeFit(
            self.runtime, model.source, lambda: self.runtime.load(model.source), num_ctx=0
        )
        return fit.count(prompt.segments) + fit.count_images(prompt.images)

    def load(self, call: Call, verb: str, *, gone: Gone = never) -> LoadedModel:
        """Have a model in memory.

        Raises:
            ModelNotFound, LoadError, ClientGone, DeadlinePassed.
        """
        gone = before(call.deadline, gone)
        return self._load(*self.find(call, verb), call.keep_alive_s, gone)

    def unload(self, name: str) -> bool:
        """Let a model go as soon as nobody uses it; False where it was not in memory.

        Raises:
            ModelNotFound: where the store has no such model.
        """
        return self.runtime.unload(self.library.spec(name)[1].digest)

    def _options(self, model: StoredModel, call: Call) -> Options:
        """What a request says, else the model, else the settings."""
        defaults = self.runtime.defaults
        return split_options(model.spec.params, call.options, defaults=defaults)

    def _load(
        self, model: StoredModel, options: Options, keep_alive_s: float | None, gone: Gone
    ) -> LoadedModel:
        return unless_gone(
            gone,
            lambda: self.runtime.load(
                model.source, options=options.load, keep_alive_s=keep_alive_s
            ),
        )

    def _start(
        self,
        call: Call,
        model: StoredModel,
        prompt: ChatPrompt,
        *,
        gone: Gone,
        context: Sequence[int] = (),
        want_context: bool = False,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> Answer:
        began_ns = time.monotonic_ns()
        check_images(prompt.images)
        constraint = constraint_for(
            prompt,
            form=call.format,
            tool_choice=call.tool_choice,
            tools=tools,
            many_calls=call.many_calls,
            budget=call.thinking_budget,
        )
        options = self._options(model, call)
        request = GenerationRequest(
            prompt=prompt.segments,
            images=prompt.images,
            context=tuple(context),
            sampling=replace(options.sampling, logit_bias=call.logit_bias),
            max_tokens=options.max_tokens,
            stop=(*options.stop, *prompt.stop),
            truncate=call.truncate,
            num_keep=options.num_keep,
            want_context=want_context,
            control_tokens=prompt.control_tokens,
            shift=call.shift,
            logprobs=call.logprobs,
            client=call.client,
            priority=call.priority,
            deadline_s=None if call.deadline is None else call.deadline - time.monotonic(),
            deterministic=options.deterministic,
            adapters=_known_adapters(options, model),
            constraint=constraint,
        )
        stream = unless_gone(
            gone,
            lambda: self.runtime.generate(
                model.source, request, options=options.load, keep_alive_s=call.keep_alive_s
            ),
            lambda late: late.cancel(),
        )
        _check_tokens(context, stream)
        parser = prompt.parser(expects_call=call.tool_choice not in FREE_CHOICES)
        return Answer(
            stream,
            model.name,
            parser=parser,
            began_ns=began_ns,
            gone=gone,
            trimmed=prompt.trimmed,
            many_calls=call.many_calls,
        )


def _vectors(call: Call, gone: Gone, ask: Callable[[Caller], Embeddings]) -> Embeddings:
    """What a runtime answers, while somebody waits for it; the work may outlast that."""
    over = threading.Event()
    try:
        return unless_gone(gone, lambda: ask(Caller(call.client, call.priority, over.is_set)))
    finally:
        over.set()


def _check_tokens(tokens: Sequence[int], stream: GenerationStream) -> None:
    """Only its model knows which tokens there are."""
    size = stream.model.info.vocabulary_size
    if not all(0 <= token < size for token in tokens):
        stream.cancel()
        raise UnsupportedRequest(
            f"token ids of {stream.model.source.name} are from 0 to {size - 1}"
        )


def _known_adapters(options: Options, model: StoredModel) -> tuple[tuple[int, float], ...] | None:
    count = len(model.source.files.adapters)
    unknown = [number for number, _ in options.adapters or () if number >= count]
    if unknown:
        raise InvalidOption(
            f'option "lora" names adapter {unknown[0]}; {model.name} has {count}, counted from 0'
        )
    return options.adapters


def _require(model: StoredModel, capability: str) -> None:
    if capability not in model.prompts.capabilities:
        raise UnsupportedRequest(f"{model.entry.reference} does not support {capability}")
