"""Loadable vision projectors of a few kB with random weights, and pictures to show to them.

`mlp` is LLaVA's form (causal, one position a cell), `gemma3` Gemma's (cells of an image see each
other both ways), `qwen2vl_merger` Qwen's (M-RoPE: cells of an image share one position and have two
coordinates each).
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

_WIDTH, _FEED_FORWARD, _HEADS, _BLOCKS = 32, 64, 2, 2


def tiny_projector(path: Path, width: int, *, kind: str = "mlp", seed: int = 1) -> Path:
    """Write a projector for a text model of embedding length `width`, and return `path`.

    An image has 16 cells with `mlp`, 4 with `gemma3`, with `qwen2vl_merger` one for each 4 x 4
    pixels.
    """
    import gguf

    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", kind)
    image, patch = {"mlp": (16, 4), "gemma3": (32, 4), "qwen2vl_merger": (32, 2)}[kind]
    for name, value in (
        ("image_size", image),
        ("patch_size", patch),
        ("embedding_length", _WIDTH),
        ("feed_forward_length", _FEED_FORWARD),
        ("block_count", _BLOCKS),
        ("projection_dim", width),
        ("attention.head_count", _HEADS),
    ):
        writer.add_uint32(f"clip.vision.{name}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    writer.add_bool("clip.use_gelu", True)
    _Tensors(writer, seed).write(kind, width, cells=(image // patch) ** 2, patch=patch)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class _Tensors:
    """Random matrices, ones for norms."""

    def __init__(self, writer: Any, seed: int) -> None:  # Any: gguf has no types
        import numpy

        self._numpy = numpy
        self._random = numpy.random.default_rng(seed)
        self._writer = writer

    def write(self, kind: str, width: int, *, cells: int, patch: int) -> None:
        """All tensors of a projector."""
        self._add("v.patch_embd.weight", _WIDTH, 3, patch, patch)
        if kind == "qwen2vl_merger":
            self._add("v.patch_embd.weight.1", _WIDTH, 3, patch, patch)
        else:
            self._add("v.position_embd.weight", cells, _WIDTH)
        self._norm("v.post_ln")
        for block in range(_BLOCKS):
            for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
                self._add(f"v.blk.{block}.{name}.weight", _WIDTH, _WIDTH)
                self._add(f"v.blk.{block}.{name}.bias", _WIDTH)
            self._norm(f"v.blk.{block}.ln1")
            self._norm(f"v.blk.{block}.ln2")
            self._add(f"v.blk.{block}.ffn_up.weight", _FEED_FORWARD, _WIDTH)
            self._add(f"v.blk.{block}.ffn_up.bias", _FEED_FORWARD)
            self._add(f"v.blk.{block}.ffn_down.weight", _WIDTH, _FEED_FORWARD)
            self._add(f"v.blk.{block}.ffn_down.bias", _WIDTH)
        if kind == "gemma3":
            self._add("mm.input_projection.weight", _WIDTH, width)
            self._ones("mm.soft_emb_norm.weight", _WIDTH)
            return
        inner = _WIDTH * 4 if kind == "qwen2vl_merger" else _WIDTH
        self._add("mm.0.weight", inner, inner)
        self._add("mm.0.bias", inner)
        self._add("mm.2.weight", width, inner)
        self._add("mm.2.bias", width)

    def _add(self, name: str, *shape: int) -> None:
        values = self._random.normal(0, 0.3, shape)
        self._writer.add_tensor(name, values.astype(self._numpy.float32))

    def _ones(self, name: str, size: int) -> None:
        self._writer.add_tensor(name, self._numpy.ones(size, self._numpy.float32))

    def _norm(self, name: str) -> None:
        self._ones(f"{name}.weight", _WIDTH)
        self._add(f"{name}.bias", _WIDTH)


def tiny_qwen2vl(path: Path, *, seed: int = 1) -> Path:
    """Write a text model with M-RoPE, of embedding length 64 with all bytes for a vocabulary."""
    import gguf
    import numpy

    random = numpy.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "qwen2vl")
    tokens = ["<unk>", "<s>", "</s>", "<|vision_start|>", "<|vision_end|>"]
    types = [2, 3, 3, 3, 3]
    tokens += [f"<0x{byte:02X}>" for byte in range(256)]
    types += [6] * 256
    writer.add_context_length(2048)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(128)
    writer.add_block_count(2)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_sections([4, 6, 6, 0])
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-1.0] * len(tokens))
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)

    def tensor(name: str, *shape: int) -> None:
        values = random.normal(0, 0.2, shape).astype(numpy.float32)
        writer.add_tensor(name, numpy.ones(shape, numpy.float32) if "norm.w" in name else values)

    tensor("token_embd.weight", len(tokens), 64)
    tensor("output_norm.weight", 64)
    tensor("output.weight", len(tokens), 64)
    for block in range(2):
        tensor(f"blk.{block}.attn_norm.weight", 64)
        for name in ("attn_q", "attn_k", "attn_v"):
            tensor(f"blk.{block}.{name}.weight", 64, 64)
            tensor(f"blk.{block}.{name}.bias", 64)
        tensor(f"blk.{block}.attn_output.weight", 64, 64)
        tensor(f"blk.{block}.ffn_norm.weight", 64)
        tensor(f"blk.{block}.ffn_gate.weight", 128, 64)
        tensor(f"blk.{block}.ffn_up.weight", 128, 64)
        tensor(f"blk.{block}.ffn_down.weight", 64, 128)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def png(width: int = 40, height: int = 24, *, seed: int = 0) -> bytes:
    """A PNG of a coloured pattern; another `seed` is another picture."""
    rows = b""
    for y in range(height):
        pixels = (
            ((x * 7 + seed * 91) % 256, (y * 11 + seed * 57) % 256, (x * y + seed * 31) % 256)
            for x in range(width)
        )
        rows += b"\0" + bytes(value for pixel in pixels for value in pixel)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
