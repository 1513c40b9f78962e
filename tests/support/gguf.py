"""GGUF files for tests: a tiny llama that llama.cpp loads and decodes, and raw bytes for odd files.

`tiny_llama` writes with the `gguf` package, so that the reader under test meets another
implementation's bytes. `raw` writes whatever it is told, right or wrong.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
WORDS = ("▁the", "▁a", "▁llama", "▁pack", "▁carries", "▁and", "▁is", "▁hello", "▁world", "▁")
# GGUF value types (GGUF v3, "gguf_metadata_value_type").
U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
_FORMATS = {
    U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q",
    I64: "q", F64: "d",
}  # fmt: skip


def tiny_llama(
    path: Path,
    *,
    name: str = "tiny",
    template: str | None = CHAT_TEMPLATE,
    blocks: int = 2,
    context: int = 512,
    seed: int = 1,
    metadata: Mapping[str, str | int | float | bool] | None = None,
    words: Sequence[str] = WORDS,
) -> Path:
    """Write a loadable llama model of about 130 kB with random weights; returns `path`.

    The vocabulary is a SentencePiece one: three control tokens, 256 bytes, ASCII, a few words.
    Any text can be tokenised. The same arguments give the same bytes.
    """
    writer = writer_of(path)
    tokens = add_vocabulary(writer, words)
    _describe(writer, name=name, template=template, blocks=blocks, context=context)
    _add_metadata(writer, metadata or {})
    _tensors(writer, blocks=blocks, vocabulary=tokens, seed=seed)
    return finish(writer, path)


def tiny_adapter(path: Path, *, rank: int = 2, seed: int = 2) -> Path:
    """Write a LoRA adapter that fits `tiny_llama`; returns `path`."""
    import numpy

    writer = writer_of(path)
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 4.0)
    random = numpy.random.default_rng(seed)
    for end, shape in (("lora_a", (rank, 32)), ("lora_b", (32, rank))):
        values = random.normal(0, 0.05, shape).astype(numpy.float32)
        writer.add_tensor(f"blk.0.attn_q.weight.{end}", values)
    return finish(writer, path)


def tiny_projector(path: Path) -> Path:
    """Write a header that says it is a vision projector (not loadable); returns `path`."""
    import numpy

    writer = writer_of(path, architecture="clip")
    writer.add_string("general.type", "mmproj")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", "mlp")
    writer.add_uint32("clip.vision.block_count", 1)
    writer.add_tensor("mm.0.weight", numpy.zeros((4, 4), numpy.float32))
    return finish(writer, path)


def tiny_shards(directory: Path, *, count: int = 3, stem: str = "tiny") -> list[Path]:
    """Write a loadable split model, `stem-00001-of-0000N.gguf`, in `directory`."""
    import numpy

    paths = [directory / f"{stem}-{i + 1:05d}-of-{count:05d}.gguf" for i in range(count)]
    tensors = list(_tensor_values(blocks=2, vocabulary=add_vocabulary(None), seed=1))
    for number, path in enumerate(paths):
        writer = writer_of(path)
        if number == 0:
            add_vocabulary(writer)
            _describe(writer, name=stem, template=CHAT_TEMPLATE, blocks=2, context=512)
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", count)
        writer.add_int32("split.tensors.count", len(tensors))
        for name, values in tensors[number::count]:
            writer.add_tensor(name, numpy.ascontiguousarray(values))
        finish(writer, path)
    return paths


def raw(
    entries: Iterable[tuple[str, int, Any]] = (),
    tensors: Iterable[tuple[str, Sequence[int], int, int]] = (),
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    kv_count: int | None = None,
    tensor_count: int | None = None,
    alignment: int = 32,
    data: int | None = None,
) -> bytes:
    """A GGUF byte by byte: `entries` are (key, type, value), `tensors` (name, dims, type, offset).

    An array value is (item type, items) or (item type, count, payload bytes). `data` is how many
    zero bytes follow the padded header, by default 4 per element of every tensor.
    """
    entries, tensors = list(entries), list(tensors)
    out = bytearray(magic + struct.pack("<I", version))
    out += struct.pack("<q", len(tensors) if tensor_count is None else tensor_count)
    out += struct.pack("<q", len(entries) if kv_count is None else kv_count)
    for key, kind, value in entries:
        out += _string(key) + struct.pack("<I", kind) + _value(kind, value)
    elements = 0
    for name, dims, kind, offset in tensors:
        out += _string(name) + struct.pack("<I", len(dims))
        out += b"".join(struct.pack("<Q", dim) for dim in dims) + struct.pack("<IQ", kind, offset)
        product = 1
        for dim in dims:
            product *= dim
        elements += product
    out += bytes(-len(out) % alignment)
    return bytes(out) + bytes(4 * elements if data is None else data)


def minimal(*extra: tuple[str, int, Any], **options: Any) -> bytes:
    """The smallest header that passes the checks, with `extra` entries after it."""
    entries = {key: (key, kind, value) for key, kind, value in _MINIMAL}
    entries.update({item[0]: item for item in extra})
    tensors = options.pop("tensors", [("token_embd.weight", (32, 4), 0, 0)])
    return raw(entries.values(), tensors, **options)


def hostile() -> dict[str, bytes]:
    """Files that must be refused, each under a name that says what is wrong with it."""
    tokens = [f"t{i}" for i in range(8)]
    big = 1 << 62
    files = {
        "empty file": b"",
        "four bytes": b"GGUF",
        "other magic": raw(magic=b"GGML"),
        "version 1": minimal(version=1),
        "version of the future": minimal(version=4),
        "big-endian": minimal(version=0x03000000),
        "huge key count": minimal(kv_count=big),
        "negative key count": minimal(kv_count=-1),
        "key count over the limit": minimal(kv_count=70_000, data=2 << 20),
        "huge tensor count": minimal(tensor_count=big),
        "negative tensor count": minimal(tensor_count=-1),
        "huge string": raw([("general.name", STRING, ("length", big))]),
        "huge array": minimal(("x.y", ARRAY, (U8, big, b""))),
        "huge string array": minimal(("x.y", ARRAY, (STRING, big, b""))),
        "array over its end": minimal(("x.y", ARRAY, (F64, 200, b"")), tensors=[], data=0),
        "array of arrays": minimal(("x.y", ARRAY, (ARRAY, 1, bytes(12)))),
        "array of unknown type": minimal(("x.y", ARRAY, (77, 1, bytes(8)))),
        "unknown value type": raw([("x.y", 77, b"")]),
        "string that is not UTF-8": minimal(("x.y", STRING, b"\xff\xfe")),
        "empty key": raw([("", U8, 1)]),
        "long key": raw([("k" * 300, U8, 1)]),
        "duplicate key": raw([("a.b", U8, 1), ("a.b", U8, 2)]),
        "key with a control character": raw([("a\n.b", U8, 1)]),
        "alignment zero": minimal(("general.alignment", U32, 0)),
        "alignment of three": minimal(("general.alignment", U32, 3)),
        "huge alignment": minimal(("general.alignment", U32, 1 << 30)),
        "alignment as text": minimal(("general.alignment", STRING, "32")),
        "no architecture": raw([("general.name", STRING, "x")], [("t", (4,), 0, 0)]),
        "architecture as number": minimal(("general.architecture", U32, 5)),
        "block_count 0": minimal(("llama.block_count", U32, 0)),
        "block_count 513": minimal(("llama.block_count", U32, 513)),
        "block_count as text": minimal(("llama.block_count", STRING, "2")),
        "expert_count 100000": minimal(("llama.expert_count", U32, 100_000)),
        "expert_used_count > expert_count": minimal(
            ("llama.expert_count", U32, 4), ("llama.expert_used_count", U32, 5)
        ),
        "unknown rope scaling": minimal(("llama.rope.scaling.type", STRING, "spiral")),
        "zero heads": minimal(("llama.attention.head_count", U32, 0)),
        "heads that do not divide": minimal(("llama.attention.head_count", U32, 5)),
        "kv heads that do not divide": minimal(("llama.attention.head_count_kv", U32, 3)),
        "negative epsilon": minimal(("llama.attention.layer_norm_rms_epsilon", F32, -1.0)),
        "epsilon that is no number": minimal(
            ("llama.attention.layer_norm_rms_epsilon", F32, float("nan"))
        ),
        "endless rope base": minimal(("llama.rope.freq_base", F32, float("inf"))),
        "huge context": minimal(("llama.context_length", U32, 1 << 30)),
        "template over the limit": minimal(("tokenizer.chat_template", STRING, "x" * (1 << 19))),
        "scores shorter than tokens": minimal(
            ("tokenizer.ggml.tokens", ARRAY, (STRING, tokens)),
            ("tokenizer.ggml.scores", ARRAY, (F32, [0.0] * 7)),
        ),
        "token types of another length": minimal(
            ("tokenizer.ggml.tokens", ARRAY, (STRING, tokens)),
            ("tokenizer.ggml.token_type", ARRAY, (I32, [1] * 9)),
        ),
        "scores of a wrong type": minimal(
            ("tokenizer.ggml.tokens", ARRAY, (STRING, tokens)),
            ("tokenizer.ggml.scores", ARRAY, (F64, [0.0] * 8)),
        ),
        "tokens that are numbers": minimal(("tokenizer.ggml.tokens", ARRAY, (U32, [1, 2]))),
        "special token out of range": minimal(
            ("tokenizer.ggml.tokens", ARRAY, (STRING, tokens)),
            ("tokenizer.ggml.bos_token_id", U32, 8),
        ),
        "signed byte token": minimal(
            ("tokenizer.ggml.tokens", ARRAY, (STRING, ["<0x-1>", *tokens[1:]])),
            ("tokenizer.ggml.token_type", ARRAY, (I32, [6] + [1] * 7)),
        ),
        "token over the limit": minimal(
            ("tokenizer.ggml.tokens", ARRAY, (STRING, ["x" * 2000, *tokens[1:]]))
        ),
        "split number out of range": minimal(
            ("split.no", U16, 3), ("split.count", U16, 3)
        ),
        "tensor of five dimensions": minimal(tensors=[("t", (1, 1, 1, 1, 1), 0, 0)]),
        "tensor dimension zero": minimal(tensors=[("t", (0, 4), 0, 0)]),
        "tensor dimensions that overflow": minimal(
            tensors=[("t", (1 << 31, 1 << 31, 4), 0, 0)], data=64
        ),
        "huge tensor dimension": minimal(tensors=[("t", (1 << 40,), 0, 0)], data=64),
        "tensor of unknown type": minimal(tensors=[("t", (32,), 99, 0)]),
        "tensor of a removed type": minimal(tensors=[("t", (32,), 4, 0)]),
        "tensor row that is no whole block": minimal(tensors=[("t", (31,), 8, 0)]),
        "tensor at a wrong offset": minimal(tensors=[("t", (32,), 0, 32)], data=256),
        "tensors that overlap": minimal(tensors=[("t", (32,), 0, 0), ("u", (32,), 0, 64)]),
        "tensor beyond the file": minimal(tensors=[("t", (32, 99), 0, 0)], data=128),
        "two tensors of one name": minimal(tensors=[("t", (32,), 0, 0), ("t", (32,), 0, 128)]),
        "tensor name too long": minimal(tensors=[("t" * 64, (32,), 0, 0)]),
        "bytes after the data": minimal(data=4096),
    }  # fmt: skip
    whole = minimal()
    files |= {f"cut at byte {n}": whole[:n] for n in (5, 12, 23, 24, 30, 60, len(whole) - 1)}
    return files


_MINIMAL: tuple[tuple[str, int, Any], ...] = (
    ("general.architecture", STRING, "llama"),
    ("llama.block_count", U32, 2),
    ("llama.context_length", U32, 128),
    ("llama.embedding_length", U32, 32),
    ("llama.attention.head_count", U32, 4),
    ("llama.attention.head_count_kv", U32, 2),
)


def _string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def _value(kind: int, value: Any) -> bytes:
    if kind == STRING:
        if isinstance(value, tuple):
            return struct.pack("<Q", value[1])
        return _string(value)
    if kind == ARRAY:
        item, *rest = value
        if len(rest) == 2:
            return struct.pack("<IQ", item, rest[0]) + bytes(rest[1])
        return struct.pack("<IQ", item, len(rest[0])) + b"".join(_value(item, x) for x in rest[0])
    if kind not in _FORMATS:
        return bytes(value)
    return struct.pack("<" + _FORMATS[kind], value)


def writer_of(path: Path, architecture: str = "llama") -> Any:
    """A writer that nothing has been written with."""
    import gguf

    return gguf.GGUFWriter(path, architecture)


def _describe(writer: Any, *, name: str, template: str | None, blocks: int, context: int) -> None:
    writer.add_name(name)
    writer.add_context_length(context)
    writer.add_embedding_length(32)
    writer.add_block_count(blocks)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(8)
    writer.add_file_type(0)
    if template is not None:
        writer.add_chat_template(template)


def add_vocabulary(writer: Any, words: Sequence[str] = WORDS) -> int:
    """Add the vocabulary that `tiny_llama` has, where there is a writer; returns its size."""
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    types = [2, 3, 3] + [6] * 256
    ascii_tokens = [chr(code) for code in range(33, 127)]
    tokens += [*ascii_tokens, *words]
    types += [1] * (len(ascii_tokens) + len(words))
    if writer is not None:
        writer.add_tokenizer_model("llama")
        writer.add_token_list(tokens)
        writer.add_token_scores([0.0] * 259 + [-float(i) for i in range(len(tokens) - 259)])
        writer.add_token_types(types)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)
        writer.add_add_bos_token(True)
    return len(tokens)


def _add_metadata(writer: Any, metadata: Mapping[str, str | int | float | bool]) -> None:
    for key, value in metadata.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        else:
            writer.add_string(key, value)


def _tensors(writer: Any, *, blocks: int, vocabulary: int, seed: int) -> None:
    for name, values in _tensor_values(blocks=blocks, vocabulary=vocabulary, seed=seed):
        writer.add_tensor(name, values)


def _tensor_values(*, blocks: int, vocabulary: int, seed: int) -> Iterable[tuple[str, Any]]:
    import numpy

    random = numpy.random.default_rng(seed)

    def matrix(*shape: int) -> Any:
        return random.normal(0, 0.3, shape).astype(numpy.float32)

    yield "token_embd.weight", matrix(vocabulary, 32)
    for block in range(blocks):
        yield f"blk.{block}.attn_norm.weight", numpy.ones(32, numpy.float32)
        yield f"blk.{block}.attn_q.weight", matrix(32, 32)
        yield f"blk.{block}.attn_k.weight", matrix(16, 32)
        yield f"blk.{block}.attn_v.weight", matrix(16, 32)
        yield f"blk.{block}.attn_output.weight", matrix(32, 32)
        yield f"blk.{block}.ffn_norm.weight", numpy.ones(32, numpy.float32)
        yield f"blk.{block}.ffn_gate.weight", matrix(64, 32)
        yield f"blk.{block}.ffn_up.weight", matrix(64, 32)
        yield f"blk.{block}.ffn_down.weight", matrix(32, 64)
    yield "output_norm.weight", numpy.ones(32, numpy.float32)
    yield "output.weight", matrix(vocabulary, 32)


def finish(writer: Any, path: Path) -> Path:
    """Write what the writer was given; returns `path`."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
