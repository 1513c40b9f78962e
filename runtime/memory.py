"""How much memory a model will take, from its header alone, and how much there is.

The sum is made before anything is loaded: weights as the file has them, cells exactly, work space
and tables generously. Checked: 8192 cells × 30 layers × 3 heads × 64 × 2 × 2 bytes = 180 MiB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pannier.pkgmgr.gguf import Header

from .request import LoadOptions

# Bytes per value of the types that cells may have: q8_0 is 34 bytes for 32 values.
_CELL_BYTES = {"f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}
# An interpreter with the library, its graphs and the token table.
_PROCESS_BYTES = 96 << 20
# What stays free for everybody else, as a share of what is available.
_SHARE = 0.95
_MIN_CONTEXT = 512
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")

# Context of a model when nobody says: Ollama's for machines without a large GPU.
DEFAULT_CONTEXT = 4096
# Contexts that the cells are enough for when nobody says: streams seldom use all of theirs, and
# the scheduler makes room where they do.
DEFAULT_FULL_CONTEXTS = 4


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How a model is to be loaded. `num_ctx` per sequence; cells for `num_contexts` such."""

    num_ctx: int
    num_contexts: int
    weights: int
    cells: int
    work: int

    @property
    def total(self) -> int:
        """Bytes in all."""
        return self.weights + self.cells + self.work


def plan_memory(headers: Sequence[Header], options: LoadOptions, *, free: int) -> MemoryPlan:
    """The plan for these options; what they leave open is made to fit `free` bytes.

    Where nothing fits, the smallest plan that the options allow comes back: compare its total.
    """
    header = headers[0]
    train = header.number(f"{header.architecture}.context_length", 0) or DEFAULT_CONTEXT
    num_ctx = min(options.num_ctx or DEFAULT_CONTEXT, train)
    num_contexts = options.num_parallel or DEFAULT_FULL_CONTEXTS
    weights = sum(tensor.size for part in headers for tensor in part.tensors)
    per_cell = cell_bytes(header, options.cache_type)
    work = _work_bytes(header, options)

    def plan() -> MemoryPlan:
        return MemoryPlan(num_ctx, num_contexts, weights, num_ctx * num_contexts * per_cell, work)

    while plan().total > free:
        if num_contexts > 1 and not options.num_parallel:
            num_contexts //= 2
        elif num_ctx > _MIN_CONTEXT and not options.num_ctx:
            num_ctx = max(_MIN_CONTEXT, num_ctx // 2)
        else:
            break
    return plan()


def cell_bytes(header: Header, cache_type: str = "f16") -> int:
    """Bytes of keys and values that one token takes, all layers together."""
    name = header.architecture
    heads = max(1, _first(header, f"{name}.attention.head_count"))
    width = header.number(f"{name}.embedding_length", 0)
    key = header.number(f"{name}.attention.key_length", 0) or width // heads
    value = header.number(f"{name}.attention.value_length", 0) or width // heads
    blocks = header.number(f"{name}.block_count", 0)
    kv_heads = header.metadata.get(f"{name}.attention.head_count_kv")
    if isinstance(kv_heads, Sequence) and not isinstance(kv_heads, str):
        total_heads = sum(number for number in kv_heads if isinstance(number, int))
    else:
        total_heads = blocks * (kv_heads if isinstance(kv_heads, int) else heads)
    return round(total_heads * (key + value) * _CELL_BYTES[cache_type])


def available_memory() -> int:
    """Bytes that this process and its children may still take: the machine's or the cgroup's."""
    free = _meminfo_available()
    limit = _read_number(_CGROUP / "memory.max")
    used = _read_number(_CGROUP / "memory.current")
    if limit is not None and used is not None:
        # Page cache counts as used but is given back on demand.
        reclaimable = _cgroup_file_cache()
        free = min(free, limit - used + reclaimable)
    return max(0, int(free * _SHARE))


def _work_bytes(header: Header, options: LoadOptions) -> int:
    name = header.architecture
    width = header.number(f"{name}.embedding_length", 0)
    feed_forward = _first(header, f"{name}.feed_forward_length")
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    vocabulary = len(tokens) if isinstance(tokens, Sequence) else 0
    rows = 40 * vocabulary * 4 * 2
    return _PROCESS_BYTES + options.num_batch * (16 * width + 4 * feed_forward) * 4 + rows


def _first(header: Header, key: str) -> int:
    """A number that some architectures give per layer: the largest."""
    value = header.metadata.get(key)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return max((number for number in value if isinstance(number, int)), default=0)
    return value if isinstance(value, int) else 0


def _meminfo_available() -> int:
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return 1 << 62


def _cgroup_file_cache() -> int:
    try:
        for line in (_CGROUP / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "inactive_file":
                return int(value)
    except (OSError, ValueError):
        pass
    return 0


def _read_number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
