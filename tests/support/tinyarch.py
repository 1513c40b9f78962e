"""Tiny GGUF files of architectures whose cells cannot be cut anywhere, with random weights.

`mamba` keeps one state per sequence and no cells, and all layers of `gemma3` but the sixth see a
window of the last tokens only. `jamba`, `lfm2`, `granitehybrid` (Granite 4) and `qwen3next` have
layers with states and layers with cells; those of `falcon-h1` have both. The vocabulary is
`tiny_llama`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from support.gguf import CHAT_TEMPLATE, add_vocabulary, finish, writer_of

WIDTH, FEED_FORWARD, INNER, STATE, RANK, KERNEL = 32, 64, 64, 8, 4, 4
WINDOW = 16
# Heads and groups of the states of Mamba 2, and of Qwen3-Next's.
HEADS, GROUPS = 4, 2
EXPERTS, EXPERT_WIDTH = 4, 16
# Of `jamba`, `lfm2` and `granitehybrid`: heads of keys in each layer; without any it keeps a state.
_KV_HEADS = [0, 2, 0]
# Layers; of `qwen3next` and `gemma3` the last one is another kind than those before.
_BLOCKS = {"gemma3": 6, "qwen3next": 4}

Tensors = Iterator[tuple[str, Any]]


def tiny(architecture: str, path: Path, *, seed: int = 1) -> Path:
    """Write a loadable model of about 150 kB; returns `path`. Equal arguments give equal bytes."""
    import numpy

    random = numpy.random.default_rng(seed)

    def matrix(*shape: int) -> Any:
        return random.normal(0, 0.3, shape).astype(numpy.float32)

    writer = writer_of(path, architecture)
    vocabulary = add_vocabulary(writer)
    writer.add_name(architecture)
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    blocks = _BLOCKS.get(architecture, 3)
    writer.add_block_count(blocks)
    writer.add_feed_forward_length(0 if architecture == "mamba" else FEED_FORWARD)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(0)
    writer.add_chat_template(CHAT_TEMPLATE)
    _DESCRIPTIONS[architecture](writer)
    writer.add_tensor("token_embd.weight", matrix(vocabulary, WIDTH))
    writer.add_tensor("output.weight", matrix(vocabulary, WIDTH))
    norm = "token_embd_norm" if architecture == "lfm2" else "output_norm"
    writer.add_tensor(f"{norm}.weight", numpy.ones(WIDTH, numpy.float32))
    for block in range(blocks):
        for name, values in _LAYERS[architecture](matrix, block):
            writer.add_tensor(f"blk.{block}.{name}", values)
    return finish(writer, path)


def _describe_mamba(writer: Any) -> None:
    _describe_state(writer)
    writer.add_head_count(0)


def _describe_jamba(writer: Any) -> None:
    _describe_state(writer)
    writer.add_head_count(4)
    writer.add_head_count_kv(_KV_HEADS)


def _describe_state(writer: Any, *, rank: int = RANK, inner: int = INNER) -> None:
    writer.add_ssm_conv_kernel(KERNEL)
    writer.add_ssm_inner_size(inner)
    writer.add_ssm_state_size(STATE)
    writer.add_ssm_time_step_rank(rank)


def _describe_lfm2(writer: Any) -> None:
    writer.add_head_count(4)
    writer.add_head_count_kv(_KV_HEADS)
    writer.add_shortconv_l_cache(KERNEL)
    writer.add_rope_dimension_count(8)


def _describe_falcon(writer: Any) -> None:
    _describe_state(writer, rank=HEADS)
    writer.add_ssm_group_count(GROUPS)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(8)


def _describe_granite(writer: Any) -> None:
    _describe_falcon(writer)
    writer.add_head_count_kv(_KV_HEADS)


def _describe_qwen(writer: Any) -> None:
    _describe_state(writer, rank=HEADS, inner=HEADS * STATE)
    writer.add_ssm_group_count(GROUPS)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_key_length(8)
    writer.add_value_length(8)
    writer.add_rope_dimension_count(8)
    writer.add_expert_count(EXPERTS)
    writer.add_expert_used_count(2)
    writer.add_expert_feed_forward_length(EXPERT_WIDTH)
    writer.add_expert_shared_feed_forward_length(EXPERT_WIDTH)


def _describe_gemma3(writer: Any) -> None:
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_key_length(8)
    writer.add_value_length(8)
    writer.add_sliding_window(WINDOW)
    writer.add_rope_dimension_count(8)


def _mamba(matrix: Callable[..., Any], block: int) -> Tensors:
    import numpy

    yield "attn_norm.weight", _ones(WIDTH)
    yield "ssm_in.weight", matrix(2 * INNER, WIDTH)
    yield "ssm_conv1d.weight", matrix(INNER, KERNEL)
    yield "ssm_conv1d.bias", matrix(INNER)
    yield "ssm_x.weight", matrix(RANK + 2 * STATE, INNER)
    yield "ssm_dt.weight", matrix(INNER, RANK)
    yield "ssm_dt.bias", matrix(INNER)
    decay = -numpy.tile(numpy.arange(1, STATE + 1, dtype=numpy.float32), (INNER, 1))
    yield "ssm_a", numpy.ascontiguousarray(decay / STATE)
    yield "ssm_d", matrix(INNER)
    yield "ssm_out.weight", matrix(WIDTH, INNER)


def _jamba(matrix: Callable[..., Any], block: int) -> Tensors:
    if _KV_HEADS[block]:
        yield "attn_norm.weight", _ones(WIDTH)
        yield from _attention(matrix)
    else:
        yield from _mamba(matrix, block)
        yield "ssm_dt_norm.weight", _ones(RANK)
        yield "ssm_b_norm.weight", _ones(STATE)
        yield "ssm_c_norm.weight", _ones(STATE)
    yield from _feed_forward(matrix)


def _lfm2(matrix: Callable[..., Any], block: int) -> Tensors:
    yield "attn_norm.weight", _ones(WIDTH)
    if _KV_HEADS[block]:
        yield from _attention(matrix)
        yield "attn_q_norm.weight", _ones(8)
        yield "attn_k_norm.weight", _ones(8)
    else:
        yield "shortconv.conv.weight", matrix(WIDTH, KERNEL)
        yield "shortconv.in_proj.weight", matrix(3 * WIDTH, WIDTH)
        yield "shortconv.out_proj.weight", matrix(WIDTH, WIDTH)
    yield from _feed_forward(matrix)


def _falcon(matrix: Callable[..., Any], block: int) -> Tensors:
    yield "attn_norm.weight", _ones(WIDTH)
    yield from _attention(matrix)
    yield from _mamba2(matrix)
    for name, values in _feed_forward(matrix):
        # llama.cpp reads this one without the usual ending.
        yield ("ffn_norm" if name == "ffn_norm.weight" else name), values


def _granite(matrix: Callable[..., Any], block: int) -> Tensors:
    yield "attn_norm.weight", _ones(WIDTH)
    yield from _attention(matrix) if _KV_HEADS[block] else _mamba2(matrix)
    yield from _feed_forward(matrix)


def _mamba2(matrix: Callable[..., Any]) -> Tensors:
    mixed = INNER + 2 * GROUPS * STATE
    yield "ssm_in.weight", matrix(INNER + mixed + HEADS, WIDTH)
    yield "ssm_conv1d.weight", matrix(mixed, KERNEL)
    yield "ssm_conv1d.bias", matrix(mixed)
    yield "ssm_dt.bias", matrix(HEADS)
    yield "ssm_a", -abs(matrix(HEADS, 1))
    yield "ssm_d", matrix(HEADS, 1)
    yield "ssm_norm.weight", _ones(GROUPS, INNER // GROUPS)
    yield "ssm_out.weight", matrix(WIDTH, INNER)


def _qwen(matrix: Callable[..., Any], block: int) -> Tensors:
    yield "attn_norm.weight", _ones(WIDTH)
    yield "post_attention_norm.weight", _ones(WIDTH)
    if block == _BLOCKS["qwen3next"] - 1:
        for name, values in _attention(matrix):
            # Queries come with a gate for each.
            yield name, matrix(64, WIDTH) if name == "attn_q.weight" else values
        yield "attn_q_norm.weight", _ones(8)
        yield "attn_k_norm.weight", _ones(8)
    else:
        yield from _delta_net(matrix)
    yield "ffn_gate_inp.weight", matrix(EXPERTS, WIDTH)
    yield "ffn_gate_exps.weight", matrix(EXPERTS, EXPERT_WIDTH, WIDTH)
    yield "ffn_up_exps.weight", matrix(EXPERTS, EXPERT_WIDTH, WIDTH)
    yield "ffn_down_exps.weight", matrix(EXPERTS, WIDTH, EXPERT_WIDTH)
    yield "ffn_gate_inp_shexp.weight", matrix(WIDTH)
    yield "ffn_gate_shexp.weight", matrix(EXPERT_WIDTH, WIDTH)
    yield "ffn_up_shexp.weight", matrix(EXPERT_WIDTH, WIDTH)
    yield "ffn_down_shexp.weight", matrix(WIDTH, EXPERT_WIDTH)


def _delta_net(matrix: Callable[..., Any]) -> Tensors:
    values = HEADS * STATE
    mixed = values + 2 * GROUPS * STATE
    yield "attn_qkv.weight", matrix(mixed, WIDTH)
    yield "attn_gate.weight", matrix(values, WIDTH)
    yield "ssm_conv1d.weight", matrix(mixed, KERNEL)
    yield "ssm_dt.bias", matrix(HEADS)
    yield "ssm_a", -abs(matrix(HEADS))
    yield "ssm_ba.weight", matrix(2 * HEADS, WIDTH)
    yield "ssm_norm.weight", _ones(STATE)
    yield "ssm_out.weight", matrix(WIDTH, values)


def _gemma3(matrix: Callable[..., Any], block: int) -> Tensors:
    yield "attn_norm.weight", _ones(WIDTH)
    yield from _attention(matrix)
    yield "attn_q_norm.weight", _ones(8)
    yield "attn_k_norm.weight", _ones(8)
    yield "post_attention_norm.weight", _ones(WIDTH)
    yield "post_ffw_norm.weight", _ones(WIDTH)
    yield from _feed_forward(matrix)


def _attention(matrix: Callable[..., Any]) -> Tensors:
    yield "attn_q.weight", matrix(32, WIDTH)
    yield "attn_k.weight", matrix(16, WIDTH)
    yield "attn_v.weight", matrix(16, WIDTH)
    yield "attn_output.weight", matrix(WIDTH, 32)


def _feed_forward(matrix: Callable[..., Any]) -> Tensors:
    yield "ffn_norm.weight", _ones(WIDTH)
    yield "ffn_gate.weight", matrix(FEED_FORWARD, WIDTH)
    yield "ffn_up.weight", matrix(FEED_FORWARD, WIDTH)
    yield "ffn_down.weight", matrix(WIDTH, FEED_FORWARD)


def _ones(*shape: int) -> Any:
    import numpy

    return numpy.ones(shape, numpy.float32)


_DESCRIPTIONS: dict[str, Callable[[Any], None]] = {
    "mamba": _describe_mamba,
    "jamba": _describe_jamba,
    "lfm2": _describe_lfm2,
    "falcon-h1": _describe_falcon,
    "granitehybrid": _describe_granite,
    "qwen3next": _describe_qwen,
    "gemma3": _describe_gemma3,
}
_LAYERS: dict[str, Callable[[Callable[..., Any], int], Tensors]] = {
    "mamba": _mamba,
    "jamba": _jamba,
    "lfm2": _lfm2,
    "falcon-h1": _falcon,
    "granitehybrid": _granite,
    "qwen3next": _qwen,
    "gemma3": _gemma3,
}
