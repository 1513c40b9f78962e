"""A loadable BERT encoder of 100 kB with random weights, with or without a head for ranking."""

from __future__ import annotations

from pathlib import Path

_WIDTH, _FEED_FORWARD, _CONTEXT = 32, 64, 64
_MEAN, _RANK = 1, 4
_WORDS = ("a", "cat", "dog", "sat", "on", "the", "mat", "apple", "pie", "is", "good", "llama")


def tiny_bert(path: Path, *, ranks: bool = False, seed: int = 1) -> Path:
    """Write it and return `path`; its vocabulary is a dozen words and the alphabet."""
    import gguf
    import numpy

    random = numpy.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "bert")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"▁{word}" for word in _WORDS)]
    tokens += [f"▁{letter}" for letter in "bcdefghijklmnopqrstuvwxyz"]
    tokens += list("abcdefghijklmnopqrstuvwxyz")
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(_WIDTH)
    writer.add_feed_forward_length(_FEED_FORWARD)
    writer.add_block_count(1)
    writer.add_head_count(2)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_uint32("bert.pooling_type", _RANK if ranks else _MEAN)
    writer.add_tokenizer_model("bert")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 4 + [1] * (len(tokens) - 4))
    writer.add_token_type_count(2)
    writer.add_unk_token_id(1)
    writer.add_sep_token_id(3)
    writer.add_pad_token_id(0)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(3)

    def tensor(name: str, *shape: int) -> None:
        values = random.normal(0, 0.3, shape).astype(numpy.float32)
        writer.add_tensor(name, numpy.ones(shape, numpy.float32) if "norm.w" in name else values)

    tensor("token_embd.weight", len(tokens), _WIDTH)
    tensor("token_types.weight", 2, _WIDTH)
    tensor("position_embd.weight", _CONTEXT, _WIDTH)
    for name in ("token_embd_norm", "blk.0.attn_output_norm", "blk.0.layer_output_norm"):
        tensor(f"{name}.weight", _WIDTH)
        tensor(f"{name}.bias", _WIDTH)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        tensor(f"blk.0.{name}.weight", _WIDTH, _WIDTH)
        tensor(f"blk.0.{name}.bias", _WIDTH)
    tensor("blk.0.ffn_up.weight", _FEED_FORWARD, _WIDTH)
    tensor("blk.0.ffn_up.bias", _FEED_FORWARD)
    tensor("blk.0.ffn_down.weight", _WIDTH, _FEED_FORWARD)
    tensor("blk.0.ffn_down.bias", _WIDTH)
    if ranks:
        tensor("cls.weight", _WIDTH, _WIDTH)
        tensor("cls.bias", _WIDTH)
        tensor("cls.output.weight", 1, _WIDTH)
        tensor("cls.output.bias", 1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
