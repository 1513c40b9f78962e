"""The bounds that a GGUF header must keep before llama.cpp sees the file.

llama.cpp ends its process, rather than reporting an error, for many values that a header can
hold: a block count of 0 or above 512, more experts used than there are, an unknown rope scaling.
`check` refuses those in Python. It looks at the header alone and does no I/O.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Sequence

from .errors import InvalidGGUF
from .gguf_types import ArrayInfo, Header, StringArray, Value

# llama.cpp, llama-hparams.h: LLAMA_MAX_LAYERS. Its experts' limit is 512 or more by version.
MAX_BLOCKS = 512
MAX_EXPERTS = 1024
MAX_CONTEXT = 1 << 24
MAX_EMBEDDING = 1 << 20
MAX_HEADS = 1 << 12
MAX_TOKEN = 1024
MAX_TEMPLATE = 256 << 10
ROPE_SCALINGS = frozenset({"none", "linear", "yarn", "longrope"})
# Written by converters where a model has no such token.
NO_TOKEN = 0xFFFF_FFFF
_BYTE_TYPE = 6
_BYTE_TOKEN = re.compile(rb"<0x[0-9A-Fa-f]{2}>")
_ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def check(header: Header, *, size: int, name: str) -> None:
    """Check a header against the safe bounds.

    Args:
        header: as `read_header` gave it, with arrays: items of arrays that it left out are not
            looked at.
        size: of the whole file in bytes.
        name: what messages call the file.

    Raises:
        InvalidGGUF: with the first bound that is broken.
    """
    reason = _layout(header, size) or _general(header) or _vocabulary(header)
    if reason is None and header.kind == "model":
        reason = _hyperparameters(header)
    if reason:
        raise InvalidGGUF(name, reason)


def _layout(header: Header, size: int) -> str | None:
    if not header.tensors:
        return None
    last = header.tensors[-1]
    end = header.data_offset + last.offset + last.size
    if end > size:
        return f"it is cut short: tensor {last.name} ends at byte {end} of {size}"
    if size > end + 2 * header.alignment:
        return f"{size - end} bytes follow the last tensor"
    return None


def _general(header: Header) -> str | None:
    if not _ARCHITECTURE.fullmatch(header.architecture):
        return "general.architecture is absent or malformed"
    template = header.text("tokenizer.chat_template") or ""
    if len(template) > MAX_TEMPLATE:
        return f"its chat template is longer than {MAX_TEMPLATE >> 10} KiB"
    return _split(header)


def _split(header: Header) -> str | None:
    count, number = header.number("split.count", 0), header.number("split.no", 0)
    if count == 0 and number == 0:
        return None
    if not 0 <= number < count:
        return f"it says that it is shard {number + 1} of {count}"
    return None


def _hyperparameters(header: Header) -> str | None:
    ranges = {
        "block_count": (1, MAX_BLOCKS),
        "context_length": (1, MAX_CONTEXT),
        "embedding_length": (1, MAX_EMBEDDING),
        "expert_count": (0, MAX_EXPERTS),
        "expert_used_count": (0, MAX_EXPERTS),
        "attention.key_length": (1, 1 << 16),
        "attention.value_length": (1, 1 << 16),
        "rope.dimension_count": (0, 1 << 16),
    }
    for key, (low, high) in ranges.items():
        reason = _in_range(header, key, low, high)
        if reason:
            return reason
    if _scalar(header.own("expert_used_count")) > _scalar(header.own("expert_count")):
        return "more experts are used than there are"
    reason = _floats(header)
    if reason:
        return reason
    scaling = header.own("rope.scaling.type")
    if scaling is not None and scaling not in ROPE_SCALINGS:
        return f"its rope scaling type is {str(scaling)[:40]!r}"
    return _heads(header)


def _in_range(header: Header, key: str, low: int, high: int) -> str | None:
    value = header.own(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        return f"{header.architecture}.{key} is not a whole number"
    if not low <= value <= high:
        return f"{header.architecture}.{key} is {value}, not from {low} to {high}"
    return None


def _floats(header: Header) -> str | None:
    """Every number of an architecture is finite; llama.cpp asserts that no epsilon is negative."""
    for key, value in header.metadata.items():
        if not isinstance(value, float) or not key.startswith(header.architecture + "."):
            continue
        if not math.isfinite(value) or (value < 0 and key.endswith("epsilon")):
            return f"{key} is {value}"
    return None


def _scalar(value: Value | None) -> int:
    return value if isinstance(value, int) else 0


def _heads(header: Header) -> str | None:
    """Head counts may be one number or one per layer, of which some are 0 (no attention)."""
    heads, groups = header.own("attention.head_count"), header.own("attention.head_count_kv")
    for key, value in (("head_count", heads), ("head_count_kv", groups)):
        numbers = _numbers(value)
        if numbers is None or not all(0 <= number <= MAX_HEADS for number in numbers):
            return f"{header.architecture}.attention.{key} is out of range"
    if isinstance(heads, int) and heads == 0:
        return _no_attention(header)
    per_layer, per_layer_kv = _numbers(heads) or (), _numbers(groups) or ()
    count = max(len(per_layer), len(per_layer_kv))
    for layer in range(count if per_layer and per_layer_kv else 0):
        num_heads = per_layer[layer if len(per_layer) > 1 else 0 :][:1]
        num_groups = per_layer_kv[layer if len(per_layer_kv) > 1 else 0 :][:1]
        if num_heads and num_groups and num_groups[0] and num_heads[0] % num_groups[0]:
            return f"{num_heads[0]} attention heads do not share {num_groups[0]} key-value heads"
    embedding = _scalar(header.own("embedding_length"))
    if header.own("attention.key_length") is None and any(
        number and embedding % number for number in per_layer
    ):
        return f"its embedding length {embedding} is no multiple of its head count"
    return None


def _no_attention(header: Header) -> str | None:
    """Recurrent models (Mamba, RWKV) say 0 heads; llama.cpp divides by it in all others."""
    prefix = header.architecture + "."
    recurrent = (f"{prefix}ssm.", f"{prefix}wkv.")
    if any(key.startswith(recurrent) for key in header.metadata):
        return None
    return "its attention head count is 0"


def _numbers(value: Value | None) -> Sequence[int] | None:
    if value is None:
        return ()
    if isinstance(value, int) and not isinstance(value, bool):
        return (value,)
    return value if isinstance(value, array) and value.typecode in "BbHhIiQq" else None


def _vocabulary(header: Header) -> str | None:
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    if tokens is None:
        return None
    if not isinstance(tokens, StringArray | ArrayInfo) or (
        isinstance(tokens, ArrayInfo) and tokens.type != "string"
    ):
        return "tokenizer.ggml.tokens is not a list of strings"
    count = len(tokens) if isinstance(tokens, StringArray) else tokens.count
    for key, types in (("scores", "fi"), ("token_type", "iI")):
        reason = _same_length(header, f"tokenizer.ggml.{key}", types, count)
        if reason:
            return reason
    if isinstance(tokens, StringArray) and tokens.longest > MAX_TOKEN:
        return f"a token is longer than {MAX_TOKEN} bytes"
    return _special_ids(header, count) or _byte_tokens(header, tokens)


def _same_length(header: Header, key: str, types: str, count: int) -> str | None:
    value = header.metadata.get(key)
    if value is None:
        return None
    if isinstance(value, array):
        if value.typecode not in types:
            return f"{key} has items of a wrong type"
        length = len(value)
    elif isinstance(value, ArrayInfo):
        length = value.count
    else:
        return f"{key} is not a list of numbers"
    return None if length == count else f"{key} has {length} items for {count} tokens"


def _special_ids(header: Header, count: int) -> str | None:
    for key, value in header.metadata.items():
        if key.startswith("tokenizer.ggml.") and key.endswith("_token_id"):
            if not isinstance(value, int) or isinstance(value, bool):
                return f"{key} is not a number"
            if value not in (-1, NO_TOKEN) and not 0 <= value < count:
                return f"{key} is {value}, but there are {count} tokens"
    return None


def _byte_tokens(header: Header, tokens: StringArray | ArrayInfo) -> str | None:
    """llama.cpp reads the number in a byte token with `stoi`, sign and all."""
    types = header.metadata.get("tokenizer.ggml.token_type")
    if not isinstance(tokens, StringArray) or not isinstance(types, array):
        return None
    for index, kind in enumerate(types):
        if kind == _BYTE_TYPE and not _BYTE_TOKEN.fullmatch(tokens.raw(index)):
            return f"byte token {tokens.raw(index)[:20]!r} is malformed"
    return None
