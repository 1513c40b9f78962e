"""What is asked of an engine and what it answers. Pure values, shared by every runtime module.

One `GenerationRequest` becomes one stream of `Delta`; the last has `finish` and `usage` set. The
same interface serves one sequence at a time and continuous batching.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from .constraint import Constraint

# What the engine says of a request that it ended because of `GenerationRequest.deadline_s`.
LATE = "its deadline has passed"
# Before an unbounded top_p, candidates this much less likely than the best are dropped. A full sort
# of 49k candidates takes 3.6 ms, this 0.65 ms, for 0.45 % of the probability mass of a flat
# distribution (2-core Xeon, 135M model); peaked ones lose far less. 0 drops nothing.
TOP_P_PREFILTER = 1e-5


class FinishReason(StrEnum):
    """Why a generation ended."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a prompt.

    Attributes:
        text: what is tokenised.
        special: whether control tokens may be recognised in it. True for what a template wrote,
            False for what a user wrote, so that user text can never become a control token.
        image: which image of the request stands here; `text` is only how it is shown then.
    """

    text: str
    special: bool = True
    image: int | None = None


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is drawn. Names and defaults are Ollama's (`docs/api.md`).

    Attributes:
        seed: -1 draws a fresh one.
        repeat_last_n: tokens that penalties look back at; -1 is the whole context, 0 none.
        logit_bias: token id → value added to its logit.
        mirostat: 0 off, 1 and 2 its versions, which then replace top_k, top_p and the like.
        xtc_probability: of cutting off the best tokens above `xtc_threshold`.
        dry_multiplier: 0 turns the penalty on repeated sequences off.
        top_n_sigma: standard deviations below the best logit that are kept; -1 is all.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.9
    min_p: float = 0.0
    typical_p: float = 1.0
    repeat_last_n: int = 64
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = -1
    logit_bias: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = -1
    top_n_sigma: float = -1.0


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One prompt to continue.

    Attributes:
        prompt: pieces in order; beginning-of-sequence is added by the engine where the model's
            metadata asks for it and the text does not begin with it already.
        images: encoded files, which segments of the prompt name by number.
        context: token ids that go before the prompt (Ollama's deprecated `context`).
        max_tokens: how many to generate at most; None is until the context is full.
        stop: texts that end the generation; they are not part of the output.
        truncate: whether a prompt beyond the context loses its middle (`num_keep` tokens at the
            front stay) instead of raising `ContextOverflow`; one with images never does.
        num_keep: tokens at the front that truncation keeps.
        want_context: whether the last delta shall carry the token ids of prompt and output.
        echo_stop: whether the stop text that ended the generation is part of the output.
        control_tokens: whether control tokens that the model writes are part of the output, as
            parsers of some tool-call formats need.
        shift: whether a full context loses its older half and goes on, instead of ending.
        logprobs: None for none; else how many likely tokens to name beside each drawn one.
        priority: lower goes first.
        client: whose it is; requests of different clients get equal shares.
        deadline_s: seconds from its arrival after which it is ended with an error.
        deterministic: run it alone on empty cells, so that a seed gives the same text whatever
            else is asked of the model. Costs the others a wait.
        adapters: LoRA adapters by their place in the model's files, with scales; None is all of
            the model's own at full scale.
        constraint: what the answer must look like.
    """

    prompt: tuple[Segment, ...]
    images: tuple[bytes, ...] = ()
    context: tuple[int, ...] = ()
    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    truncate: bool = True
    num_keep: int = 4
    want_context: bool = False
    echo_stop: bool = False
    control_tokens: bool = False
    shift: bool = True
    logprobs: int | None = None
    priority: int = 0
    client: str = ""
    deadline_s: float | None = None
    deterministic: bool = False
    adapters: tuple[tuple[int, float], ...] | None = None
    constraint: Constraint | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a generation cost: tokens, and durations in nanoseconds.

    Attributes:
        cached_tokens: of `prompt_tokens`, those whose state was in memory already.
        truncated_tokens: prompt tokens that were left out because the context is too small.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    truncated_tokens: int = 0
    completion_tokens: int = 0
    queue_ns: int = 0
    prompt_ns: int = 0
    decode_ns: int = 0


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """How likely a token was. `top` are the likeliest in its place, best first.

    `data` are its bytes, which need not be whole characters.
    """

    data: bytes
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer. The last one of a stream has `finish` and `usage`.

    Attributes:
        usage: on the first delta too, with what is known then: all about the prompt.
        text: whole characters only; may be empty.
        tokens: how many tokens this piece stands for.
        logprobs: of these tokens, where asked for.
        context: token ids of prompt and output, on the last delta where asked for.
    """

    text: str = ""
    tokens: int = 0
    finish: FinishReason | None = None
    usage: Usage | None = None
    context: tuple[int, ...] = ()
    stop_text: str | None = None
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What needs a (re)load to change. Zero, -1 and None mean: choose for this machine.

    Attributes:
        num_ctx: context length in tokens; 0 takes the setting, else what fits.
        num_batch: most tokens in one decode call.
        num_gpu: layers on GPUs, -1 all that fit.
        num_thread: 0 takes the physical cores that this process may use.
        num_parallel: sequences at a time.
        cache_type: of the cells' keys and values: f16, q8_0 or q4_0.
        draft_num_predict: most tokens that are guessed ahead, from the text so far or by the
            model's draft model, and checked in one step; 0 is none.
        split_mode: how GPUs share the model: none, layer or row.
        tensor_split: each GPU's share, any unit; empty is by their memory.
        top_p_prefilter: see `TOP_P_PREFILTER`.
    """

    num_ctx: int = 0
    num_batch: int = 512
    num_gpu: int = -1
    main_gpu: int = 0
    use_mmap: bool | None = None
    num_thread: int = 0
    num_parallel: int = 0
    cache_type: str = "f16"
    draft_num_predict: int = -1
    split_mode: str = "layer"
    tensor_split: tuple[float, ...] = ()
    top_p_prefilter: float = TOP_P_PREFILTER


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a loaded model turned out to be.

    Attributes:
        context_length: tokens per sequence as loaded; `train_context_length` as trained.
        chat_template: Jinja source in the GGUF, None if it has none.
        size: bytes of memory that the model and its cache take; `size_vram` of them on GPUs.
    """

    architecture: str
    context_length: int
    train_context_length: int
    embedding_length: int
    vocabulary_size: int
    parameter_count: int
    size: int
    size_vram: int
    chat_template: str | None
    bos_token: str
    eos_token: str
