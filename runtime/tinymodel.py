"""A llama model of about 60 kB with noise for weights, as GGUF v3 bytes: what a canary sings.

Its matrices are Q4_0, in shapes that take the fast kernels of each CPU (AMX, repacked), since
those are what a wrong build dies in. Written without numpy or the gguf package.
"""

from __future__ import annotations

import random
import struct

_ALIGNMENT = 32
_WIDTH, _FEED_FORWARD, _HEADS = 64, 128, 2
_UINT32, _FLOAT32, _STRING, _ARRAY, _INT32 = 4, 6, 8, 9, 5
_F32, _Q4_0 = 0, 2
_BLOCK = 32
_NORMAL, _CONTROL, _BYTE = 1, 3, 6


def tiny_model() -> bytes:
    """The file; the same bytes each time."""
    noise = random.Random(1)
    tensors = [(name, shape, _data(noise, shape)) for name, shape in _shapes()]
    head = _metadata()
    infos, data = b"", b""
    for name, shape, content in tensors:
        kind = _F32 if len(shape) == 1 else _Q4_0
        infos += _text(name) + struct.pack("<I", len(shape))
        infos += b"".join(struct.pack("<Q", size) for size in shape)
        infos += struct.pack("<IQ", kind, len(data))
        data += _padded(content)
    count = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(head))
    return _padded(count + b"".join(head) + infos) + data


def _shapes() -> list[tuple[str, tuple[int, ...]]]:
    vocabulary = len(_tokens())
    block = [
        ("attn_norm", (_WIDTH,)),
        ("attn_q", (_WIDTH, _WIDTH)),
        ("attn_k", (_WIDTH, _WIDTH)),
        ("attn_v", (_WIDTH, _WIDTH)),
        ("attn_output", (_WIDTH, _WIDTH)),
        ("ffn_norm", (_WIDTH,)),
        ("ffn_gate", (_WIDTH, _FEED_FORWARD)),
        ("ffn_up", (_WIDTH, _FEED_FORWARD)),
        ("ffn_down", (_FEED_FORWARD, _WIDTH)),
    ]
    return [
        ("token_embd.weight", (_WIDTH, vocabulary)),
        ("output_norm.weight", (_WIDTH,)),
        *((f"blk.0.{name}.weight", shape) for name, shape in block),
    ]


def _data(noise: random.Random, shape: tuple[int, ...]) -> bytes:
    if len(shape) == 1:
        return struct.pack("<f", 1.0) * shape[0]
    blocks = shape[0] * shape[1] // _BLOCK
    scale = struct.pack("<e", 0.01)
    return b"".join(scale + noise.randbytes(_BLOCK // 2) for _ in range(blocks))


def _tokens() -> list[tuple[str, int]]:
    """A SentencePiece vocabulary: three control tokens, all bytes, and fill up to 320."""
    special = [("<unk>", 2), ("<s>", _CONTROL), ("</s>", _CONTROL)]
    singles = [(f"<0x{byte:02X}>", _BYTE) for byte in range(256)]
    words = [(f"▁w{number}", _NORMAL) for number in range(61)]
    return [*special, *singles, *words]


def _metadata() -> list[bytes]:
    tokens = _tokens()
    return [
        _field("general.architecture", _STRING, _text("llama")),
        _field("general.name", _STRING, _text("canary")),
        *(
            _field(f"llama.{name}", _UINT32, struct.pack("<I", value))
            for name, value in (
                ("context_length", 256),
                ("embedding_length", _WIDTH),
                ("block_count", 1),
                ("feed_forward_length", _FEED_FORWARD),
                ("attention.head_count", _HEADS),
                ("rope.dimension_count", _WIDTH // _HEADS),
            )
        ),
        _field("llama.attention.layer_norm_rms_epsilon", _FLOAT32, struct.pack("<f", 1e-5)),
        _field("tokenizer.ggml.model", _STRING, _text("llama")),
        _array("tokenizer.ggml.tokens", _STRING, [_text(text) for text, _ in tokens]),
        _array("tokenizer.ggml.scores", _FLOAT32, [struct.pack("<f", -1.0)] * len(tokens)),
        _array("tokenizer.ggml.token_type", _INT32, [struct.pack("<i", k) for _, k in tokens]),
        _field("tokenizer.ggml.bos_token_id", _UINT32, struct.pack("<I", 1)),
        _field("tokenizer.ggml.eos_token_id", _UINT32, struct.pack("<I", 2)),
    ]


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def _field(key: str, kind: int, value: bytes) -> bytes:
    return _text(key) + struct.pack("<I", kind) + value


def _array(key: str, kind: int, values: list[bytes]) -> bytes:
    return _field(key, _ARRAY, struct.pack("<IQ", kind, len(values)) + b"".join(values))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGNMENT)
