"""How much memory a model will take, from its header alone, and how much there is.

The sum is made before anything is loaded: weights as the file has them, cells exactly, work space
and tables generously. Checked: 8192 cells × 30 layers × 3 heads × 64 × 2 × 2 bytes = 180 MiB.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pannier.pkgmgr.gguf import Header

from .devices import Device
from .pictures import PICTURES_BUDGET
from .placement import GPU_RESERVE, ModelSizes, Placement, fits, place
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
_BLOCK = re.compile(r"blk\.(\d+)\.")
# Rows of a step that have logits.
_OUTPUTS = 40
# Bytes for states of sequences that had to leave the cells, and for checkpoints of models whose
# states cannot be cut (20 MB each for 3B parameters). They are wanted, not needed: of what a plan
# leaves no more than a quarter is theirs.
STATES_BUDGET = 1 << 30
CHECKPOINTS_BUDGET = 1 << 29
_COPIES_SHARE = 4
# Sequences at a time when nobody says.
DEFAULT_SEQUENCES = 16
# A recurrent model's running sequences and the finished ones that are kept: a whole state each.
RECURRENT_COPIES = 2

# Context of a model when nobody says: Ollama's for machines without a large GPU.
DEFAULT_CONTEXT = 4096
# Contexts that the cells are enough for when nobody says: streams seldom use all of theirs, and
# the scheduler makes room where they do.
DEFAULT_FULL_CONTEXTS = 4


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How a model is to be loaded. `num_ctx` per sequence; cells for `num_contexts` such.

    Attributes:
        weights: bytes of them, those on GPUs among them; so with `cells` and `work`.
        placement: what of it goes on which GPU.
        is_whole: whether all layers are on GPUs that are wanted there.
        is_on_gpus: whether all layers are.
        fits_gpus: whether what GPUs shall hold fits them.
        draft: how its draft model is loaded beside it; None where it goes without.
        copies: bytes that saved states and checkpoints may take beside all that.
    """

    num_ctx: int
    num_contexts: int
    weights: int
    cells: int
    work: int
    placement: Placement = field(default_factory=Placement)
    is_whole: bool = True
    is_on_gpus: bool = False
    fits_gpus: bool = True
    draft: MemoryPlan | None = None
    copies: int = 0

    @property
    def states_budget(self) -> int:
        """Bytes of `copies` for states of sequences; the rest is for checkpoints."""
        return min(STATES_BUDGET, self.copies * 2 // 3)

    @property
    def checkpoints_budget(self) -> int:
        """Bytes of `copies` for checkpoints."""
        return min(CHECKPOINTS_BUDGET, self.copies // 3)

    def with_copies(self, free: int) -> MemoryPlan:
        """The plan where so many bytes of main memory are free, with a part for copies of states.

        What other models may still take for theirs is not known; a quarter each leaves some.
        """
        left = max(0, free - self.in_main_memory)
        most = STATES_BUDGET + CHECKPOINTS_BUDGET
        return replace(self, copies=min(most, left // _COPIES_SHARE))

    @property
    def total(self) -> int:
        """Bytes in all."""
        own = self.weights + self.cells + self.work
        return own + (0 if self.draft is None else self.draft.total)

    @property
    def on_gpus(self) -> int:
        """Bytes on all GPUs."""
        own = sum(self.placement.on_gpus)
        return own + (0 if self.draft is None else self.draft.on_gpus)

    @property
    def shown_on_gpus(self) -> int:
        """As Ollama counts: all bytes where all layers are there, be the input table elsewhere."""
        return self.total if self.is_on_gpus else min(self.total, self.on_gpus)

    @property
    def in_main_memory(self) -> int:
        """Bytes that are not on cards of their own."""
        return self.total - (0 if self.placement.is_shared else self.on_gpus)

    def options(self, wanted: LoadOptions) -> LoadOptions:
        """The options that make the engine load as planned."""
        placed = self.placement
        if not placed.gpu_layers:
            # Where there are GPUs that are not to be used: no device at all.
            return replace(wanted, num_gpu=0, split_mode="none", main_gpu=-1, tensor_split=())
        split = () if wanted.split_mode == "none" else tuple(map(float, placed.counts))
        return replace(wanted, num_gpu=placed.gpu_layers, tensor_split=split)


def plan_memory(
    headers: Sequence[Header],
    options: LoadOptions,
    *,
    free: int,
    gpus: Sequence[Device] = (),
    reserve: int = GPU_RESERVE,
) -> MemoryPlan:
    """The plan for these options; what they leave open is made to fit.

    A shorter context is taken only where nothing else fits main memory; fewer full contexts also
    where all layers then fit the GPUs, and else they would not.

    Args:
        headers: of all weight files, the first one with the metadata.
        options: what was asked for.
        free: bytes of main memory; where nothing fits, the smallest plan comes back: compare.
        gpus: with what each has free.
        reserve: bytes of each GPU that are left alone.

    Raises:
        LoadError: the options name a GPU that is not there.
    """
    plans = []
    for num_ctx, contexts in _contexts(headers[0], options):
        sizes = model_sizes(headers, options, num_cells=num_ctx * contexts)
        plans.append(_plan(sizes, options, num_ctx, contexts, gpus=gpus, reserve=reserve))
        if plans[-1].in_main_memory <= free and (plans[-1].is_whole or not _is_open(options)):
            break
    possible = [plan for plan in plans if plan.in_main_memory <= free]
    if not possible:
        return plans[-1]
    longest = [plan for plan in possible if plan.num_ctx == possible[0].num_ctx]
    return next((plan for plan in longest if plan.is_whole), longest[0])


def _is_open(options: LoadOptions) -> bool:
    return options.num_gpu < 0


def _contexts(header: Header, options: LoadOptions) -> Iterator[tuple[int, int]]:
    """Lengths and numbers of contexts that the options allow, the most wanted first."""
    train = header.number(f"{header.architecture}.context_length", 0) or DEFAULT_CONTEXT
    num_ctx = min(options.num_ctx or DEFAULT_CONTEXT, train)
    contexts = options.num_parallel or DEFAULT_FULL_CONTEXTS
    while True:
        yield num_ctx, contexts
        if contexts > 1 and not options.num_parallel:
            contexts //= 2
        elif num_ctx > _MIN_CONTEXT and not options.num_ctx:
            num_ctx = max(_MIN_CONTEXT, num_ctx // 2)
        else:
            return


def _plan(
    sizes: ModelSizes,
    options: LoadOptions,
    num_ctx: int,
    contexts: int,
    *,
    gpus: Sequence[Device],
    reserve: int,
) -> MemoryPlan:
    num_cells = num_ctx * contexts
    placed = place(sizes, options, gpus, num_cells=num_cells, reserve=reserve)
    gpu_work = sizes.gpu_work * sum(map(bool, placed.counts))
    most = sizes.num_layers if options.num_gpu < 0 else min(options.num_gpu, sizes.num_layers)
    return MemoryPlan(
        num_ctx,
        contexts,
        sizes.weights + (sizes.tied if placed.gpu_layers else 0),
        sum(sizes.cells) * num_cells + sum(sizes.states),
        sizes.host_work + gpu_work + (sizes.output_work if placed.gpu_layers else 0),
        placed,
        is_whole=not gpus or placed.gpu_layers == most,
        is_on_gpus=placed.gpu_layers == sizes.num_layers,
        fits_gpus=fits(placed, gpus, reserve=reserve),
    )


def model_sizes(headers: Sequence[Header], options: LoadOptions, *, num_cells: int) -> ModelSizes:
    """What a model's parts take, from the headers of its files."""
    header = headers[0]
    weights: defaultdict[int, int] = defaultdict(int)
    others: defaultdict[str, int] = defaultdict(int)
    for part in headers:
        for tensor in part.tensors:
            if match := _BLOCK.match(tensor.name):
                weights[int(match[1])] += tensor.size
            else:
                others[tensor.name] += tensor.size
    table = sum(others.pop(name) for name in tuple(others) if name.startswith("token_embd."))
    tied = 0 if "output.weight" in others else table
    cells = cells_by_block(header, options.cache_type)
    count = max(len(cells), 1 + max(weights, default=-1))
    steps, logits = _step_bytes(header, options), _logits_bytes(header)
    return ModelSizes(
        blocks=tuple(weights[number] for number in range(count)),
        cells=(*cells, *[0] * (count - len(cells))),
        states=(_state_bytes(header, options),) * count,
        input=table,
        output=sum(others.values()) + tied,
        tied=tied,
        host_work=_PROCESS_BYTES + steps + logits,
        # A mask says for each row of a batch which cells it sees, in 32 bits and again in 16.
        gpu_work=steps + options.num_batch * num_cells * 6,
        output_work=logits // 2,
    )


def cells_by_block(header: Header, cache_type: str = "f16") -> tuple[int, ...]:
    """Bytes of keys and values that one token takes in each block."""
    name = header.architecture
    heads = max(1, _largest(header, f"{name}.attention.head_count"))
    width = header.number(f"{name}.embedding_length", 0)
    key = header.number(f"{name}.attention.key_length", 0) or width // heads
    value = header.number(f"{name}.attention.value_length", 0) or width // heads
    kv_heads = header.metadata.get(f"{name}.attention.head_count_kv")
    if isinstance(kv_heads, Sequence) and not isinstance(kv_heads, str):
        each = [number for number in kv_heads if isinstance(number, int)]
    else:
        blocks = header.number(f"{name}.block_count", 0)
        each = [kv_heads if isinstance(kv_heads, int) else heads] * blocks
    return tuple(round(number * (key + value) * _CELL_BYTES[cache_type]) for number in each)


def _state_bytes(header: Header, options: LoadOptions) -> int:
    """What a block of a recurrent model keeps for all sequences, in 32-bit floats."""
    name = f"{header.architecture}.ssm"
    inner, state = header.number(f"{name}.inner_size", 0), header.number(f"{name}.state_size", 0)
    groups, kernel = (
        header.number(f"{name}.group_count", 0),
        header.number(f"{name}.conv_kernel", 1),
    )
    sequences = RECURRENT_COPIES * (options.num_parallel or DEFAULT_SEQUENCES)
    return 4 * sequences * (inner * state + (kernel - 1) * (inner + 2 * groups * state))


def _step_bytes(header: Header, options: LoadOptions) -> int:
    """What comes and goes while a batch is computed."""
    name = header.architecture
    width = header.number(f"{name}.embedding_length", 0)
    feed_forward = _largest(header, f"{name}.feed_forward_length")
    return options.num_batch * (16 * width + 4 * feed_forward) * 4


def _logits_bytes(header: Header) -> int:
    """Logits of a step, and their copy."""
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    return _OUTPUTS * (len(tokens) if isinstance(tokens, Sequence) else 0) * 4 * 2


def projector_bytes(header: Header) -> int:
    """Bytes that a projector takes, with the images that are kept for it."""
    weights = sum(tensor.size for tensor in header.tensors)
    patch = max(1, header.number("clip.vision.patch_size", 0))
    patches = (header.number("clip.vision.image_size", 0) // patch) ** 2
    width = header.number("clip.vision.embedding_length", 0)
    feed_forward = header.number("clip.vision.feed_forward_length", 0)
    return weights + patches * (16 * width + 4 * feed_forward) * 4 + PICTURES_BUDGET


def available_memory(pinned: int = 0) -> int:
    """Bytes that this process and its children may still take: the machine's or the cgroup's.

    `pinned` bytes of files count as used: the weights of models that run. The kernel calls them
    available, since it could read them again.
    """
    free = _meminfo_available() - pinned
    limit = _read_number(_CGROUP / "memory.max")
    used = _read_number(_CGROUP / "memory.current")
    if limit is not None and used is not None:
        # Page cache counts as used but is given back on demand.
        reclaimable = _cgroup_file_cache()
        free = min(free, limit - used + reclaimable)
    return max(0, int(free * _SHARE))


def file_bytes_of(pid: int) -> int:
    """Bytes of files that a process has in memory; 0 where nobody can say."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssFile:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return 0


def _largest(header: Header, key: str) -> int:
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
